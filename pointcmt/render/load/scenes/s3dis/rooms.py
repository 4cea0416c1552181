"""Load a room of S3DIS: points, classes and instances from its annotation files.

Only `Annotations` is read: the room's own file holds the same points, is misnamed in
Area_6/copyRoom_1, and has broken lines of its own. Each annotation file is one instance of the
class that its name begins with.
"""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.sources.s3dis import LABELS
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.render.load.files import few_notes, path_in, refusals
from pointcmt.render.load.readers.points import MAX_POINTS
from pointcmt.render.load.scenes.folder import SceneFolder
from pointcmt.render.load.scenes.ground import on_ground
from pointcmt.render.load.scenes.s3dis.annotations import parse_annotation
from pointcmt.render.load.scenes.s3dis.frames import read_frames
from pointcmt.scenes import SceneData, ScenePoints

MAX_FILE = 1 << 30  # bytes of one annotation file: more than 20 million lines
_ANNOTATION = re.compile(r"([A-Za-z]+)_[0-9]+\.txt")
_COPY = re.compile(r"(.+) \([0-9]+\)\.txt")
_OTHER = LABELS.semantic.index("clutter")


def load_s3dis(record: ShapeRecord, root: Path, follow_links: bool = False) -> SceneData:
    """Return a room with its points in the order of the files, and its frames if they are there.

    record: of `list_s3dis`. A class that is not one of the thirteen (stairs) becomes clutter, as in
    PointNet's and Pointcept's code. Instances are numbered in the order of the files. In the
    version that is not aligned, `source_to_world` turns the room by its alignment angle. Raises
    ShapeRefused for a file that is missing, damaged or not of this layout.
    """
    with refusals(root / record.source):
        path_in(root, record.source)
        folder = SceneFolder(root, root, follow_links)
        notes: list[str] = []
        points = _read_points(folder, record.source, notes)
        angle = _alignment(folder, record.source, notes)
        frames = read_frames(folder, record.source, angle is not None, notes)
        turn = np.eye(4)
        if angle is not None:
            turn[:2, :2] = _turn((2 - angle / 180) * math.pi)  # as Pointcept's preprocess_s3dis.py
        return SceneData(
            frames=frames,
            points=points,
            source_to_world=on_ground(points.points, turn),
            sha256=folder.digest(),
            notes=few_notes(tuple(notes)),
        )


def _read_points(folder: SceneFolder, room: str, notes: list[str]) -> ScenePoints:
    names = _annotations(folder, f"{room}/Annotations", notes)
    points, color, semantic = [], [], []
    renamed: dict[str, int] = {}
    for name, kind in names:
        data = folder.read(f"{room}/Annotations/{name}", MAX_FILE, text=())
        table = parse_annotation(data, name, notes)
        points.append(table[:, :3].copy())
        color.append(np.rint(table[:, 3:]).astype(np.uint8))
        known = kind in LABELS.semantic
        semantic.append(LABELS.semantic.index(kind) if known else _OTHER)
        if not known:
            renamed[kind] = renamed.get(kind, 0) + len(table)
        if sum(map(len, points)) > MAX_POINTS:
            what = f"the room has more than the maximum of {MAX_POINTS} points"
            raise ShapeRefused(Reason.TOO_LARGE, what)
    for kind, count in renamed.items():
        notes.append(f"{count} points of the class '{printable(kind)}' were taken as clutter")
    counts = [len(part) for part in points]
    return ScenePoints(
        points=np.concatenate(points),
        color=np.concatenate(color),
        semantic=np.repeat(np.array(semantic, np.int16), counts),
        instance=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
    )


def _annotations(folder: SceneFolder, place: str, notes: list[str]) -> list[tuple[str, str]]:
    """Return (name, class) of a room's annotation files, sorted by name.

    A copy such as "wall_3 (1).txt", which Area_5/office_36 has, is left out with a note.
    """
    found, other = [], []
    for name in folder.names(place):
        match = _ANNOTATION.fullmatch(name)
        if match:
            found.append((name, match[1]))
        elif name.endswith(".txt"):
            other.append(name)
    if not found:
        what = f"{place} has no files named <class>_<number>.txt"
        raise ShapeRefused(Reason.MISSING_FILE, what)
    names = {name for name, _ in found}
    for name in other:
        copy = _COPY.fullmatch(name)
        why = "a copy" if copy and f"{copy[1]}.txt" in names else "not named <class>_<number>.txt"
        notes.append(f"{printable(name)} was left out: {why}")
    return found


def _alignment(folder: SceneFolder, room: str, notes: list[str]) -> float | None:
    """Return the angle in degrees by which a room is turned from the axes.

    None in the aligned version: it has no list of angles, or its folder is named so.
    """
    area, _, name = room.rpartition("/")
    listed = f"{area}/{area.rpartition('/')[2]}_alignmentAngle.txt"
    if not folder.has(listed):
        return None
    listing = listed.rpartition("/")[2]
    if folder.inside(area).resolve().parent.name.lower().endswith("aligned_version"):
        notes.append(f"{listing} is not used: this is the aligned version")
        return None
    text = folder.text(listed)
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == [name]:
            try:
                angle = float(words[1])
            except (IndexError, ValueError):
                angle = math.nan
            if not math.isfinite(angle):
                what = f"{listing}: the angle of {name} is not a number"
                raise ShapeRefused(Reason.BAD_SYNTAX, what)
            return angle
    raise ShapeRefused(Reason.BAD_SYNTAX, f"{listing} has no angle for {name}")


def _turn(angle: float) -> NDArray[np.float64]:
    """Return the rotation [2,2] by an angle in radians, counter-clockwise."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
