"""The commands of training: parse, call one function, print."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.cli_options import (
    Device,
    Json,
    LogFormat,
    Trust,
    allow,
    check_log_format,
    is_url,
    needs,
    path_of,
    require_folder,
    resumable,
)
from pointcmt.console import SILENT, show_text
from pointcmt.errors import StoreError, UsageError

STORE_FORMATS = ("png", "webdataset")


def train(
    data: Annotated[str, typer.Option(help="The view store to train on: a folder or a URL.")],
    out: Annotated[Path, typer.Option(help="The run's folder: made, or continued.", **path_of("--out"))],
    recipe: Annotated[str, typer.Argument(help="pointcmt (teacher, cmpg, student, one after the other), one of these three, mvnet, finetune, partseg, or your own as module:name.")] = "pointcmt",
    config: Annotated[Path | None, typer.Option(help="A YAML file; see configs/.", **path_of("--config"))] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One knob: optimizer.clip_norm=1.0")] = None,
    init: Annotated[Path | None, typer.Option(help="A run, or a published checkpoint, to start from.", **path_of("--init"))] = None,
    teacher: Annotated[Path | None, typer.Option(help="cmpg, student: the teacher's run.", **path_of("--teacher"))] = None,
    generator: Annotated[Path | None, typer.Option(help="student: the generator's run.", **path_of("--generator"))] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Only go on with what is there. (Without it, too, a run goes on; or it begins.)")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the configuration.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several, as 0,1,2: mean ± std, and paired differences of variants.")] = None,
    features: Annotated[str | None, typer.Option(help="A place for image features, if the store must not be written to: a folder or a URL.")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Use torch.compile.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train networks from a view store; running it again goes on where it stopped."""
    check_log_format(log_format)
    allow(trust, recipe, *(text.partition("=")[2].strip() for text in set_ or ()))
    require_folder(out, "--out")
    from pointcmt.training.config import PIPELINE
    from pointcmt.training.config_files import load_config, load_pipeline

    runs = {"init": init, "teacher": teacher, "generator": generator}
    flags = {
        **{key: str(path) for key, path in runs.items() if path},
        "epochs": epochs,
        "seed": seed,
        "loop.compile": compile_,
        "loop.precision": precision,
    }
    if resume:
        _require_run(out)
    chosen = _seeds(seeds, seed)
    whole = recipe == PIPELINE
    if whole and any(runs.values()):
        raise UsageError(
            "the recipe pointcmt trains its teacher and generator itself",
            where="--init, --teacher, --generator",
            fix="name the recipe they are for: `pointcmt train student …`; or, for one stage, --set "
            "student.init=RUN",
        )
    settings = (
        load_pipeline(config, set_ or (), **flags)
        if whole
        else load_config(recipe, config, set_ or (), **flags)
    )

    from pointcmt.datasets.enclosing import require_outside
    from pointcmt.datasets.store import ViewStore

    if features is not None:
        require_outside(features, out)
    store, helper = ViewStore.open(data, features=features), os.environ.get("RANK", "0") != "0"
    store.require_complete()
    log_format = SILENT if helper else log_format
    with needs("train"), resumable(log_format):
        from pointcmt.training.commands import train_command

        told = train_command(store, settings, chosen, out, device, log_format)
    if not helper:
        show_text(told.text)
        if as_json:
            print(json.dumps(told.facts))


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.", **path_of("RUN"))],
    data: Annotated[str, typer.Option(help="The view store to evaluate on: a folder or a URL.")],
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    checkpoint: Annotated[str, typer.Option(help="best on validation, or last.")] = "best",
    votes: Annotated[int, typer.Option(min=1, help="Predictions averaged per shape.")] = 1,
    probe: Annotated[str, typer.Option(help="svm: of a point network's frozen features.")] = "",
    few_shot: Annotated[str, typer.Option(help="The same with few labels: 5w10s, or 5w10s,10w20s.")] = "",
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Accuracy (of parts: mIoU) of a run, overall and per class, with a picture; or probes."""
    check_log_format(log_format)
    allow(trust)
    if probe or few_shot:
        _check_probe(probe, split, votes)
    from pointcmt.datasets.store import ViewStore

    store = ViewStore.open(data)
    store.require_complete()
    if probe or few_shot:
        with needs("train"):
            from pointcmt.training.commands import probe_command

            told = probe_command(run, store, bool(probe), few_shot, checkpoint, device, log_format)
        show_text(told.text)
        if as_json:
            print(json.dumps(told.facts))
        return
    with needs("train"):
        from pointcmt.training.evaluate import evaluate as judge

        report = judge(run, store, split, checkpoint, votes, device, log_format)
    show_text(report.describe())
    if as_json:
        print(json.dumps(report.as_json()))


def export(
    source: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="safetensors (weights) or onnx (a student, for any runtime).")
    ],
    out: Annotated[Path, typer.Option(help="The file to write; an earlier export is replaced.")],
    checkpoint: Annotated[
        str, typer.Option(help="best on validation, last, or a kept epoch's number.")
    ] = "best",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that no export wrote, too.")
    ] = False,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """A trained network as one file, checked against torch before it is written."""
    _check_export(source, to)
    allow(trust)
    with needs("export" if to == "onnx" else "train"):
        from pointcmt.training.export import export as write

        exported = write(source, to, out, checkpoint, overwrite)
    show_text(exported.describe())
    if as_json:
        print(json.dumps(exported.as_json()))


def _check_probe(probe: str, split: str, votes: int) -> None:
    """Raise UsageError for a probe that there is not, or options that have no part in one."""
    if probe not in ("", "svm"):
        raise UsageError(f"no probe is called '{probe}'", where="--probe", fix="known: svm")
    if split != "test" or votes != 1:
        raise UsageError(
            "probes learn from the train split and are judged on the test split, without votes",
            where="--split, --votes",
            fix="leave these out, or --probe and --few-shot",
        )


def _check_export(source: Path, to: str) -> None:
    """Raise UsageError where this format is not one of what is at `source`."""
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


def _require_run(out: Path) -> None:
    """Raise StoreError where there is nothing to go on with: neither a run nor a folder of runs."""
    if not any(path for level in ("", "*/", "*/*/") for path in out.glob(f"{level}run.json")):
        raise StoreError(
            "there is no run to go on with here",
            where=str(out),
            fix="correct --out, or leave --resume out to begin one",
        )


def _seeds(text: str | None, seed: int | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**63 or len(set(seeds)) < len(seeds):
        raise UsageError(f"'{text}' is no list of seeds", where="--seeds", fix="such as 0,1,2,3,4")
    if seed is not None:
        raise UsageError("give either one seed or several", where="--seed, --seeds")
    return seeds
