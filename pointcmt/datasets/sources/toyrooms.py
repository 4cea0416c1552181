"""`toyrooms`: furnished rooms that are generated, so that scenes need no files."""

from pathlib import Path

from pointcmt.datasets.sources.listing import Listing
from pointcmt.datasets.sources.toy.rooms.piece import BOX_CLASSES, CLASSES
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused, UsageError
from pointcmt.scenes import SceneLabels

COUNTS = {"train": 200, "test": 50}
PALETTE = {
    "floor": (152, 118, 84),
    "ceiling": (222, 222, 214),
    "wall": (174, 199, 232),
    "column": (120, 120, 150),
    "door": (214, 39, 40),
    "window": (23, 190, 207),
    "picture": (188, 66, 190),
    "curtain": (219, 180, 60),
    "table": (255, 127, 14),
    "chair": (44, 160, 44),
    "sofa": (140, 86, 75),
    "cabinet": (31, 119, 180),
    "lamp": (240, 220, 40),
    "clutter": (120, 110, 105),
}
LABELS = SceneLabels(CLASSES, BOX_CLASSES, tuple(PALETTE[name] for name in CLASSES))


def list_toyrooms(dataset: str, root: Path | None) -> Listing:
    """List the rooms by number: first those of the train split. Rooms have no class."""
    if root is not None:
        raise UsageError(
            "toy rooms are built in and have no root", where="--root", fix="leave it out"
        )
    shapes, first = [], 0
    for split, count in COUNTS.items():
        for number in range(first, first + count):
            shapes.append(ShapeRecord(f"room/{number:04d}", None, split, f"room/{number:04d}"))
        first += count
    return Listing(
        name=dataset,
        root=None,
        shapes=tuple(shapes),
        class_names=(),
        up="z",
        license="MIT, like pointcmt",
        url="",
        official=None,
        notes=(),
        kind="scene",
        labels=LABELS,
    )


def number_of(record: ShapeRecord) -> int:
    """Return the number of a room. Raises ShapeRefused: the record may be a stranger's.

    Rooms that are not listed are refused, although they could be made: their split is unknown.
    """
    number = record.id.removeprefix("room/")
    known = number.isascii() and number.isdecimal() and len(number) == 4
    if not (known and int(number) < sum(COUNTS.values())):
        raise ShapeRefused(Reason.MISSING_FILE, f"there is no toy room {record.id}")
    return int(number)
