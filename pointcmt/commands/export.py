"""`pointcmt export`: export a trained network as one file."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import Json, Trust, allow, is_url, path_of, require_folder
from pointcmt.console import show_text
from pointcmt.errors import UsageError
from pointcmt.extras import needs

STORE_FORMATS = ("png", "webdataset")


def export(
    source: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="safetensors (weights) or onnx (a student, for any runtime).")
    ],
    out: Annotated[
        Path,
        typer.Option(help="The file to write; an earlier export is replaced.", **path_of("--out")),
    ],
    checkpoint: Annotated[
        str, typer.Option(help="best on validation, last, or a kept epoch's number.")
    ] = "best",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that no export wrote, too.")
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Export a trained network as one file, checked against torch before it is written."""
    require_folder(out, "--out")
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
            f"a view store cannot be exported to {to} yet",
            where=str(source),
            fix="read it with pointcmt.datasets.store.ViewStore or any zarr v3 reader, docs/store.md",
        )
    if to in STORE_FORMATS:
        raise UsageError(
            f"{to} is for view stores, and this is none",
            where=str(source),
            fix="export a run --to safetensors or onnx",
        )
    if is_store:
        raise UsageError(
            f"{to} is for trained runs, and this is a view store",
            where=str(source),
            fix="give the folder of a `pointcmt train --out`",
        )
