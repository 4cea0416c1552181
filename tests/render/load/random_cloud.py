"""A cloud of random points, and what is checked of files that hold it."""

import numpy as np
import pytest

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import ShapeRefused
from pointcmt.render.load.clouds import CloudLoader

RNG = np.random.default_rng(7)
M = 60
POINTS = RNG.normal(size=(M, 3)).astype(np.float32).astype(np.float64)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
BYTES = RNG.integers(0, 256, (M, 3)).astype(np.float64)
UNIT = BYTES / 255
LABELS = RNG.integers(0, 5, (M, 1)).astype(np.float64)
INTENSITY = RNG.random((M, 1))


def load(path, dataset="clouds"):
    record = ShapeRecord("x", "chair", "train", path.name)
    return CloudLoader(dataset, path.parent).load(record)[0]


def refusal(path):
    with pytest.raises(ShapeRefused) as refused:
        load(path)
    return refused.value


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*columns, by=" "):
    table = np.column_stack(columns)
    return "".join(by.join(map(repr, row)) + "\n" for row in table.tolist())


def assert_cloud(cloud, normals=None, colors=None, points=POINTS):
    """The cloud has exactly these arrays, and no others."""
    np.testing.assert_array_equal(cloud.points, points)
    expected = np.zeros_like(points) if normals is None else normals
    np.testing.assert_array_equal(cloud.normals, expected)
    if colors is None:
        assert cloud.colors is None
    else:
        np.testing.assert_allclose(cloud.colors, colors, atol=1e-7)
    assert cloud.part is None
