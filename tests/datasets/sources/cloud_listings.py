"""Read a listing of clouds as a dict; catch the error of listing a folder."""

import h5py
import pytest

from pointcmt.datasets.sources import list_shapes
from pointcmt.datasets.sources.listing import split_source
from pointcmt.errors import UsageError


def found(listing):
    """Class and split by id; checks that sources are files of the root and rows exist."""
    assert len({shape.id for shape in listing.shapes}) == len(listing.shapes)
    for shape in listing.shapes:
        name, row = split_source(shape.source)
        assert (listing.root / name).is_file()
        if row is not None:
            with h5py.File(listing.root / name) as file:
                assert row < len(file["data"])
    assert {shape.class_name for shape in listing.shapes} - {None} <= set(listing.class_names)
    assert listing.kind == "cloud"
    return {shape.id: (shape.class_name, shape.split) for shape in listing.shapes}


def error(dataset, root):
    with pytest.raises(UsageError) as raised:
        list_shapes(dataset, root)
    return raised.value
