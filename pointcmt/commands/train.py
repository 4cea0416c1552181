"""`pointcmt train`: train networks from a view store."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from pointcmt.commands.options import (
    Device,
    Json,
    LogFormat,
    Trust,
    allow,
    path_of,
    require_folder,
    resumable,
    start_logging,
)
from pointcmt.console import hide_messages, show_text
from pointcmt.errors import StoreError, UsageError
from pointcmt.extras import needs

if TYPE_CHECKING:
    from pointcmt.training.config.pointcmt import PipelineConfig
    from pointcmt.training.config.sections import TrainConfig


class TrainCommand(TyperCommand):
    """Show the keys of all configurations below the options of --help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from pointcmt.training.config.printed import describe_keys

        formatter.write(describe_keys())


def train(
    recipe: Annotated[str, typer.Argument(help="pointcmt (teacher, cmpg and student, in this order), one of these three, mvnet, crosspoint, finetune, partseg, semseg, detect, or your own as module:name.")] = "pointcmt",
    data: Annotated[list[str] | None, typer.Option(metavar="STORE", help="Required. The view store to train on: a folder or a URL. Repeat it to train on several, rendered with the same settings.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Required. The run's folder, created or continued.", show_default=False, **path_of("--out"))] = None,
    config: Annotated[str | None, typer.Option(metavar="FILE|NAME", help="A YAML file (./mine, mine.yaml), or the name of a packaged configuration (student-toy).")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value of the configuration: optimizer.clip_norm=1.0")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the resolved configuration, with a comment on each key, and exit.")] = False,
    init: Annotated[Path | None, typer.Option(help="A run or a published checkpoint to start from; of a whole recipe, the stage that fits.", **path_of("--init"))] = None,
    teacher: Annotated[Path | None, typer.Option(help="For cmpg and student: the teacher's run.", **path_of("--teacher"))] = None,
    generator: Annotated[Path | None, typer.Option(help="For student: the generator's run.", **path_of("--generator"))] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Fail unless there is a run to resume. (Runs are always resumed; without this option, a new one may be started.)")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; overrides the configuration.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Random seeds, such as 0,1,2: train once per seed, and report mean ± std and paired differences of variants.")] = None,
    features: Annotated[str | None, typer.Option(help="Where to keep image features if the store is read-only: a folder or a URL.")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile", help="Use torch.compile.")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision: fp32 or bf16 (autocast).")] = None,
    trust: Trust = None,
    device: Device = "auto",
    log_format: LogFormat = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train networks from a view store; running it again resumes where it stopped."""
    is_helper = os.environ.get("RANK", "0") != "0"  # of several processes, only the first reports
    if is_helper:
        hide_messages()
    else:
        start_logging(log_format)
    allow(trust, recipe, *(text.partition("=")[2].strip() for text in set_ or ()))
    runs = {"init": init, "teacher": teacher, "generator": generator}
    inputs = {key: str(path) for key, path in runs.items() if path}
    flags = {"epochs": epochs, "seed": seed, "loop.compile": compile_, "loop.precision": precision}
    if print_config:
        from pointcmt.training.config.printed import commented_yaml

        show_text(commented_yaml(_resolve(recipe, config, set_ or [], inputs, flags)).rstrip())
        return
    if not data or out is None:
        missing = [flag for flag, given in (("--data", data), ("--out", out)) if not given]
        raise UsageError(
            f"training needs {' and '.join(missing)}",
            fix="run `pointcmt train --data STORE --out RUN`",
        )
    require_folder(out, "--out")
    if resume:
        _require_run(out)
    chosen = _seeds(seeds, seed)
    settings = _resolve(recipe, config, set_ or [], inputs, flags)

    from pointcmt.datasets.enclosing import require_outside
    from pointcmt.datasets.joint import open_stores

    if features is not None:
        require_outside(features, out)
    store = open_stores(data, features)
    store.require_complete()
    with needs("train"), resumable():
        from pointcmt.training.commands import train_command

        told = train_command(store, settings, chosen, out, device)
    if not is_helper:
        show_text(told.text)
        if as_json:
            print(json.dumps(told.facts))


def _resolve(
    recipe: str,
    config: str | None,
    overrides: list[str],
    inputs: dict[str, str],
    flags: dict[str, Any],
) -> "TrainConfig | PipelineConfig":
    """Return the configuration that `train`'s options select. inputs: runs to start from."""
    from pointcmt.training.config.files import load_config, load_pipeline
    from pointcmt.training.config.pointcmt import PIPELINE

    if recipe != PIPELINE:
        return load_config(recipe, config, overrides, **inputs, **flags)
    if inputs:
        raise UsageError(
            "the recipe 'pointcmt' trains its own teacher and generator",
            where="--init, --teacher, --generator",
            fix="run a single recipe: `pointcmt train student …`; or set the option of one "
            "stage: --set student.init=RUN",
        )
    return load_pipeline(config, overrides, **flags)


def _require_run(out: Path) -> None:
    """Raise StoreError if there is nothing to resume: neither a run nor a folder of runs."""
    if not any(path for level in ("", "*/", "*/*/") for path in out.glob(f"{level}run.json")):
        raise StoreError(
            "there is no run to resume here",
            where=str(out),
            fix="correct --out, or leave out --resume to start a new run",
        )


def _seeds(text: str | None, seed: int | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**63 or len(set(seeds)) < len(seeds):
        raise UsageError(
            f"'{text}' is not a list of seeds",
            where="--seeds",
            fix="use different integers of 0 or more, such as 0,1,2,3,4",
        )
    if seed is not None:
        raise UsageError("--seed and --seeds cannot be combined", where="--seed, --seeds")
    return seeds
