"""`pointcmt train`: PointCMT's three stages in order, each a run of its own in one folder.

OUT/teacher → OUT/cmpg → OUT/student. A finished stage is reused, an interrupted one resumes.
"""

from pathlib import Path

from pointcmt.console import logger
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.pointcmt import PipelineConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.loop import Result, train

TEACHER, GENERATOR, STUDENT = "teacher", "cmpg", "student"  # folders, named like their recipes


def train_pipeline(
    store: ViewStore,
    config: PipelineConfig,
    out: Path,
    device: str = "auto",
) -> dict[str, Result]:
    """Train all three stages; return their results by recipe. Raises like `loop.train`."""
    results = {}
    pipeline = stages(config, out)
    for number, (recipe, stage) in enumerate(pipeline, 1):
        logger.info(f"stage {number} of {len(pipeline)}: {recipe}, in {out / recipe}")
        results[recipe] = train(store, stage, out / recipe, device)
    return results


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
