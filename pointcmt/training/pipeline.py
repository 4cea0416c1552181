"""`pointcmt train`: PointCMT's three stages in order, each a run of its own in one folder.

OUT/teacher → OUT/cmpg → OUT/student. A finished stage is reused, an interrupted one resumes.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pointcmt.console import logger
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.files import flatten
from pointcmt.training.config.pointcmt import STAGE_INPUTS, PipelineConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.loop import Result, train
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.distributed import join_processes
from pointcmt.training.runs.folder import LAST, open_run
from pointcmt.training.session import check_session

TEACHER, GENERATOR, STUDENT = "teacher", "cmpg", "student"  # folders, named like their recipes


def train_pipeline(
    store: StoreReader,
    config: PipelineConfig,
    out: Path,
    device: str = "auto",
) -> dict[str, Result]:
    """Train all three stages; return their results by recipe.

    All stages are checked before the first one trains. Raises like `loop.train`; errors name the
    keys of a stage as the whole recipe does.
    """
    results = {}
    pipeline = stages(config, out)
    check_later_stages(store, pipeline, out, device, config.student.epochs)
    for number, (recipe, stage) in enumerate(pipeline, 1):
        logger.info(f"stage {number} of {len(pipeline)}: {recipe}, in {out / recipe}")
        with name_stage(recipe, stage):
            results[recipe] = train(store, stage, out / recipe, device)
    return results


def check_later_stages(
    store: StoreReader,
    pipeline: list[tuple[str, TrainConfig]],
    out: Path,
    device: str,
    epochs: int,
) -> None:
    """Check all stages but the first, which `train` checks. Raises what they would raise.

    epochs: of the student, which may not be among the stages.
    """
    _require_same_teachers(pipeline, out, epochs)
    accelerator, _ = join_processes(device)
    for recipe, stage in pipeline[1:]:
        with name_stage(recipe, stage):
            check_session(store, stage, out / recipe, accelerator, STAGE_INPUTS)


def _require_same_teachers(pipeline: list[tuple[str, TrainConfig]], out: Path, epochs: int) -> None:
    """Raise UsageError for more epochs of a stage that a later run has learned from already."""
    begun = {name: folder for name, _ in pipeline if _is_begun(folder := out / name)}
    seeds = [folder for folder in sorted(out.glob("seed-*/*")) if _is_begun(folder)]
    for number, (recipe, stage) in enumerate(pipeline):
        later = [begun[name] for name, _ in pipeline[number + 1 :] if name in begun] + seeds
        if recipe in begun and later and stage.epochs > open_run(begun[recipe]).config.epochs:
            kept = [f"--set {n}.epochs={open_run(f).config.epochs}" for n, f in begun.items()]
            earlier = " ".join(word for word in kept if not word.startswith("--set student."))
            raise UsageError(
                f"more epochs of the {recipe} would change what later stages have learned from it",
                where=f"{later[0]}",
                fix="add these to the command, to continue the student alone: "
                f"{earlier} --set student.epochs={epochs}; or choose another --out",
            )


def _is_begun(folder: Path) -> bool:
    return checkpoint.read_scalars(folder / LAST) is not None


@contextmanager
def name_stage(stage: str, config: TrainConfig) -> Iterator[None]:
    """Let errors name the keys of one stage as the whole recipe does: `teacher.data.points`."""
    try:
        yield
    except PointcmtError as error:
        keys = flatten(config.model_dump(mode="json"))
        dotted = "|".join(re.escape(key) for key in keys if "." in key)
        own = re.compile(rf"(?<![\w.])({dotted})(?!\w|\.\w)")
        error.what, error.fix = (own.sub(rf"{stage}.\1", text) for text in (error.what, error.fix))
        whole = f"{stage}.{error.where}"
        error.where = whole if error.where in keys else own.sub(rf"{stage}.\1", error.where)
        raise


def stages(config: PipelineConfig, out: Path) -> list[tuple[str, TrainConfig]]:
    """Return recipe and configuration of each stage, in order; its folder is OUT/recipe.

    A student whose loss does not compare generated clouds needs no generator.
    """
    distillation = config.student.distillation
    generates = distillation.method == "pointcmt" and bool(distillation.feature.weight)
    inputs = {"teacher": str(out / TEACHER)}
    cmpg = config.cmpg.model_copy(update=inputs)
    if generates:
        inputs["generator"] = str(out / GENERATOR)
    student = config.student.model_copy(update=inputs)
    middle = [(GENERATOR, cmpg)] if generates else []
    return [(TEACHER, config.teacher), *middle, (STUDENT, student)]
