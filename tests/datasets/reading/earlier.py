"""A store as the versions wrote it whose matrices shared the names of the images' axes."""

import json
from pathlib import Path

from pointcmt.datasets.store.metadata import (
    group_metadata,
)
from pointcmt.datasets.store.schema import (
    ROOT,
    encode_json,
)
from pointcmt.datasets.store.view_store import ViewStore

EARLIER = {
    "K": ["shape", "view", "row", "column"],
    "world_to_camera": ["shape", "view", "row", "column"],
    "source_to_world": ["shape", "row", "column"],
}


def make_earlier(path):
    """Give a store of today the metadata of then: the arrays' names of axes, the root alone."""
    attributes = ViewStore.open(path).attributes
    Path(path, ROOT).write_bytes(group_metadata(attributes))
    for name, axes in EARLIER.items():
        metadata = Path(path, name, ROOT)
        table = json.loads(metadata.read_bytes())
        assert table["dimension_names"] != axes
        metadata.write_bytes(encode_json({**table, "dimension_names": axes}))
