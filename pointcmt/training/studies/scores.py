"""The results of a study, grouped as its tables show them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.training.config.study import StudyConfig
from pointcmt.training.ops.statistics import Difference, paired_difference
from pointcmt.training.studies.plan import Job, Place
from pointcmt.training.studies.work import read_results

Floats = NDArray[np.float64]
TRAINED, RANDOM = "trained", "random"  # networks of a probe
RANDOM_ROW = "random weights"  # with a space, which the rows of a study cannot have


@dataclass(eq=False)
class Cell:
    """The scores of one row of a table at one place, by seed.

    measures: by name. scores: of each test shape, or each episode of few-shot tasks, [n]; their
    mean is the first measure.
    """

    task: str
    row: str
    place: Place
    measures: dict[int, dict[str, float]] = field(default_factory=dict)
    scores: dict[int, Floats] = field(default_factory=dict)
    once: bool = False

    def add(self, seed: int, measures: Mapping[str, float], scores: Floats) -> None:
        """Add the scores of one seed."""
        self.measures[seed] = dict(measures)
        self.scores[seed] = scores


def read_finished(jobs: list[Job], out: Path) -> dict[str, tuple[Job, dict[str, Any]]]:
    """Return the jobs that are finished, with their results, by key; searches are left out."""
    found = {job.key: (job, read_results(job.key, out)) for job in jobs if not job.searching}
    return {key: (job, results) for key, (job, results) in found.items() if results}


def random_row(study: StudyConfig) -> str:
    """Return the row of random weights in the tables of probes.

    That is the baseline, unless runs of the baseline are probed themselves.
    """
    rows = {run.row or name for name, run in study.runs.items() if run.svm or run.few_shot}
    return RANDOM_ROW if study.baseline in rows else study.baseline


def cells_of(
    finished: Mapping[str, tuple[Job, dict[str, Any]]], random: str
) -> dict[str, list[Cell]]:
    """Return the rows of each table, by task, in order.

    random: see `random_row`. Each probe measures random weights beside its own network: the same
    ones for all networks of a seed.
    """
    cells: dict[str, dict[tuple[str, ...], Cell]] = defaultdict(dict)

    def cell(task: str, row: str, job: Job) -> Cell:
        key = (*job.place.values(), row)
        return cells[task].setdefault(key, Cell(task, row, job.place, once=job.run.once))

    for job, results in finished.values():
        test = results.get("test")
        if test:
            right = np.array(test["true"]) == np.array(test["predicted"])
            cell(job.run.task, job.row, job).add(job.seed, test["measures"], right.astype(float))
        for task, networks in results.get("probes", {}).items():
            for network, row in ((RANDOM, random), (TRAINED, job.row)):
                own = networks[network]
                cell(task, row, job).add(job.seed, own["measures"], np.array(own["scores"]))
    return {task: _by_place(list(table.values())) for task, table in cells.items()}


def _by_place(cells: list[Cell]) -> list[Cell]:
    """Return the cells with those of one place together, as places and rows first came."""
    axes = max((list(cell.place) for cell in cells), key=lambda axes: len(axes))
    values = {
        axis: list(dict.fromkeys(cell.place[axis] for cell in cells if axis in cell.place))
        for axis in axes
    }

    def place_of(cell: Cell) -> list[int]:
        return [values[axis].index(cell.place[axis]) if axis in cell.place else -1 for axis in axes]

    return sorted(cells, key=place_of)


def gain(cell: Cell, others: list[Cell], baseline: str) -> Difference | None:
    """Return a cell's first measure minus the baseline's at the same place, paired by seed.

    None for the baseline itself, for rows that vary over other axes, and without a common seed. Its
    interval is by the bootstrap over seeds and test shapes.
    """
    if cell.row == baseline or cell.once:
        return None
    base = next((c for c in others if c.row == baseline and c.place == cell.place), None)
    seeds = sorted(cell.scores.keys() & base.scores.keys()) if base else []
    if base is None or not seeds:
        return None
    a, b = (np.array([c.scores[seed] for seed in seeds]) for c in (cell, base))
    return paired_difference(a, b)
