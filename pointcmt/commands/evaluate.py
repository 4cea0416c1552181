"""`pointcmt evaluate`: evaluate a run, or probes on its frozen features."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointcmt.commands.options import (
    Device,
    Json,
    LogFormat,
    Trust,
    allow,
    path_of,
    start_logging,
)
from pointcmt.console import show_text
from pointcmt.errors import UsageError
from pointcmt.extras import needs

if TYPE_CHECKING:
    from pointcmt.training.evaluation.evaluate import Evaluation


def evaluate(
    run: Annotated[list[Path], typer.Argument(help="A run's folder; a whole recipe's means its student. Several: folds of S3DIS, each tested on the area that it held out, as one score. Or a file of published weights.", **path_of("RUN"))],
    data: Annotated[list[str], typer.Option(metavar="STORE", help="The view store to evaluate on: a folder or a URL; may be repeated.")],
    split: Annotated[str, typer.Option(help="Split to evaluate on: test, val or train.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="Checkpoint: best (on validation) or last.")] = "best",
    votes: Annotated[int, typer.Option(min=1, help="Predictions to average per shape; of scenes, these scores are printed beside those without.")] = 1,
    probe: Annotated[str, typer.Option(help="svm: train a linear SVM on a point network's frozen features.")] = "",
    few_shot: Annotated[str, typer.Option(help="The same with few labels, as N-way K-shot tasks: 5w10s, or 5w10s,10w20s; 5w10s8q tests on 8 shapes of each class in place of 20.")] = "",
    backbone: Annotated[str, typer.Option(help="Of a file of weights: the network, such as pointnet2-ssg. Default: found by its tensors.")] = "",
    points: Annotated[int | None, typer.Option(min=1, help="Of a file of weights: points per shape. Default: 1024, or 2048 for parts.")] = None,
    frame: Annotated[str, typer.Option(metavar="UP,CENTER,SCALE", help="Of a file of weights: how it takes the points, such as y,centroid,farthest. Default: as the store's benchmark says.")] = "",
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Evaluate a run: accuracy or mIoU, overall and per class, with figures; or probes."""
    start_logging(log_format)
    allow(trust)
    if probe or few_shot:
        _check_probe(probe, split, votes)
    if len(run) > 1 and (probe or few_shot or split != "test"):
        raise UsageError(
            "several runs are only evaluated as folds of S3DIS, on the areas that they held out",
            where="--split, --probe, --few-shot",
            fix="leave these out, or pass a single run",
        )
    if len(run) > 1 or not run[0].is_file():
        _refuse_for_runs({"--backbone": backbone, "--points": points, "--frame": frame})
    from pointcmt.datasets.joint import open_stores

    store = open_stores(data)
    store.require_complete()
    if probe or few_shot:
        with needs("train"):
            from pointcmt.training.commands import probe_command

            told = probe_command(run[0], store, bool(probe), few_shot, checkpoint, device)
        show_text(told.text)
        if as_json:
            print(json.dumps(told.facts))
        return
    with needs("train"):
        from pointcmt.training.evaluation.evaluate import evaluate as judge
        from pointcmt.training.evaluation.folds import FoldReport, evaluate_folds
        from pointcmt.training.evaluation.published import file_options

        report: Evaluation | FoldReport
        if len(run) > 1:
            report = evaluate_folds(run, store, checkpoint, votes, device)
        else:
            file = file_options(backbone, points, frame)
            report = judge(run[0], store, split, checkpoint, votes, device, file)
    show_text(report.describe())
    if as_json:
        print(json.dumps(report.as_json()))


def _refuse_for_runs(given: dict[str, str | int | None]) -> None:
    """Raise UsageError for options that a run decides by itself."""
    for flag, value in given.items():
        if value:
            raise UsageError(
                "this option is for files of weights; a run says itself how it was trained",
                where=flag,
                fix="leave it out, or pass a file in place of the run",
            )


def _check_probe(probe: str, split: str, votes: int) -> None:
    """Raise UsageError for an unknown probe, or for options that probes do not use."""
    if probe not in ("", "svm"):
        raise UsageError(f"unknown probe '{probe}'", where="--probe", fix="known: svm")
    if split != "test" or votes != 1:
        raise UsageError(
            "probes are always trained on the train split and evaluated on the test split, "
            "without votes",
            where="--split, --votes",
            fix="leave out either these or --probe and --few-shot",
        )
