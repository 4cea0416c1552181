"""Labels of ScanNet's vertices, and the boxes of its detection benchmark.

A vertex belongs to a segment, a segment to a group (an object with a raw name), and the table of
names tells the NYU40 id of the raw name. `*.labels.ply` holds the result, with a few invalid ids.
"""

import csv
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.scannet import CLASSES, LABEL_TABLE, WITHOUT_BOXES
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.scenes import IGNORE, Boxes

_NYU40 = range(41)  # ids in use, 0 = unannotated
_CLASS_OF = {nyu: index for index, nyu in enumerate(CLASSES)}
_MAX_ID = 2**31 - 1


@dataclass(frozen=True, eq=False)
class VertexLabels:
    """Class index [N] and object [N] of each vertex, -1 = none; object None if not known."""

    semantic: NDArray[np.int16]
    instance: NDArray[np.int32] | None
    notes: tuple[str, ...] = ()


def read_groups(
    segments: object, aggregation: object, names: dict[str, int], vertices: int
) -> VertexLabels:
    """Return labels from the values of *.segs.json and *.aggregation.json.

    names: NYU40 id of each raw name. An object of several groups is one instance; on segments that
    two groups share, the later one counts. Raw names that the table lacks become -1, with a note.
    Raises ShapeRefused: bad_syntax, count_mismatch.
    """
    of_vertex = _integers(_entry(segments, "segIndices", "segs.json"), "segIndices")
    if len(of_vertex) != vertices:
        what = f"segs.json has {len(of_vertex)} segments for {vertices} vertices"
        raise ShapeRefused(Reason.COUNT_MISMATCH, what)
    known, position = np.unique(of_vertex, return_inverse=True)
    semantic = np.full(len(known), IGNORE, np.int16)
    instance = np.full(len(known), IGNORE, np.int32)
    unknown: set[str] = set()
    for group in _entry(aggregation, "segGroups", "aggregation.json"):
        raw = group.get("label") if isinstance(group, dict) else None
        if not isinstance(group, dict) or not isinstance(raw, str):
            raise ShapeRefused(Reason.BAD_SYNTAX, "aggregation.json: a group without a label")
        own = _integers(_entry(group, "segments", "aggregation.json"), "segments")
        rows = np.flatnonzero(np.isin(known, own))
        if raw not in names:
            unknown.add(raw)
        semantic[rows] = _CLASS_OF.get(names.get(raw, 0), IGNORE)
        instance[rows] = _integers([group.get("objectId")], "objectId")[0]
    notes = []
    if unknown:
        what = f"{len(unknown)} object names are not in {LABEL_TABLE}"
        notes.append(f"{what} and are ignored, such as {printable(min(unknown))!r}")
    return VertexLabels(semantic[position], instance[position], tuple(notes))


def read_ids(ids: NDArray[np.float64]) -> VertexLabels:
    """Return labels from NYU40 ids [N]; invalid ones (scene0270_00 has 50) are ignored, noted."""
    valid = np.isin(ids, _NYU40)
    semantic = np.full(len(ids), IGNORE, np.int16)
    for nyu, index in _CLASS_OF.items():
        semantic[ids == nyu] = index
    notes = ["labels are read from labels.ply, which has no instances"]
    if not valid.all():
        wrong = ", ".join(f"{value:g}" for value in np.unique(ids[~valid])[:5])
        what = f"{int((~valid).sum())} vertices have invalid labels ({wrong})"
        notes.append(f"{what}, which are ignored")
    return VertexLabels(semantic, None, tuple(notes))


def read_label_table(folder: SceneFolder) -> dict[str, int]:
    """Return the NYU40 id of each raw name in the table, the first one of names listed twice.

    folder: that of the data set. Raises ShapeRefused: missing_file, bad_syntax.
    """
    text = folder.text(LABEL_TABLE)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", quotechar=None,
                               quoting=csv.QUOTE_NONE))  # fmt: skip
    except csv.Error as error:
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{LABEL_TABLE}: {error}") from error
    header = rows[0] if rows else []
    if not {"raw_category", "nyu40id"} <= set(header):
        what = f"{LABEL_TABLE} has no columns raw_category and nyu40id"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    name_at, id_at = header.index("raw_category"), header.index("nyu40id")
    names: dict[str, int] = {}
    for line, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) <= max(name_at, id_at) or not row[id_at].strip().isdecimal():
            what = f"{LABEL_TABLE}, line {line}: no nyu40id"
            raise ShapeRefused(Reason.BAD_SYNTAX, what)
        names.setdefault(row[name_at], int(row[id_at]))
    return names


def boxes_of(
    points: NDArray[np.float64], labels: VertexLabels, alignment: NDArray[np.float64]
) -> tuple[Boxes, tuple[str, ...]]:
    """Return the boxes of the detection benchmark, and notes.

    A box is the axis-aligned one around an instance's vertices after `alignment` [4,4], a turn
    about +Z; it is returned in the coordinates of the points, with the yaw of that turn. Its class
    is that of most of the instance's vertices. Instances without extent in some direction have no
    box.
    """
    if labels.instance is None:
        return Boxes.none(), ()
    aligned = points @ alignment[:3, :3].T + alignment[:3, 3]
    back = np.linalg.inv(alignment)
    yaw = np.arctan2(back[1, 0], back[0, 0])
    boxes, kinds, ids, flat = [], [], [], 0
    order = np.argsort(labels.instance, kind="stable")
    numbers, starts = np.unique(labels.instance[order], return_index=True)
    for number, rows in zip(numbers, np.split(order, starts[1:]), strict=True):
        counts = np.bincount(labels.semantic[rows] + 1)
        kind = int(counts.argmax()) - 1 - WITHOUT_BOXES
        if number == IGNORE or kind < 0:
            continue
        low, high = aligned[rows].min(axis=0), aligned[rows].max(axis=0)
        if (high <= low).any():
            flat += 1
            continue
        center = back[:3, :3] @ ((low + high) / 2) + back[:3, 3]
        boxes.append([*center, *(high - low), yaw])
        kinds.append(kind)
        ids.append(number)
    notes = (f"{flat} instances without extent have no box",) if flat else ()
    if not boxes:
        return Boxes.none(), notes
    found = Boxes(np.array(boxes, np.float32), np.array(kinds, np.int16), np.array(ids, np.int32))
    return found, notes


def _entry(value: object, key: str, name: str) -> list[object]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} has no list '{key}'")
    return found


def _integers(values: list[object], name: str) -> NDArray[np.int64]:
    """Return values as integers from 0 to 2^31 - 1. Raises ShapeRefused (bad_syntax)."""
    if not all(type(value) is int and 0 <= value <= _MAX_ID for value in values):
        raise ShapeRefused(Reason.BAD_SYNTAX, f"{name} must be integers from 0 to {_MAX_ID}")
    return np.array(values, np.int64)
