"""`pointcmt export`: a view store as images, cameras and points, or a network as one file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pointcmt.commands.options import (
    SOME_FAILED,
    Json,
    LogFormat,
    Trust,
    allow,
    is_url,
    path_of,
    require_folder,
    resumable,
    start_logging,
)
from pointcmt.console import show, show_text
from pointcmt.errors import UsageError, nearest
from pointcmt.extras import needs

STORE_FORMATS = ("png", "nerfstudio", "colmap", "ply")
RUN_FORMATS = ("safetensors", "onnx")


def export(
    source: Annotated[str, typer.Argument(help="A view store (a folder, a zip file or a URL), or a run's folder.", show_default=False)],
    to: Annotated[str, typer.Option(help="Stores: png (with transforms.json), nerfstudio, colmap, ply (points). Runs: safetensors (weights), onnx (networks of points, for any runtime).")],
    out: Annotated[Path, typer.Option(help="Stores: a folder, made or continued. Runs: the file to write; an earlier export is replaced.", **path_of("--out"))],
    checkpoint: Annotated[str | None, typer.Option(help="Runs: best on validation, last, or a kept epoch's number; best if absent.", show_default=False)] = None,
    split: Annotated[str | None, typer.Option(help="Stores: only train, test or val.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stores: at most this many shapes, class by class in turn.")] = None,
    shape: Annotated[list[str] | None, typer.Option(metavar="ID", help="Stores: only this shape; may be repeated.", show_default=False)] = None,
    text: Annotated[bool, typer.Option("--text", help="colmap: the model as text instead of binary.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Stores: threads; 0 = one per core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another export, and files that no export wrote, too.")] = False,
    trust: Trust = None,
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Export a view store for other programs, or a trained network as one file."""
    _check_format(source, to)
    for_stores = {"--split": split, "--limit": limit, "--shape": shape, "--workers": workers}
    if to in RUN_FORMATS:
        _refuse(to, {**for_stores, "--text": text}, "view stores")
        _export_run(Path(source), to, out, checkpoint or "best", overwrite, trust, as_json)
        return
    _refuse(to, {"--checkpoint": checkpoint, "--trust": trust}, "runs")
    if to != "colmap":
        _refuse(to, {"--text": text}, "colmap")
    start_logging(log_format)
    from pointcmt.datasets.export.job import export_store
    from pointcmt.datasets.selection import Selection
    from pointcmt.datasets.store.view_store import ViewStore

    selection = Selection(split, shape or None, limit)
    store = ViewStore.open(source)
    with resumable():
        done = export_store(
            store, to, out, selection, text=text, workers=workers, overwrite=overwrite
        )
    for failure in done.failures:
        show("failed", failure.id, failure.reason, failure.detail)
    _show_counts(done.as_json())
    if as_json:
        print(json.dumps(done.as_json()))
    raise typer.Exit(SOME_FAILED if done.failures else 0)


def _show_counts(facts: dict[str, Any]) -> None:
    text = f"{facts['out']}: {facts['done']} of {facts['planned']} shapes as {facts['to']}"
    text += f", {facts['skipped']} of them were there already" if facts["skipped"] else ""
    text += f", {facts['failed']} failed" if facts["failed"] else ""
    if facts["pending"]:
        text += f", {facts['pending']} not rendered yet: run this again when they are"
    show(text)


def _export_run(
    run: Path,
    to: str,
    out: Path,
    checkpoint: str,
    overwrite: bool,
    trust: list[str] | None,
    as_json: bool,
) -> None:
    """Export a trained network, checked against torch before it is written."""
    require_folder(out, "--out")
    allow(trust)
    with needs("export" if to == "onnx" else "train"):
        from pointcmt.training.export.networks import export as write

        exported = write(run, to, out, checkpoint, overwrite)
    show_text(exported.describe())
    if as_json:
        print(json.dumps(exported.as_json()))


def _check_format(source: str, to: str) -> None:
    """Raise UsageError for an unknown format, or one that is not for what is at `source`."""
    path = Path(source)
    is_store = is_url(path) or path.suffix.lower() == ".zip" or (path / "zarr.json").exists()
    is_run = not is_store and (path / "run.json").exists()
    if to not in (*STORE_FORMATS, *RUN_FORMATS):
        known = STORE_FORMATS if is_store else RUN_FORMATS if is_run else ()
        fix = nearest(to, known or (*STORE_FORMATS, *RUN_FORMATS))
        raise UsageError(f"unknown format '{to}'", where="--to", fix=fix)
    if is_store and to in RUN_FORMATS:
        raise UsageError(
            f"the format {to} only applies to runs; this is a view store",
            where=source,
            fix="pass the folder of a run (the --out of `pointcmt train`), or export --to png, "
            "nerfstudio, colmap or ply",
        )
    if is_run and to in STORE_FORMATS:
        raise UsageError(
            f"the format {to} only applies to view stores; this is a run",
            where=source,
            fix="export it --to safetensors or onnx, or pass a view store",
        )


def _refuse(to: str, given: dict[str, Any], kind: str) -> None:
    """Raise UsageError for an option that this format does not have."""
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} only applies to {kind}, not to the format {to}",
                where=option,
                fix="leave it out",
            )
