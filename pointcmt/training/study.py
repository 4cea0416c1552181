"""A recipe with several seeds: mean ± std on the test split, and what distillation gains.

Teacher and generator are trained once, students once per seed; a distilled student is paired with
the vanilla student of the same seed, which sees the same shapes in the same order.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import say
from pointcmt.datasets.store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.training.checkpoint import write_file
from pointcmt.training.config import PipelineConfig, StudentConfig, distilled
from pointcmt.training.config_sections import TrainConfig
from pointcmt.training.evaluate import Report, evaluate
from pointcmt.training.loop import train
from pointcmt.training.pipeline import stages
from pointcmt.training.processes import join_processes
from pointcmt.training.run import CHECKPOINTS
from pointcmt.training.statistics import Difference, paired_difference, spread

VANILLA, DISTILLED = "vanilla", "distilled"
FILE = "study.json"


@dataclass(frozen=True)
class Study:
    """reports: by variant and checkpoint, one of each seed. differences: by checkpoint."""

    recipe: str
    seeds: tuple[int, ...]
    reports: dict[tuple[str, str], list[Report]]
    differences: dict[str, Difference]

    def as_json(self) -> dict[str, Any]:
        """The object that `train --seeds … --json` prints."""
        rows = []
        for (variant, which), reports in self.reports.items():
            overall, by_class = _accuracies(reports)
            rows.append(
                {
                    "variant": variant,
                    "checkpoint": which,
                    "overall_accuracy": overall,
                    "mean_class_accuracy": by_class,
                    "overall_mean_std": spread(overall),
                    "class_mean_std": spread(by_class),
                }
            )
        gains = {which: asdict(difference) for which, difference in self.differences.items()}
        return {
            "recipe": self.recipe,
            "seeds": list(self.seeds),
            "results": rows,
            "distilled_minus_vanilla": gains,
        }

    def describe(self) -> str:
        """The numbers for people."""
        count = next(iter(self.reports.values()))[0].shapes
        lines = [f"{self.recipe}, seeds {', '.join(map(str, self.seeds))}, {count:,} test shapes"]
        for (variant, which), reports in self.reports.items():
            overall, by_class = (spread(values) for values in _accuracies(reports))
            lines.append(
                f"  {variant:<10} {which:<5}  overall {_plus_minus(overall, len(reports))}   "
                f"mean class {_plus_minus(by_class, len(reports))}"
            )
        for which, d in self.differences.items():
            lines.append(
                f"  distilled - vanilla, {which}: {100 * d.mean:+.2f} ± {100 * d.std:.2f} points, "
                f"95 % interval {100 * d.low:+.2f} … {100 * d.high:+.2f} (seeds and shapes redrawn)"
            )
        return "\n".join(lines)


def study(
    store: ViewStore,
    config: TrainConfig | PipelineConfig,
    seeds: tuple[int, ...],
    out: Path,
    device: str = "auto",
    log_format: str = "auto",
) -> Study | None:
    """Train and evaluate a recipe with each of the seeds; writes OUT/study.json. Resumes.

    Under torchrun all processes train, and the main one evaluates; the others get None.

    Runs lie in OUT/seed-K/VARIANT. A pipeline's teacher and generator (OUT/teacher, OUT/cmpg) are
    trained once, with their own seeds. Raises as `train` and `evaluate`.
    """
    if isinstance(config, PipelineConfig):
        *earlier, (_, one) = stages(config, out)
        for recipe, stage in earlier:
            say(f"{recipe}: {out / recipe}", log_format)
            train(store, stage, out / recipe, device, log_format)
    else:
        one = config
    if not one.classifies:
        raise UsageError(
            f"a run of the recipe '{one.recipe}' classifies nothing that could be compared",
            where="--seeds",
            fix="give seeds to pointcmt, teacher or student",
        )
    accelerator, on = join_processes(device)
    reports: dict[tuple[str, str], list[Report]] = {}
    correct: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    for seed in seeds:
        for variant, settings in _variants(_seeded(one, seed)).items():
            folder = out / f"seed-{seed}" / variant
            say(f"seed {seed}, {variant}: {folder}", log_format)
            train(store, settings, folder, device, log_format)
            for which in CHECKPOINTS if accelerator.is_main_process else ():
                report = evaluate(folder, store, "test", which, 1, str(on), log_format)
                reports.setdefault((variant, which), []).append(report)
                correct.setdefault((variant, which), []).append(report.correct)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    differences = {
        which: paired_difference(
            np.array(correct[DISTILLED, which]), np.array(correct[VANILLA, which])
        )
        for which in CHECKPOINTS
        if (DISTILLED, which) in correct
    }
    found = Study(config.recipe, seeds, reports, differences)
    write_file(out / FILE, (json.dumps(found.as_json(), indent=1) + "\n").encode())
    return found


def _plus_minus(mean_std: tuple[float, float], runs: int) -> str:
    return f"{mean_std[0]:7.2%}" + (f" ± {mean_std[1]:6.2%}" if runs > 1 else " (one seed)")


def _variants(config: TrainConfig) -> dict[str, TrainConfig]:
    """What is trained with each seed, by the folder's name."""
    if not isinstance(config, StudentConfig):
        return {config.recipe: config}
    vanilla = config.model_copy(update={"teacher": "", "generator": ""})
    return {VANILLA: vanilla, DISTILLED: config} if distilled(config) else {VANILLA: vanilla}


def _seeded(config: TrainConfig, seed: int) -> Any:
    return config.model_copy(update={"seed": seed})


def _accuracies(reports: list[Report]) -> tuple[list[float], list[float]]:
    return [r.overall_accuracy for r in reports], [r.mean_class_accuracy for r in reports]
