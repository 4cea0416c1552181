"""Files of clouds for tests, and reading them."""

import io

import numpy as np
import pytest

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import ShapeRefused
from pointcmt.render.load.clouds import CloudLoader

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 3)).astype(np.float32).astype(np.float64)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


def load(path, dataset="clouds", class_name="chair", row=None):
    source = path.name if row is None else f"{path.name}#{row}"
    record = ShapeRecord("x", class_name, "train", source)
    return CloudLoader(dataset, path.parent).load(record)[0]


def refusal(path, *arguments, **more):
    with pytest.raises(ShapeRefused) as refused:
        load(path, *arguments, **more)
    return refused.value


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def ply(columns, table, faces=""):
    properties = "".join(f"property {name}\n" for name in columns)
    lines = "".join(" ".join(map(str, row)) + "\n" for row in np.asarray(table).tolist())
    count = f"element vertex {len(table)}\n"
    return f"ply\nformat ascii 1.0\n{count}{properties}{faces}end_header\n{lines}"


XYZ = ("float x", "float y", "float z")
