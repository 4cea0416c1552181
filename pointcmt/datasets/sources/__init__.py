"""Data sets: which shapes there are, of which class and split. No shape is read here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pointcmt.datasets.sources.folder import list_folder
from pointcmt.datasets.sources.listing import Listing, select
from pointcmt.datasets.sources.modelnet import list_modelnet
from pointcmt.datasets.sources.modelnet_clouds import list_modelnet_clouds
from pointcmt.datasets.sources.scanobjectnn import VARIANTS, list_scanobjectnn
from pointcmt.datasets.sources.shapenet import list_shapenet
from pointcmt.datasets.sources.shapenetpart import list_shapenetpart
from pointcmt.errors import UsageError, nearest

__all__ = ["SOURCES", "Listing", "list_shapes", "select"]


def list_shapes(dataset: str, root: Path | None, up: str | None = None) -> Listing:
    """The shapes of a data set by its name in SOURCES; up: axis that overrides the data set's own.

    Raises UsageError for an unknown name, and for a root that is missing or holds something else:
    the error says what was expected and how to obtain the data.
    """
    if dataset not in SOURCES:
        raise UsageError(
            f"unknown dataset '{dataset}'", where="--dataset", fix=nearest(dataset, SOURCES)
        )
    if up is not None and up not in ("x", "y", "z"):
        raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
    listing = SOURCES[dataset](dataset, None if root is None else Path(root))
    return listing if up is None else replace(listing, up=up)


def _list_toy(dataset: str, root: Path | None) -> Listing:
    """The built-in shapes; they are made when they are rendered, and need no root."""
    from pointcmt.datasets.sources.toy import CLASS_NAMES, PART_NAMES, list_toy

    if root is not None:
        raise UsageError("toy shapes come from no directory", where="--root", fix="leave it out")
    return Listing(
        name=dataset,
        root=None,
        shapes=tuple(list_toy()),
        class_names=tuple(CLASS_NAMES),
        up="z",
        licence="MIT, like pointcmt",
        url="",
        official=None,
        notes=(),
        part_names=dict(PART_NAMES),
    )


SOURCES: dict[str, Callable[[str, Path | None], Listing]] = {
    "modelnet10": list_modelnet,
    "modelnet40": list_modelnet,
    "shapenetcore": list_shapenet,
    "folder": list_folder,
    "toy": _list_toy,
    "modelnet10-clouds": list_modelnet_clouds,
    "modelnet40-clouds": list_modelnet_clouds,
    "shapenetpart": list_shapenetpart,
    **dict.fromkeys(VARIANTS, list_scanobjectnn),
    "clouds": list_folder,
}
