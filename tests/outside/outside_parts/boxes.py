"""Two data sets: boxes that are made when they are rendered, and a folder of files."""

from pathlib import Path

import numpy as np

from pointcmt.datasets.sources import Listing, Source
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.shapes import Cloud, Mesh

CLASSES = ("flat", "tall")
HEIGHT = {"flat": 0.2, "tall": 3.0}
SPLITS = ["train"] * 8 + ["test"] * 2
CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([f for a, b, c, d in QUADS for f in ((a, b, c), (a, c, d))], np.int32)


def list_boxes(name: str, root: Path | None) -> Listing:
    shapes = tuple(
        ShapeRecord(f"{kind}/{number}", kind, split, f"a {kind} box")
        for kind in CLASSES
        for number, split in enumerate(SPLITS)
    )
    return Listing(name, None, shapes, CLASSES, "z", "MIT", "", None, ())


def make_box(record: ShapeRecord, root: Path | None) -> Mesh:
    kind, _, number = record.id.partition("/")
    if kind not in HEIGHT:
        raise ShapeRefused(Reason.MISSING_FILE, f"there is no box {record.id}")
    return Mesh(CORNERS * [1, 1 + int(number) / 10, HEIGHT[kind]], FACES)


BOXES = Source(list_boxes, make_box)


def list_balls(name: str, root: Path | None) -> Listing:
    shapes = tuple(ShapeRecord(f"ball/{n}", "ball", "train", "a ball") for n in range(4))
    return Listing(name, root, shapes, ("ball",), "y", "MIT", "", None, (), kind="cloud")


def make_ball(record: ShapeRecord, root: Path | None) -> Cloud:
    points = np.random.default_rng(len(record.id)).normal(size=(500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return Cloud(points, points)


BALLS = Source(list_balls, make_ball)


def list_files(name: str, root: Path | None) -> Listing:
    assert root is not None
    names = sorted(path.name for path in root.glob("*.off"))
    shapes = tuple(ShapeRecord(n.removesuffix(".off"), "file", "train", n) for n in names)
    return Listing("a name that does not count", root, shapes, ("file",), "z", "MIT", "", None, ())
