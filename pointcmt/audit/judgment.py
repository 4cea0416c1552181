"""Judge what was measured of views and points: faulty views, coverage, duplicates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointcmt.audit import findings as kinds
from pointcmt.audit.duplicates import Group
from pointcmt.audit.findings import Finding, Tile, Verdict, counted
from pointcmt.audit.measurement import BRIGHT, CROPPED, DARK, EMPTY, Measured
from pointcmt.audit.rendered import Rendered

SHOWN, IN_A_ROW = 24, 6  # views in a picture
GROUPS_SHOWN = 12
FAULTS = {
    EMPTY: (kinds.EMPTY, "empty: nothing but background"),
    DARK: (kinds.DARK, "all dark"),
    BRIGHT: (kinds.BRIGHT, "washed out: all white"),
    CROPPED: (kinds.CROPPED, "cropped by the image's border"),
}


def check_views(rendered: Rendered, measured: Sequence[Measured]) -> Verdict:
    """Find views that show nothing, or not all of a shape."""
    verdict, unit = Verdict(), "frame" if rendered.is_scenes else "view"
    total = sum(len(each.views) for each in measured)
    for state, (kind, words) in FAULTS.items():
        faulty = [
            Tile(each.shape, int(view))
            for each in measured
            for view in np.flatnonzero(each.views == state)
        ]
        if not faulty:
            continue
        shapes = tuple(dict.fromkeys(tile.shape for tile in faulty))
        what = (
            f"{len(faulty):,} of {counted(total, unit)} {'is' if len(faulty) == 1 else 'are'} "
            f"{words}, in {counted(len(shapes), rendered.unit)}"
        )
        shown = faulty[:: -(-len(faulty) // SHOWN)]
        rows = tuple(tuple(shown[i : i + IN_A_ROW]) for i in range(0, len(shown), IN_A_ROW))
        views = [[rendered.store.shapes[tile.shape].id, tile.view] for tile in faulty]
        verdict += Verdict((Finding(kind, what, shapes, rows, {"views": views}),))
    if verdict.findings:
        return verdict
    crop = "" if rendered.is_scenes else ", cropped"
    text = f"{unit}s: none of {total:,} is empty, all dark, washed out{crop}"
    return Verdict(passed=(text.replace("out, cropped", "out or cropped"),))


def check_coverage(rendered: Rendered, measured: Sequence[Measured]) -> Verdict:
    """Find shapes none of whose points is seen; tell the share of points that views see."""
    seen = {each.shape: each.seen for each in measured if each.seen is not None}
    if not seen:
        return Verdict(skipped=("coverage: the store has no correspondences",))
    once, twice = np.array(list(seen.values())).T
    lowest = min(seen, key=lambda shape: seen[shape])
    text = (
        f"coverage: {once.mean():.1%} of the points are seen in at least one view, "
        f"{twice.mean():.1%} in at least two; least of {rendered.store.shapes[lowest].id} "
        f"({once.min():.1%})"
    )
    if len(seen) < len(measured):
        text += f"; {counted(len(measured) - len(seen), rendered.unit)} without correspondences"
    unseen = tuple(shape for shape, share in seen.items() if share == (0.0, 0.0))
    if not unseen:
        return Verdict(passed=(text,))
    what = f"no view sees any point of {counted(len(unseen), rendered.unit)}"
    rows = (tuple(Tile(shape) for shape in unseen[:IN_A_ROW]),)
    return Verdict((Finding(kinds.UNSEEN, what, unseen, rows),), passed=(text,))


def check_duplicates(rendered: Rendered, groups: Sequence[Group]) -> Verdict:
    """Judge groups of duplicates: across splits, within a split, with conflicting classes."""
    if not groups:
        return Verdict(passed=("duplicates: none within a split or across splits",))
    splits, labels = rendered.store.splits, rendered.store.labels
    verdict = Verdict()
    for kind, concerned, words in (
        (kinds.ACROSS, [_differing(group, splits) for group in groups], "in different splits"),
        (kinds.WITHIN, [_repeated(group, splits) for group in groups], "more than once in a split"),
        (kinds.CONFLICTS, [_differing(group, labels) for group in groups], "in different classes"),
    ):
        found = [group for group in concerned if group.shapes]
        if found:
            verdict += Verdict((_of_groups(rendered, kind, found, words),))
    return verdict


def _differing(group: Group, values: NDArray[np.integer]) -> Group:
    """Return the shapes of known value (not -1), one of each value first; none if all are equal."""
    known = [shape for shape in group.shapes if values[shape] >= 0]
    first = [known[place] for place in np.unique(values[known], return_index=True)[1]]
    others = [shape for shape in known if shape not in first]
    return replace(group, shapes=(*first, *others) if len(first) > 1 else ())


def _repeated(group: Group, values: NDArray[np.integer]) -> Group:
    """Return the shapes with the value of another one, those of equal value together."""
    times = Counter(values[list(group.shapes)].tolist())
    shapes = [shape for shape in group.shapes if times[int(values[shape])] > 1]
    return replace(group, shapes=tuple(sorted(shapes, key=lambda shape: int(values[shape]))))


def _of_groups(rendered: Rendered, kind: str, groups: list[Group], words: str) -> Finding:
    shapes = tuple(shape for group in groups for shape in group.shapes)
    one, other, *_ = groups[0].shapes
    what = (
        f"{counted(len(groups), 'group')} of duplicates ({len(shapes):,} shapes): the same shape "
        f"{words}, such as {rendered.named(one)} and {rendered.named(other)}"
    )
    rows = tuple(_row(rendered, group) for group in groups[:GROUPS_SHOWN])
    ids = rendered.store.shapes
    facts = [
        {"ids": [ids[shape].id for shape in group.shapes], "gap": group.gap} for group in groups
    ]
    return Finding(kind, what, shapes, rows, {"groups": facts})


def _row(rendered: Rendered, group: Group) -> tuple[Tile, ...]:
    """Return views of the first shapes of a group: two of each, if there are two."""
    note, views = f"gap {group.gap:.2f}", min(2, rendered.store.schema.views)
    few = group.shapes[: IN_A_ROW // 2]
    return tuple(Tile(shape, view, note) for shape in few for view in range(views))
