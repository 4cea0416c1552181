"""Stores of box rooms: three small ones, and one with several chunks of points."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.datasets import sources
from pointcmt.datasets.store.schema import BLOCK
from pointcmt.scenes import ScenePoints
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms

LARGE = 40_000  # points


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Three rooms of 6 to 8 frames of 60 × 80 pixels, in two shards."""
    return render_rooms(tmp_path_factory.mktemp("rooms") / "S", config=replace(CONFIG, voxel=0.1))


@pytest.fixture(scope="session")
def large_room(tmp_path_factory):
    """One room whose points, with random labels and colors, fill three chunks."""

    def load(record, root):
        return replace(box_room.scene(8), points=random_points())

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "large", sources.Source(box_room.source.list_shapes, load))
        config = replace(CONFIG, points=LARGE)
        store = render_rooms(tmp_path_factory.mktemp("large") / "S", 1, config=config, name="large")
    assert store.counts(0)["point_count"] == LARGE > 2 * BLOCK
    return store


def random_points():
    """Points on the walls of the room."""
    rng = np.random.default_rng(0)
    low, high = box_room.ROOM
    points = rng.uniform(low, high, (LARGE, 3))
    axis, side = rng.integers(3, size=LARGE), rng.integers(2, size=LARGE)
    points[np.arange(LARGE), axis] = box_room.ROOM[side, axis]
    normals = rng.normal(size=(LARGE, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return ScenePoints(
        points,
        rng.integers(256, size=(LARGE, 3)).astype(np.uint8),
        normals.astype(np.float32),
        rng.integers(-1, 4, LARGE).astype(np.int16),
    )
