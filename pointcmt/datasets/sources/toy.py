"""The built-in data set `toy`: ten classes of things people make, nothing to download.

Every shape follows from its id alone, to the byte, on any machine. Classes vary in structure, not
only in size, and share what makes telling them apart worth learning: stools look like small
tables, club chairs like sofas for one, lava lamps like rockets, cups without a handle like jars.
"""

from collections.abc import Callable

from pointcmt.datasets.sources.toy_shapes import (
    airplane,
    bottle,
    car,
    chair,
    guitar,
    lamp,
    mug,
    rocket,
    sofa,
    table,
)
from pointcmt.datasets.sources.toy_shapes.dice import Dice
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.shapes import Mesh

TRAIN_PER_CLASS, TEST_PER_CLASS = 200, 50
VERSION = 1  # part of every seed; to be raised whenever a shape changes

BUILDERS: dict[str, Callable[[Dice], Mesh]] = {
    "chair": chair.build,
    "table": table.build,
    "lamp": lamp.build,
    "mug": mug.build,
    "airplane": airplane.build,
    "car": car.build,
    "bottle": bottle.build,
    "guitar": guitar.build,
    "sofa": sofa.build,
    "rocket": rocket.build,
}
CLASS_NAMES: tuple[str, ...] = tuple(BUILDERS)
PART_NAMES: dict[str, tuple[str, ...]] = {
    "chair": chair.PARTS,
    "table": table.PARTS,
    "lamp": lamp.PARTS,
    "mug": mug.PARTS,
    "airplane": airplane.PARTS,
    "car": car.PARTS,
    "bottle": bottle.PARTS,
    "guitar": guitar.PARTS,
    "sofa": sofa.PARTS,
    "rocket": rocket.PARTS,
}


def list_toy() -> list[ShapeRecord]:
    """All 2,500 shapes, class by class: of each, the first 200 to train on, the last 50 to test."""
    return [
        ShapeRecord(
            id=f"{name}/{number:04d}",
            class_name=name,
            split="train" if number < TRAIN_PER_CLASS else "test",
            source=f"toy:{name}/{number:04d}",
        )
        for name in CLASS_NAMES
        for number in range(TRAIN_PER_CLASS + TEST_PER_CLASS)
    ]


def build(shape_id: str) -> Mesh:
    """The shape with this id (`chair/0007`), +Z up, its front towards -Y, standing on z = 0.

    `face_part` indexes the class's PART_NAMES. Raises ShapeRefused (missing_file) for an id that
    `list_toy` does not list.
    """
    name, _, number = shape_id.partition("/")
    count = TRAIN_PER_CLASS + TEST_PER_CLASS
    known = number.isascii() and number.isdecimal() and len(number) == 4 and int(number) < count
    if name not in BUILDERS or not known:
        first, last = f"{CLASS_NAMES[0]}/0000", f"{CLASS_NAMES[-1]}/{count - 1:04d}"
        raise ShapeRefused(
            Reason.MISSING_FILE, f"toy has no shape '{shape_id}', only {first} to {last}"
        )
    return BUILDERS[name](Dice(f"toy {VERSION} {shape_id}"))
