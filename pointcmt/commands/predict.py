"""`pointcmt predict`: classes, parts, classes of points or boxes, with a trained run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import (
    SOME_FAILED,
    Device,
    Json,
    LogFormat,
    Textures,
    Trust,
    allow,
    path_of,
    require_folder,
    start_logging,
)
from pointcmt.console import show_text
from pointcmt.extras import needs

SHOWN = 20  # predictions that are printed if all of them are written into files


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder; a whole recipe's means its student.", show_default=False, **path_of("RUN"))],
    targets: Annotated[list[str] | None, typer.Argument(help="What to predict: view stores, files of meshes or clouds, folders of them; with or without classes. For a run on scenes: scans in meters.", metavar="TARGET...", show_default=False)] = None,
    data: Annotated[list[str] | None, typer.Option(metavar="STORE", help="A view store: one more TARGET; may be repeated.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for predictions.csv, .json and .png (for parts also labels and colored PLY files, for scenes .npz and colored PLY files, for boxes PLY files and pictures of frames); or one .csv, .json or .png file.", show_default=False, **path_of("--out"))] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of stores: train, test or val. Default: all rendered shapes.")] = None,
    class_name: Annotated[str | None, typer.Option(help="The class of all shapes. Part segmentation needs a class; default: that of the store or the folder.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint: best (on validation), last, or the number of a kept epoch.")] = "best",
    votes: Annotated[int, typer.Option(min=1, help="Predictions to average per shape.")] = 1,
    top: Annotated[int, typer.Option(min=0, help="Classes to name for each shape; 0 = all.")] = 3,
    up: Annotated[str | None, typer.Option(help="Up axis of the files: x, y or z. Default: y; of scans z.", show_default=False)] = None,
    textures: Textures = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Boxes have a higher score than this. Default: 0.3.", show_default=False)] = None,
    layout: Annotated[str | None, typer.Option(metavar="LAYOUT", help="Also write files for benchmarks, into OUT/LAYOUT: scannet (classes of points, for ScanNet's meshes or a store of them); votenet or mmdet3d (boxes, for a store of ScanNet or SUN RGB-D).", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace any existing files, not only earlier predictions.")] = False,
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Predict classes with scores, parts, classes of a scene's points, or boxes, of stores, files or folders; exit code 3 if some cannot be read."""
    start_logging(log_format)
    allow(trust)
    if out is not None:
        require_folder(out, "--out")
    with needs("train"):
        from pointcmt.api.prediction import predict as predict_all

        found = predict_all(
            run,
            *(targets or ()),
            *(data or ()),
            split=split,
            class_name=class_name,
            checkpoint=checkpoint,
            votes=votes,
            top=top,
            up=up,
            textures=textures,
            min_score=min_score,
            layout=layout,
            out=out,
            overwrite=overwrite,
            device=device,
        )
    show_text(found.describe(None if out is None else SHOWN))
    if as_json:
        print(json.dumps(found.as_json()))
    if found.failures:
        raise typer.Exit(SOME_FAILED if len(found) else 1)
