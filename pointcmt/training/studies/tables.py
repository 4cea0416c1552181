"""The tables of a study: scores with differences, searches, costs, and diagnostics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pointcmt.console import duration, in_words
from pointcmt.errors import brief
from pointcmt.training.config.study import StudyConfig
from pointcmt.training.ops.statistics import spread
from pointcmt.training.report.tables import Table
from pointcmt.training.studies.diagnostics import agreement_table, gradient_table
from pointcmt.training.studies.plan import Job
from pointcmt.training.studies.scores import Cell, cells_of, gain, random_row, read_finished
from pointcmt.training.studies.work import best_candidate, read_results

NONE = "–"


def tables_of(study: StudyConfig, jobs: list[Job], out: Path) -> list[Table]:
    """Return all tables of a study that have rows, from the jobs that are finished."""
    finished = read_finished(jobs, out)
    tables = [
        score_table(task, cells, study.baseline)
        for task, cells in cells_of(finished, random_row(study)).items()
    ]
    tables += [
        search_table(jobs, out),
        agreement_table(finished),
        gradient_table(finished),
        cost_table(finished),
    ]
    return [table for table in tables if table.rows]


def score_table(task: str, cells: list[Cell], baseline: str) -> Table:
    """Return one row for each row of the study and each place: means, and minus the baseline."""
    axes = max((list(cell.place) for cell in cells), key=lambda axes: len(axes))
    names = list(next(iter(cells[0].measures.values())))
    rows = []
    for cell in cells:
        difference = gain(cell, cells, baseline)
        rows.append(
            (
                cell.row,
                *(cell.place.get(axis, NONE) for axis in axes),
                str(len(cell.measures)),
                *(_mean([m[name] for m in cell.measures.values()]) for name in names),
                NONE
                if difference is None
                else f"{100 * difference.mean:+.2f} "
                f"[{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]",
            )
        )
    columns = ("row", *axes, "seeds", *(f"{in_words(name)} (%)" for name in names))
    note = (
        "Mean ± standard deviation over seeds. Differences are in points, paired by seed, with "
        "95 % intervals by the bootstrap over seeds and test shapes (of few-shot tasks, episodes)."
    )
    return Table(
        f"scores-{task}", f"Scores: {task}", (*columns, f"minus {baseline}"), tuple(rows), note
    )


def search_table(jobs: list[Job], out: Path) -> Table:
    """Return one row for each candidate of each search, with its validation scores."""
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    for job in jobs:
        if not job.candidates or job.candidates[0] in rows:
            continue
        found = [[read_results(key, out) for key in keys] for keys in job.candidates]
        if not all(each for candidate in found for each in candidate):
            continue
        best = best_candidate(job, out)
        for number, candidate in enumerate(found):
            curves = [each["curve"]["name"] for each in candidate if each]
            scores = [each["validation"] for each in candidate if each]
            is_loss = curves[0] == "val_loss"  # whose score is minus the loss
            score = _mean([-value / 100 for value in scores] if is_loss else scores)
            measure = in_words(curves[0].removeprefix("val_")) + ("" if is_loss else " (%)")
            settings = ", ".join(f"{k}={brief(v)}" for k, v in job.run.search[number].items())
            where = " ".join(job.place[axis] for axis in job.run.search_over)
            chosen = "chosen" if number == best else ""
            rows[job.candidates[number]] = (job.row, where, settings, measure, score, chosen)
    columns = ("row", "for", "settings", "measure", "validation", "")
    note = "Searches read the validation split alone, with seeds that are not used elsewhere."
    return Table("searches", "Settings chosen on validation", columns, tuple(rows.values()), note)


def cost_table(finished: Mapping[str, tuple[Job, dict[str, Any]]]) -> Table:
    """Return the seconds of training of each row and place, on the machine of the study."""
    seconds: dict[tuple[str, ...], list[float]] = {}
    for job, results in finished.values():
        place = " ".join(job.place.values())
        seconds.setdefault((job.name, place), []).append(results["seconds"])
    rows = tuple(
        (name, place or NONE, str(len(each)), f"{np.mean(each):.0f}", duration(sum(each)))
        for (name, place), each in seconds.items()
    )
    columns = ("run", "place", "runs", "seconds each", "in all")
    return Table("costs", "Training time", columns, rows, "Without evaluation and probes.")


def _mean(values: list[float]) -> str:
    mean, std = spread([100 * value for value in values])
    return f"{mean:.2f}" + (f" ± {std:.2f}" if len(values) > 1 else "")
