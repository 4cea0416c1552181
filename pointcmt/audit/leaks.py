"""Does anything but the shape tell its class: its cameras, its scale, how it is framed?

A silhouette follows from the shape and may tell the class. So the probe looks at what must be equal
for all shapes, whatever they are: the cameras; the radius and the center of the points, which
are normalized; and how far images, depth and projected points disagree. Differences within the
tolerances below, which come from pixels and from the sampling of points, count as none.
"""

from bisect import bisect_left, bisect_right, insort

import numpy as np
from numpy.typing import NDArray

from pointcmt.audit.findings import CAMERAS, FRAMING, SCALE, Finding, Tile, Verdict, counted
from pointcmt.audit.measurement import Measured
from pointcmt.audit.probe import LEVEL, Told, probe, sample_of
from pointcmt.audit.rendered import Rendered
from pointcmt.audit.silhouettes import COLUMNS
from pointcmt.errors import printable

CAMERA_STEP = 1e-4  # cameras that differ by less are equal: shares of the image, world units
LARGEST, SMALLEST = 1.002, 0.85  # radius: sampled points may miss the farthest vertex
OFF_CENTER = 0.1  # of the bounding box's center
OFF_POINTS, OFF_DEPTH = 0.06, 0.02  # of sides of boxes, shares of the image's width …
PIXELS = 3  # … beside this many pixels and the radius of a cloud's discs
MISSED, BARE = 0.2, 0.2  # shares of points and of pixels
SHOWN = 4  # shapes of each kind in a picture
MOST_NAMED = 4

Floats = NDArray[np.float64]


def check_cameras(rendered: Rendered) -> Verdict:
    """Find classes that have other cameras than the others."""
    groups, rows = _camera_groups(rendered)
    n, labels = len(rendered.shapes), rendered.labels
    if len(rows) == 1:
        return Verdict(passed=(f"cameras: the same for all {counted(n, 'shape')}",))
    chosen = sample_of(labels)
    differ = f"cameras differ between shapes: {counted(len(rows), 'set')} of them"
    if not len(chosen):
        return Verdict(skipped=(f"{differ}; without classes, nothing can be told from them",))
    told = probe(np.array([rows[group] for group in groups[chosen]]), labels[chosen])
    fixed, odd = _odd_classes(groups, labels)
    if not (told and told.beyond_chance) and not fixed:
        return Verdict(passed=(f"{differ}, but do not reveal the class{_numbers(told)}",))
    names = [rendered.store.class_names[label] for label in odd]
    which = rendered.shapes[(np.isin(labels, odd) if odd else labels >= 0) & (groups != 0)]
    have = f"{_listing(names)} {'has' if len(names) == 1 else 'have'} other cameras than the rest"
    what = (
        f"the cameras reveal the class{_numbers(told)}: "
        f"{have if odd else 'cameras differ by class'}, {_camera_difference(rows)}"
    )
    few = list(rows)[:SHOWN]
    examples = [rendered.shapes[np.flatnonzero(groups == group)[:SHOWN]] for group in few]
    shown = [_row(shapes, f"camera set {k}") for k, shapes in enumerate(examples)]
    facts = {"classes": names, "sets": len(rows), **_told_facts(told)}
    return Verdict((Finding(CAMERAS, what, tuple(which.tolist()), tuple(shown), facts),))


def check_scale(rendered: Rendered, measured: list[Measured]) -> Verdict:
    """Find shapes whose points are not centered and scaled into the unit sphere."""
    scale = np.array([each.scale for each in measured])
    radius, center = scale[:, 0], np.linalg.norm(scale[:, 1:], axis=1)
    far = np.where((radius > LARGEST) | (radius < SMALLEST), radius - 1, 0)
    off = np.where(center > OFF_CENTER, center, 0)
    wrong = np.flatnonzero((far != 0) | (off != 0))
    if not len(wrong):
        text = f"scale: all shapes are centered, with radii of {radius.min():.3f} to "
        return Verdict(passed=(f"{text}{radius.max():.3f}",))
    told = _told(rendered, np.column_stack([far, off]))
    what = (
        f"{counted(len(wrong), 'shape is', 'shapes are')} not normalized like the others"
        f"{_by_class(rendered, wrong)}: radius {radius[wrong].min():.2f} to "
        f"{radius[wrong].max():.2f}, center off by up to {center[wrong].max():.2f}{_leak(told)}"
    )
    notes = [f"radius {radius[i]:.2f}" for i in wrong]
    return _finding(SCALE, what, rendered.shapes[wrong], notes, _told_facts(told))


def check_framing(rendered: Rendered, measured: list[Measured]) -> Verdict:
    """Find shapes whose images do not show the stored points through the stored cameras."""
    render, width = rendered.store.attributes["render"], rendered.store.schema.size
    more = (PIXELS + float(render.get("splat", 0))) / width
    limits = np.array([OFF_POINTS + more] * 4 + [OFF_DEPTH + more] * 4 + [MISSED, BARE])
    framing = np.array([each.framing for each in measured])
    beyond = np.where(np.abs(framing) > limits, framing, 0)
    wrong = np.flatnonzero(beyond.any(axis=1))
    if not len(wrong):
        return Verdict(passed=("framing: images, depth and projected points agree",))
    told = _told(rendered, beyond)
    worst = [int(np.argmax(np.abs(beyond[i]) / limits)) for i in wrong]
    common = COLUMNS[int(np.bincount(worst).argmax())]
    what = (
        f"the images of {counted(len(wrong), 'shape')} do not match their points and cameras"
        f"{_by_class(rendered, wrong)}, mostly the {common}{_leak(told)}"
    )
    notes = [
        f"{COLUMNS[column]} {framing[i, column]:+.0%}"
        for i, column in zip(wrong, worst, strict=True)
    ]
    return _finding(FRAMING, what, rendered.shapes[wrong], notes, _told_facts(told))


