"""Train a recipe with several seeds: mean ± std on the test split, and differences of variants.

A student is trained without and with distillation, a downstream recipe with each value of `load`.
The variants of a seed see the same shapes in the same order, so they are compared in pairs. What
they share (teacher, generator, pre-training) is trained once.
"""

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import in_words, logger
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError
from pointcmt.training.config.downstream import LOADS, DownstreamConfig
from pointcmt.training.config.pointcmt import (
    STAGE_INPUTS,
    PipelineConfig,
    StudentConfig,
    distilled,
)
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.boxes import DetectionReport
from pointcmt.training.evaluation.classes import require_testable
from pointcmt.training.evaluation.evaluate import Evaluation, evaluate
from pointcmt.training.evaluation.scenes import SceneReport
from pointcmt.training.loop import train
from pointcmt.training.ops.detection.scores import mean_counted_precision
from pointcmt.training.ops.semantic import Confusion
from pointcmt.training.ops.statistics import (
    Difference,
    paired_difference,
    paired_sum_difference,
    spread,
)
from pointcmt.training.pipeline import STUDENT, check_later_stages, name_stage, stages
from pointcmt.training.runs.checkpoint import write_file
from pointcmt.training.runs.distributed import join_processes
from pointcmt.training.runs.folder import CHECKPOINTS
from pointcmt.training.session import check_session

VANILLA, DISTILLED = "vanilla", "distilled"
FILE = "study.json"


@dataclass(frozen=True)
class Study:
    """The results of all seeds.

    reports: by variant and checkpoint, one for each seed. The first variant is the baseline.
    """

    recipe: str
    seeds: tuple[int, ...]
    reports: dict[tuple[str, str], list[Evaluation]]

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return next(iter(self.reports))[0]

    @cached_property
    def differences(self) -> dict[tuple[str, str], Difference]:
        """The first measure of each variant minus that of the baseline, by checkpoint."""
        return {
            (variant, which): _difference(reports, self.reports[self.baseline, which])
            for (variant, which), reports in self.reports.items()
            if variant != self.baseline
        }

    def as_json(self) -> dict[str, Any]:
        """Return the object that `train --seeds … --json` prints."""
        rows = [
            {
                "variant": variant,
                "checkpoint": which,
                **_measures(reports),
                "mean_std": {name: spread(values) for name, values in _measures(reports).items()},
            }
            for (variant, which), reports in self.reports.items()
        ]
        gains = [
            {"variant": variant, "minus": self.baseline, "checkpoint": which, **asdict(difference)}
            for (variant, which), difference in self.differences.items()
        ]
        about = {"recipe": self.recipe, "seeds": list(self.seeds)}
        return {**about, "results": rows, "differences": gains}

    def describe(self) -> str:
        """Return the numbers as text."""
        count = next(iter(self.reports.values()))[0].shapes
        lines = [f"{self.recipe}, seeds {', '.join(map(str, self.seeds))}, {count:,} test shapes"]
        for (variant, which), reports in self.reports.items():
            measures = [
                f"{in_words(name)} {_plus_minus(spread(values), len(values))}"
                for name, values in _measures(reports).items()
            ]
            lines.append(f"  {variant:<10} {which:<5}  " + "   ".join(measures))
        for (variant, which), d in self.differences.items():
            lines.append(
                f"  {variant} - {self.baseline}, {which}: {100 * d.mean:+.2f} ± {100 * d.std:.2f} "
                f"points, 95 % interval {100 * d.low:+.2f} … {100 * d.high:+.2f} (bootstrap over "
                "seeds and shapes)"
            )
        return "\n".join(lines)


def study(
    store: StoreReader,
    config: TrainConfig | PipelineConfig,
    seeds: tuple[int, ...],
    out: Path,
    device: str = "auto",
) -> Study | None:
    """Train and evaluate a recipe with each of the seeds; write OUT/study.json. Resumes.

    Under torchrun all processes train, and the main one evaluates; the others return None.

    The runs are in OUT/seed-K/VARIANT. A pipeline's teacher and generator (OUT/teacher, OUT/cmpg)
    are trained once, with their own seeds. All runs and the test split are checked before the first
    trains. Raises like `train` and `evaluate`.
    """
    earlier: list[tuple[str, TrainConfig]] = []
    if isinstance(config, PipelineConfig):
        *earlier, (_, last) = stages(config, out)
    else:
        last = config
    if not last.classifies:
        raise UsageError(
            f"runs of the recipe '{last.recipe}' predict no classes and cannot be compared",
            where="--seeds",
            fix="use --seeds with pointcmt, teacher, student, finetune, partseg, semseg or detect",
        )
    accelerator, compute_device = join_processes(device)
    naming = partial(name_stage, STUDENT, last) if earlier else nullcontext
    require_testable(store, last)
    check_later_stages(store, earlier, out, device, last.epochs)
    for variant, settings in variants(last.model_copy(update={"seed": seeds[0]})).items():
        with naming():
            folder = out / f"seed-{seeds[0]}" / variant
            check_session(store, settings, folder, accelerator, STAGE_INPUTS if earlier else ())
    for recipe, stage in earlier:
        logger.info(f"{recipe}: {out / recipe}")
        with name_stage(recipe, stage):
            train(store, stage, out / recipe, device)
    reports: dict[tuple[str, str], list[Evaluation]] = {}
    for seed in seeds:
        for variant, settings in variants(last.model_copy(update={"seed": seed})).items():
            folder = out / f"seed-{seed}" / variant
            logger.info(f"seed {seed}, {variant}: {folder}")
            with naming():
                train(store, settings, folder, device)
            for which in CHECKPOINTS if accelerator.is_main_process else ():
                report = evaluate(folder, store, "test", which, 1, str(compute_device))
                reports.setdefault((variant, which), []).append(report)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    result = Study(config.recipe, seeds, reports)
    write_file(out / FILE, (json.dumps(result.as_json(), indent=1) + "\n").encode())
    return result


def variants(config: TrainConfig) -> dict[str, TrainConfig]:
    """Return the configurations to train with each seed, by folder; the first is the baseline."""
    if isinstance(config, StudentConfig):
        vanilla = config.model_copy(update={"teacher": "", "generator": ""})
        return {VANILLA: vanilla, DISTILLED: config} if distilled(config) else {VANILLA: vanilla}
    if isinstance(config, DownstreamConfig):
        loads = LOADS if config.init else LOADS[:1]
        return {load: config.model_copy(update={"load": load}) for load in loads}
    return {config.recipe: config}


def _difference(ours: list[Any], theirs: list[Any]) -> Difference:
    """Compare the first measure of two variants. ours, theirs: reports, one for each seed."""
    if isinstance(ours[0], SceneReport | DetectionReport):
        a, b = (np.array([report.counts for report in reports]) for reports in (ours, theirs))
        detects = isinstance(ours[0], DetectionReport)
        return paired_sum_difference(a, b, mean_counted_precision if detects else _miou)
    a, b = (np.array([report.scores for report in reports]) for reports in (ours, theirs))
    return paired_difference(a, b)  # of scores [S, n]


def _miou(total: NDArray[np.int64]) -> float:
    return Confusion(total).miou


def _measures(reports: list[Evaluation]) -> dict[str, list[float]]:
    """Return each measure's values, one for each seed."""
    return {name: [r.measures[name] for r in reports] for name in reports[0].measures}


def _plus_minus(mean_std: tuple[float, float], runs: int) -> str:
    return f"{mean_std[0]:7.2%}" + (f" ± {mean_std[1]:6.2%}" if runs > 1 else " (one seed)")
