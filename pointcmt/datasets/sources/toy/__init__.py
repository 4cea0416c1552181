"""The built-in dataset `toy`: ten classes of everyday objects, nothing to download.

Every shape is determined by its id alone, to the byte, on any machine. Shapes of a class vary in
structure, not only in size, and classes resemble each other: stools look like small tables, club
chairs like armchairs among the sofas, lava lamps like rockets, cups without a handle like jars.
"""

from collections.abc import Callable

from pointcmt.datasets.sources.toy.objects import (
    aircraft,
    cars,
    guitars,
    lamps,
    seating,
    tables,
    vessels,
)
from pointcmt.datasets.sources.toy.objects.builder import Builder
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.shapes import Mesh

TRAIN_PER_CLASS, TEST_PER_CLASS = 200, 50
VERSION = 2  # part of every seed; raise it whenever a shape changes

OBJECTS: dict[str, tuple[Callable[[Builder], Mesh], tuple[str, ...]]] = {  # and part names
    "chair": (seating.chair, ("seat", "back", "leg", "arm")),
    "table": (tables.table, ("top", "leg", "apron", "storage")),
    "lamp": (lamps.lamp, ("base", "pole", "shade", "bulb")),
    "mug": (vessels.mug, ("body", "handle", "drink", "saucer")),
    "airplane": (aircraft.airplane, ("fuselage", "wing", "tail", "engine", "gear")),
    "car": (cars.car, ("body", "cabin", "wheel", "light", "load")),
    "bottle": (vessels.bottle, ("body", "neck", "cap", "label")),
    "guitar": (guitars.guitar, ("body", "neck", "head", "hardware", "stand")),
    "sofa": (seating.sofa, ("seat", "back", "arm", "leg", "cushion")),
    "rocket": (aircraft.rocket, ("body", "nose", "fin", "engine", "window")),
}
CLASS_NAMES: tuple[str, ...] = tuple(OBJECTS)
PART_NAMES: dict[str, tuple[str, ...]] = {name: parts for name, (_, parts) in OBJECTS.items()}


def list_toy() -> list[ShapeRecord]:
    """Return all 2,500 shapes, class by class: 200 for training, then 50 for testing."""
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
    """Return the shape with this id (`chair/0007`), +Z up, front toward -Y, standing on z = 0.

    `face_part` indexes the class's PART_NAMES. Raises ShapeRefused (missing_file) for an id that
    `list_toy` does not list.
    """
    name, _, number = shape_id.partition("/")
    count = TRAIN_PER_CLASS + TEST_PER_CLASS
    known = number.isascii() and number.isdecimal() and len(number) == 4 and int(number) < count
    if name not in OBJECTS or not known:
        first, last = f"{CLASS_NAMES[0]}/0000", f"{CLASS_NAMES[-1]}/{count - 1:04d}"
        raise ShapeRefused(
            Reason.MISSING_FILE, f"toy has no shape '{shape_id}', only {first} to {last}"
        )
    make, parts = OBJECTS[name]
    return make(Builder(f"toy {VERSION} {shape_id}", parts))