def _camera_groups(rendered: Rendered) -> tuple[NDArray[np.int64], dict[int, Floats]]:
    """Return the group of each shape with equal cameras [n], and the cameras [V·22] of each group.

    Group 0 is the largest. Each row is relative to that of group 0.
    """
    store = rendered.store
    distinct = _Distinct(22 * store.schema.views)
    groups = np.empty(len(rendered.shapes), np.int64)
    shards = rendered.shapes // store.schema.shard
    for shard in np.unique(shards).tolist():
        mine = np.flatnonzero(shards == shard)
        camera = store.camera(rendered.shapes[mine])
        K = camera.K[:, :, :2] / camera.width
        parts = (K.reshape(len(mine), -1), camera.world_to_camera.reshape(len(mine), -1))
        for place, row in zip(mine, np.concatenate(parts, axis=1), strict=True):
            groups[place] = distinct.number_of(row)
    order = np.argsort(-np.bincount(groups), kind="stable")
    rank = np.argsort(order)
    rows = [distinct.rows[old] for old in order.tolist()]
    return rank[groups], {new: row - rows[0] for new, row in enumerate(rows)}


class _Distinct:
    """Rows of numbers, none of which is equal to another to within CAMERA_STEP.

    Rows are found by a weighted mean of their numbers, which differs by no more than the numbers.
    """

    def __init__(self, columns: int) -> None:
        weights = np.random.default_rng(0).random(columns)
        self._weights = weights / weights.sum()
        self.rows: list[Floats] = []
        self._means: list[tuple[float, int]] = []  # of the rows by number, ascending

    def number_of(self, row: Floats) -> int:
        """Return the number of the row that equals this one, which is added if there is none."""
        mean = float(row @ self._weights)
        first = bisect_left(self._means, (mean - CAMERA_STEP, 0))
        last = bisect_right(self._means, (mean + CAMERA_STEP, len(self.rows)))
        for _, number in self._means[first:last]:
            if np.abs(self.rows[number] - row).max() <= CAMERA_STEP:
                return number
        insort(self._means, (mean, len(self.rows)))
        self.rows.append(row)
        return len(self.rows) - 1


def _odd_classes(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[bool, list[int]]:
    """Return whether each class has one set of cameras, though not all the same one, and the
    classes, if any, of which most shapes have other cameras than the largest group.
    """
    classes = np.unique(labels[labels >= 0]).tolist()
    own = [np.unique(groups[labels == label]) for label in classes]
    fixed = all(len(each) == 1 for each in own) and len({int(each[0]) for each in own}) > 1
    odd = [label for label in classes if np.mean(groups[labels == label] != 0) > 0.5]
    return fixed, odd


def _camera_difference(rows: dict[int, Floats]) -> str:
    """Return the largest difference from the common cameras as text."""
    V = len(rows[0]) // 22
    K = np.array([row[: 6 * V] for row in rows.values()])
    poses = np.array([row[6 * V :] for row in rows.values()]).reshape(len(rows), V, 4, 4)
    # ‖R − R'‖ of two rotations is 2√2 sin(θ / 2).
    norm = np.linalg.norm(poses[:, :, :3, :3], axis=(2, 3)).max()
    angle = np.degrees(2 * np.arcsin(min(norm / (2 * np.sqrt(2)), 1)))
    moved, inner = np.linalg.norm(poses[:, :, :3, 3], axis=2).max(), np.abs(K).max()
    return f"turned by up to {angle:.1f}°, moved by {moved:.2f}, intrinsics by {inner:.1%}"


def _told(rendered: Rendered, values: Floats) -> Told | None:
    """Return how well the class is told from values [n,D]."""
    chosen = sample_of(rendered.labels)
    return probe(values[chosen], rendered.labels[chosen]) if len(chosen) else None


def _numbers(told: Told | None) -> str:
    if told is None:
        return ""
    return f" ({told.accuracy:.0%} right, {told.chance:.0%} by chance, p = {told.p:.4f})"


def _leak(told: Told | None) -> str:
    if told is None:
        return ""
    if told.beyond_chance:
        return f"; this reveals the class{_numbers(told)}"
    return f"; this does not reveal the class at the level {LEVEL}{_numbers(told)}"


def _told_facts(told: Told | None) -> dict[str, float]:
    if told is None:
        return {}
    return {"accuracy": told.accuracy, "chance": told.chance, "p": told.p, "level": LEVEL}


def _by_class(rendered: Rendered, wrong: NDArray[np.int64]) -> str:
    """Return the classes of these shapes (places) as text."""
    labels = rendered.labels[wrong]
    counts = np.bincount(labels[labels >= 0], minlength=1)
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    names = [f"{rendered.store.class_names[label]} {counts[label]:,}" for label in order.tolist()]
    return f" ({_listing(names)})" if names else ""


def _listing(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    named = ", ".join(map(printable, names[:MOST_NAMED]))
    return f"{named} and {more} more" if more > 0 else named


def _finding(
    kind: str, what: str, shapes: NDArray[np.int64], notes: list[str], facts: dict[str, float]
) -> Verdict:
    few = zip(shapes[: 3 * SHOWN].tolist(), notes, strict=False)
    tiles = [Tile(shape, 0, note) for shape, note in few]
    rows = tuple(tuple(tiles[i : i + SHOWN]) for i in range(0, len(tiles), SHOWN))
    return Verdict((Finding(kind, what, tuple(shapes.tolist()), rows, dict(facts)),))


def _row(shapes: NDArray[np.int64], note: str) -> tuple[Tile, ...]:
    return tuple(Tile(shape, 0, note) for shape in shapes.tolist())
