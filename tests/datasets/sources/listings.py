"""Read a listing of meshes as a dict; catch the error of listing a folder."""

from pathlib import Path

import pytest

from pointcmt.datasets.sources import Listing, list_shapes
from pointcmt.errors import UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(listing: Listing) -> dict[str, tuple[str | None, str]]:
    """Class and split by id; checks that ids and sources are unique, and sources are files."""
    assert len({shape.id for shape in listing.shapes}) == len(listing.shapes)
    assert len({shape.source for shape in listing.shapes}) == len(listing.shapes)
    assert listing.root is not None
    assert all((listing.root / shape.source).is_file() for shape in listing.shapes)
    classes = {shape.class_name for shape in listing.shapes} - {None}
    assert classes <= set(listing.class_names)
    return {shape.id: (shape.class_name, shape.split) for shape in listing.shapes}


def error(dataset: str, root: Path | None, **more: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        list_shapes(dataset, root, **more)
    return raised.value
