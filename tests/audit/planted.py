"""Copies of stores with faults, and meshes that are the same shape in another place."""

import numpy as np
import trimesh

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import CORRESPONDENCES, RENDER, render_arrays
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore

DERIVED = ("plan_sha256", "store")  # attributes that follow from the others


def planted(store, out, edit, correspondences=True):
    """A copy of a store of objects. edit(arrays, classes): changes the arrays [O,...] by name in
    place; classes: the name of each shape's class, [O].
    """
    shapes = list(store.shapes)
    names = [name for name in store.specs if correspondences or name != "visible"]
    arrays = {name: store.read(name).copy() for name in names}
    edit(arrays, np.array([shape.class_name for shape in shapes]))
    attributes = {key: value for key, value in store.attributes.items() if key not in DERIVED}
    copy = create(Storage(out), attributes, shapes)
    for shard in range(copy.schema.shards):
        rows = copy.schema.shapes_of(shard)
        some = slice(rows.start, rows.stop)
        rendered = {name: arrays[name][some] for name in render_arrays(copy.schema)}
        outcomes = [encode_outcome(Outcome(shapes[shape].id, "done")) for shape in rows]
        files = copy.write_shard(shard, rendered)
        copy.commit(RENDER, shard, {"outcomes": outcomes, "files": files})
        if correspondences:
            files = copy.write_shard(shard, {"visible": arrays["visible"][some]})
            copy.commit(CORRESPONDENCES, shard, {"failures": [], "files": files})
    return ViewStore.open(out)


def rolled(images):
    """Images [...,H,W(,C)] of cameras that are turned by 90° about their axis, and that turn."""
    turned = np.stack([np.rot90(image, axes=(1, 2)) for image in images])
    return turned, np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])


def write_mesh(path, mesh, scale=1.0, rotation=None):
    """Write a mesh as OFF, scaled and rotated ([3,3])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vertices = scale * mesh.vertices @ (np.eye(3) if rotation is None else rotation).T
    trimesh.Trimesh(vertices, mesh.faces, process=False).export(path)


def random_rotation(seed):
    return trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))[
        :3, :3
    ]
