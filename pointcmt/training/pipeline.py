"""`pointcmt train`: PointCMT's three stages in order, each a run of its own below one folder.

OUT/teacher → OUT/cmpg → OUT/student. A finished stage is reused, an interrupted one goes on.
"""

from pathlib import Path

from pointcmt.console import say
from pointcmt.datasets.store import ViewStore
from pointcmt.training.config import PipelineConfig, StudentConfig, TrainConfig
from pointcmt.training.loop import Result, train

TEACHER, GENERATOR, STUDENT = "teacher", "cmpg", "student"  # folders, named after their recipes


def train_pipeline(
    store: ViewStore,
    config: PipelineConfig,
    out: Path,
    device: str = "auto",
    log_format: str = "auto",
) -> dict[str, Result]:
    """Train all three stages; returns how each stands, by recipe. Raises as `loop.train`."""
    student = student_config(config, out)
    stages: list[tuple[str, TrainConfig]] = [
        (TEACHER, config.teacher),
        (GENERATOR, config.cmpg.model_copy(update={"teacher": str(out / TEACHER)})),
        (STUDENT, student),
    ]
    if not needs_generator(student):
        del stages[1]
    results = {}
    for number, (folder, stage) in enumerate(stages, 1):
        say(f"stage {number} of {len(stages)}: {stage.recipe}, in {out / folder}", log_format)
        results[stage.recipe] = train(store, stage, out / folder, device, log_format)
    return results


def student_config(config: PipelineConfig, out: Path) -> StudentConfig:
    """The student's configuration with the earlier stages' folders filled in."""
    student = config.student.model_copy(update={"teacher": str(out / TEACHER)})
    if needs_generator(student):
        student = student.model_copy(update={"generator": str(out / GENERATOR)})
    return student


def needs_generator(config: StudentConfig) -> bool:
    """Whether this student's loss compares generated clouds."""
    return config.distillation.method == "pointcmt" and bool(config.distillation.feature.weight)
