"""Why a row is better or not: whose errors it shares, and what its terms do to the gradient."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.training.report.tables import Table
from pointcmt.training.studies.plan import Job

TEACHER = "teacher"
SHARE = 0.1  # of the epochs, at the beginning and at the end
Finished = Mapping[str, tuple[Job, dict[str, Any]]]


def agreement_table(finished: Finished) -> Table:
    """Return how the errors of each student compare with its teacher's, mean over seeds.

    A student without one is compared with the first teacher of its place: what it would have had
    to learn from.
    """
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[NDArray[np.float64]]] = {}
    axes: dict[str, None] = {}
    for job, results in finished.values():
        teacher = _teacher_of(job, finished)
        if teacher is None or "test" not in results or "test" not in teacher:
            continue
        axes.update(dict.fromkeys(job.place))
        key = (job.row, tuple(job.place.items()))
        groups.setdefault(key, []).append(agreement(results["test"], teacher["test"]))
    rows = []
    for (row, place), found in groups.items():
        values = dict(place)
        mean = 100 * np.nanmean(found, axis=0)
        cells = (f"{value:.1f}" for value in mean)
        rows.append((row, *(values.get(axis, "–") for axis in axes), str(len(found)), *cells))
    columns = (
        "row", *axes, "seeds", "both right (%)", "teacher alone (%)", "student alone (%)",
        "both wrong (%)", "same wrong class, of both wrong (%)",
    )  # fmt: skip
    note = (
        "Shares of the test shapes. A student that learns what its teacher knows has fewer shapes "
        "that the teacher alone gets right than the same student without it; one that copies its "
        "errors has fewer that it alone gets right."
    )
    title = "Errors of students and teachers"
    return Table("agreement", title, columns, tuple(rows), note)


def agreement(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return five shares: both right, teacher alone, student alone, both wrong, and of these those
    with the same class; NaN without any. Both: "ids", "true" and "predicted" of the same shapes.
    """
    order = {name: place for place, name in enumerate(teacher["ids"])}
    theirs = np.array(teacher["predicted"])[[order[name] for name in student["ids"]]]
    true, ours = np.array(student["true"]), np.array(student["predicted"])
    right, taught = ours == true, theirs == true
    wrong = ~right & ~taught
    same = float((ours == theirs)[wrong].mean()) if wrong.any() else np.nan
    cells = ((right & taught).mean(), (~right & taught).mean(), (right & ~taught).mean())
    return np.array([*cells, wrong.mean(), same])


def gradient_table(finished: Finished) -> Table:
    """Return the logged gradients of each term, in the first and the last tenth of the epochs."""
    groups: dict[tuple[str, ...], list[list[float]]] = {}
    for job, results in finished.values():
        logged = results.get("gradients", {})
        for name in (key.removesuffix("_cosine") for key in logged if key.endswith("_cosine")):
            place = " ".join(job.place.values())
            cosine, ratio = (_ends(logged[f"{name}_{kind}"]) for kind in ("cosine", "ratio"))
            groups.setdefault((job.row, place, name), []).append([*cosine, *ratio])
    rows = tuple(
        (*key, str(len(found)), *(f"{value:.3f}" for value in np.mean(found, axis=0)))
        for key, found in groups.items()
    )
    columns = (
        "row", "place", "term", "seeds", "cosine, first", "cosine, last", "ratio, first",
        "ratio, last",
    )  # fmt: skip
    note = (
        "The gradient of a term against that of the cross entropy, both at the 512-d feature: "
        "their cosine, and the ratio of their norms, the term's with its weight. First and last: "
        "a tenth of the epochs."
    )
    return Table("gradients", "Gradients of the terms", columns, rows, note)


def _ends(values: list[float]) -> tuple[float, float]:
    count = max(1, round(SHARE * len(values)))
    return float(np.mean(values[:count])), float(np.mean(values[-count:]))


def _teacher_of(job: Job, finished: Finished) -> dict[str, Any] | None:
    """Return the results of a student's teacher, or of the first one at its place."""
    if job.run.recipe == TEACHER:
        return None
    own = job.links.get(TEACHER)
    if own is not None:
        return finished[own][1] if own in finished else None
    for other, results in finished.values():
        if other.run.recipe == TEACHER and other.place.items() <= job.place.items():
            return results
    return None
