"""Cross-validation on S3DIS: several runs, each tested on the area that it held out, as one score.

The confusion matrices are added up before any score is taken, as in Pointcept's
test_s3dis_6fold.py. A mean of the areas' scores is another number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.scenes import Drawn, SceneReport
from pointcmt.training.runs.facts import each_store
from pointcmt.training.runs.folder import Run, open_run
from pointcmt.training.runs.locate import find_run
from pointcmt.training.runs.splits import held_out_areas

AREAS = 6  # of S3DIS


@dataclass(frozen=True, eq=False)
class FoldReport:
    """Results of cross-validation. areas: the report of each area, in ascending order."""

    areas: dict[int, SceneReport]

    @property
    def pooled(self) -> SceneReport:
        """All areas as one: the counts of the scenes of all of them."""
        reports = list(self.areas.values())
        left_out: dict[str, int] = {}
        for report in reports:
            for name, count in report.left_out.items():
                left_out[name] = left_out.get(name, 0) + count
        return replace(
            reports[0],
            confusions=[each for report in reports for each in report.confusions],
            voted=[each for report in reports for each in report.voted],
            drawn=Drawn([], [], []),
            notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
            left_out=left_out,
            ids=tuple(name for report in reports for name in report.ids),
        )

    @property
    def shapes(self) -> int:
        """The number of rooms."""
        return self.pooled.shapes

    @property
    def measures(self) -> dict[str, float]:
        """The pooled measures, the most important one first."""
        return self.pooled.measures

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `evaluate --json` prints: those of all areas, and of each."""
        areas = {str(area): report.as_json() for area, report in self.areas.items()}
        return {**self.pooled.as_json(), "areas": areas}

    def describe(self) -> str:
        """Return the numbers as text: the mIoU of each area, then those of all points together."""
        lines = ["each area by the run that held it out:"]
        for area, report in self.areas.items():
            epoch = f"{report.which} checkpoint (epoch {report.epoch})"
            miou = report.measures["miou"]
            lines.append(f"  Area_{area}  {miou:7.2%}  mIoU, {report.shapes} rooms, {epoch}")
        count = f"{len(self.areas)} of {AREAS}" if len(self.areas) < AREAS else f"all {AREAS}"
        _, *rest = self.pooled.describe().splitlines()
        points = int(self.pooled.total.counts.sum())
        return "\n".join(
            [*lines, f"{count} areas, {self.pooled.shapes:,} rooms, {points:,} points:", *rest]
        )


def evaluate_folds(
    folders: Sequence[Path],
    store: StoreReader,
    which: str = "best",
    votes: int = 1,
    device: str = "auto",
) -> FoldReport:
    """Evaluate each run on the area of S3DIS that it held out, and pool their counts.

    store: one or several that hold these areas. Each run's own results are written into its folder.
    Raises UsageError for runs that are no folds of S3DIS, or two with the same area, StoreError for
    runs with other classes, and what `evaluate` raises.
    """
    if not folders:
        raise UsageError("no run is given", where="RUN", fix="pass the runs of the areas")
    runs: dict[int, Run] = {}
    for folder in folders:
        run = open_run(find_run(folder))
        area = _held_out(run)
        if area in runs:
            raise UsageError(
                f"two runs held out Area_{area}: each area may count only once",
                where=f"{runs[area].folder}, {run.folder}",
                fix="pass one run for each area, trained with --set data.test_area=1 and so on",
            )
        runs[area] = run
    first = next(iter(runs.values()))
    for run in runs.values():
        if run.class_names != first.class_names:
            raise StoreError(
                "these runs have other classes, or another order of them",
                where=f"{first.folder}, {run.folder}",
                fix="train all of them on the same store",
            )
    found = {area: evaluate(runs[area].folder, store, "test", which, votes, device)
             for area in sorted(runs)}  # fmt: skip
    return FoldReport({area: cast(SceneReport, report) for area, report in found.items()})


def _held_out(run: Run) -> int:
    """Return the one area that a run held out. Raises UsageError if there is no such area."""
    trained_on = [one["dataset"] for one in each_store(run.facts["data"])]
    areas = held_out_areas(run.config.data, trained_on)
    if areas is None or len(areas) != 1 or run.config.recipe != "semseg":
        raise UsageError(
            "several runs are evaluated together only as folds of S3DIS, and this one is none",
            where=str(run.folder),
            fix="pass runs of `train semseg` on a store of S3DIS, each with its own "
            "data.test_area, or evaluate one run at a time",
        )
    return areas[0]
