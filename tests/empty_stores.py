"""Small stores that are created, not rendered."""

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.schema import (
    SCHEMA_VERSION,
    Schema,
    ShapeRecord,
    schema_attributes,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.errors import StoreError

SHAPES = [ShapeRecord(f"thing/{i}", "thing", "train", f"thing/{i}.off") for i in range(7)]


def attributes(seed=0, up="z"):
    schema = Schema(shapes=7, views=2, size=8, points=12, shard=3, depth_scale=5e-5)
    return {
        "schema_version": SCHEMA_VERSION,
        "schema": schema_attributes(schema),
        "render": {"seed": seed, "rig": {"name": "pair"}},
        "render_hash": "",
        "source": {"name": "test", "root": None, "up": up, "licence": "none"},
        "class_names": ["thing"],
        "versions": {},
    }


def make(path):
    create(Storage(path), attributes(), SHAPES)


def make_with(path, seed, said):
    """Create a store; put its seed into `said`, or the error's text."""
    try:
        create(Storage(path), attributes(seed), SHAPES)
        said.put(seed)
    except StoreError as error:
        said.put(error.what)
