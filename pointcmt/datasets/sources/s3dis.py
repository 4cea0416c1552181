"""S3DIS: rooms of six building areas, in `Area_<1..6>/<room>/Annotations/<class>_<k>.txt`.

Both versions of the release are listed: rooms aligned with the axes, and rooms as they were
scanned, with an `Area_<n>_alignmentAngle.txt` per area.
"""

import re
from collections import Counter
from pathlib import Path

from pointcmt.datasets.sources.listing import Listing, folders, require_root, unrecognized
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.scenes import SceneLabels

URL = "http://buildingparser.stanford.edu/dataset.html"
LICENSE = "for research, after agreeing to the terms of its form"
OBTAIN = (
    f"request Stanford3dDataset_v1.2_Aligned_Version.zip at {URL} ({LICENSE}), unpack it, and set "
    "--root to its folder"
)
# Classes in the order of PointNet, mmdetection3d and Pointcept; OpenPoints and others differ. The
# colors are PointNet's (sem_seg/indoor3d_util.py).
_CLASSES = {
    "ceiling": (0, 255, 0),
    "floor": (0, 0, 255),
    "wall": (0, 255, 255),
    "beam": (255, 255, 0),
    "column": (255, 0, 255),
    "window": (100, 100, 255),
    "door": (200, 200, 100),
    "table": (170, 120, 200),
    "chair": (255, 0, 0),
    "sofa": (200, 100, 100),
    "bookcase": (10, 200, 100),
    "board": (200, 200, 200),
    "clutter": (50, 50, 50),
}
LABELS = SceneLabels(semantic=tuple(_CLASSES), palette=tuple(_CLASSES.values()))
ROOM_TYPES = (
    *("auditorium", "conferenceRoom", "copyRoom", "hallway", "lobby", "lounge", "office"),
    *("openspace", "pantry", "storage", "WC"),
)
ROOMS = {1: 44, 2: 40, 3: 23, 4: 49, 5: 68, 6: 48}  # published number of rooms per area
TEST_AREA = 5  # of most published scores
# Name of the dataset → area of the test split; the other five are the train split.
VARIANTS = {"s3dis": TEST_AREA, **{f"s3dis-area{area}": area for area in ROOMS}}
_ROOM = re.compile(r"([A-Za-z]+)_[0-9]+")


def list_s3dis(dataset: str, root: Path | None) -> Listing:
    """List the rooms of S3DIS ("s3dis": Area 5 is the test split; "s3dis-area1", …: that area is).

    The class of a room is its type. A room's source is its folder. Frames of 2D-3D-S are found when
    a room is loaded. A root one level too high is accepted. Raises UsageError if `root` does not
    hold the areas.
    """
    root = require_root(root, dataset, OBTAIN)
    places = [place for place in ("", *folders(root)) if _areas(root / place)]
    if not places:
        raise unrecognized(root, "Area_1, …, Area_6 with rooms", OBTAIN)
    place = places[0]
    notes = [f"rooms are read from its subfolder '{place}'"] if place else []
    if len(places) > 1:
        others = ", ".join(repr(other) for other in places[1:])
        notes.append(f"not read: the rooms in {others}; to use them, set --root to their folder")
    test = VARIANTS[dataset]
    shapes, ignored = [], []
    for area in _areas(root / place):
        for room in folders(root / place / f"Area_{area}"):
            kind = _ROOM.fullmatch(room)
            if not kind:
                ignored.append(f"Area_{area}/{room}")
                continue
            shapes.append(
                ShapeRecord(
                    id=f"Area_{area}/{room}",
                    class_name=kind[1] if kind[1] in ROOM_TYPES else None,
                    split="test" if area == test else "train",
                    source="/".join(filter(None, (place, f"Area_{area}", room))),
                )
            )
    if not shapes:
        raise unrecognized(root / place / f"Area_{_areas(root / place)[0]}", "rooms", OBTAIN)
    if ignored:
        notes.append(f"{len(ignored)} folders are not rooms, such as {ignored[0]}: ignored")
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(shapes),
        class_names=ROOM_TYPES,
        up="z",
        license=LICENSE,
        url=URL,
        official={"train": sum(ROOMS.values()) - ROOMS[test], "test": ROOMS[test]},
        notes=(*notes, *_count_notes(shapes)),
        kind="scene",
    )


def _areas(place: Path) -> list[int]:
    return [area for area in ROOMS if f"Area_{area}" in folders(place)]


def _count_notes(shapes: list[ShapeRecord]) -> list[str]:
    """Return a note on areas whose number of rooms is not the published one, if any."""
    found = Counter(int(shape.id[len("Area_")]) for shape in shapes)
    wrong = [
        f"Area_{area} has {found[area]} rooms instead of {count}"
        for area, count in ROOMS.items()
        if found[area] != count
    ]
    return ["; ".join(wrong)] if wrong else []
