"""`pointcmt export`: export a trained network as one file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import Json, Trust, allow, is_url, needs
from pointcmt.console import show_text
from pointcmt.errors import UsageError

STORE_FORMATS = ("png", "webdataset")


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run's folder; a whole recipe's means its student.", show_default=False
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="Format: safetensors (weights) or onnx (a student, for any ONNX runtime)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write; replaces an earlier export.")],
    checkpoint: Annotated[
        str,
        typer.Option(help="Checkpoint: best (on validation), last, or the number of a kept epoch."),
    ] = "best",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace any existing file, not only an earlier export."),
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Export a trained network as one file, checked against torch before it is written."""
    _check_export(source, to)
    allow(trust)
    with needs("export" if to == "onnx" else "train"):
        from pointcmt.training.export.networks import export as write

        exported = write(source, to, out, checkpoint, overwrite)
    show_text(exported.describe())
    if as_json:
        print(json.dumps(exported.as_json()))


def _check_export(source: Path, to: str) -> None:
    """Raise UsageError if what is at `source` cannot be exported in this format."""
    is_store = is_url(source) or (source / "zarr.json").exists()
    if to in STORE_FORMATS and is_store:
        raise UsageError(
            f"exporting a view store to {to} is not supported yet",
            where=str(source),
            fix="read it with pointcmt.open_store or any zarr v3 reader (docs/store.md)",
        )
    if to in STORE_FORMATS:
        raise UsageError(
            f"the format {to} only applies to view stores; this is not a view store",
            where=str(source),
            fix="export a run --to safetensors or onnx",
        )
    if is_store:
        raise UsageError(
            f"the format {to} only applies to runs; this is a view store",
            where=str(source),
            fix="pass the folder of a run (the --out of `pointcmt train`)",
        )
