"""Judge what was measured of views and points: faulty views, coverage, duplicates."""

from collections.abc import Callable, Sequence

import numpy as np

from pointcmt.audit import findings as kinds
from pointcmt.audit.duplicates import Pair
from pointcmt.audit.findings import Finding, Tile, Verdict, counted
from pointcmt.audit.measurement import BRIGHT, CROPPED, DARK, EMPTY, Measured
from pointcmt.audit.rendered import Rendered

SHOWN, IN_A_ROW = 24, 6  # views in a picture
PAIRS_SHOWN = 12
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


def check_duplicates(rendered: Rendered, pairs: Sequence[Pair]) -> Verdict:
    """Judge pairs of duplicates: across splits, within a split, with conflicting classes."""
    if not pairs:
        return Verdict(passed=("duplicates: none within a split or across splits",))
    across = [pair for pair in pairs if not _same(rendered.split_of, pair)]
    within = [pair for pair in pairs if _same(rendered.split_of, pair)]
    labels = rendered.store.labels
    conflicts = [
        pair
        for pair in pairs
        if labels[pair.first] != labels[pair.second]
        and min(labels[pair.first], labels[pair.second]) >= 0
    ]
    verdict = Verdict()
    for kind, found, words in (
        (kinds.ACROSS, across, "the same shape in two splits"),
        (kinds.WITHIN, within, "the same shape twice in a split"),
        (kinds.CONFLICTS, conflicts, "the same shape in two classes"),
    ):
        if found:
            verdict += Verdict((_of_pairs(rendered, kind, found, words),))
    return verdict


def _of_pairs(rendered: Rendered, kind: str, pairs: list[Pair], words: str) -> Finding:
    one = pairs[0]
    what = f"{counted(len(pairs), 'pair')}: {words}, such as {rendered.named(one.first)}"
    what += f" and {rendered.named(one.second)}"
    shapes = tuple(dict.fromkeys(shape for pair in pairs for shape in (pair.first, pair.second)))
    rows = tuple(_row(pair) for pair in pairs[:PAIRS_SHOWN])
    ids = rendered.store.shapes
    facts = [{"ids": [ids[pair.first].id, ids[pair.second].id], "gap": pair.gap} for pair in pairs]
    return Finding(kind, what, shapes, rows, {"pairs": facts})


def _row(pair: Pair) -> tuple[Tile, ...]:
    """Return two views of each shape of a pair."""
    note = f"gap {pair.gap:.2f}"
    return tuple(Tile(shape, view, note) for shape in (pair.first, pair.second) for view in (0, 1))


def _same(of: Callable[[int], str], pair: Pair) -> bool:
    return of(pair.first) == of(pair.second)
