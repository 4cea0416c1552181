"""Data sets: which shapes there are, of which class and split. No shape is read here."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from pointcmt.datasets.sources.folder import list_folder
from pointcmt.datasets.sources.listing import Listing, is_inside, select, split_source
from pointcmt.datasets.sources.modelnet import list_modelnet
from pointcmt.datasets.sources.modelnet_clouds import list_modelnet_clouds
from pointcmt.datasets.sources.scanobjectnn import VARIANTS, list_scanobjectnn
from pointcmt.datasets.sources.shapenet import list_shapenet
from pointcmt.datasets.sources.shapenetpart import list_shapenetpart
from pointcmt.errors import MOST_DETAIL, UsageError, nearest, shortened

__all__ = ["SOURCES", "Listing", "list_shapes", "select"]


def list_shapes(
    dataset: str, root: Path | None, up: str | None = None, follow_links: bool = False
) -> Listing:
    """The shapes of a data set by its name in SOURCES; up: axis that overrides the data set's own.

    follow_links: whether shapes are listed that lie in directories outside of the root, to which
    links in it lead. Raises UsageError for an unknown name, and for a root that is missing or holds
    something else: the error says what was expected and how to obtain the data.
    """
    if dataset not in SOURCES:
        raise UsageError(
            f"unknown dataset '{dataset}'", where="--dataset", fix=nearest(dataset, SOURCES)
        )
    if up is not None and up not in ("x", "y", "z"):
        raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
    root = None if root is None else Path(root)
    source = SOURCES[dataset]
    if source is list_folder:  # it walks: what a link leads to may be all of the disk
        source = partial(list_folder, follow_links=follow_links)
    listing = source(dataset, root)
    if follow_links:
        listing = replace(listing, follow_links=True)
    elif root is not None:
        listing = _without_outsiders(listing, root)
    notes = tuple(shortened(note, MOST_DETAIL) for note in listing.notes)
    return replace(listing, notes=notes, up=up or listing.up)


def _without_outsiders(listing: Listing, given: Path) -> Listing:
    """Leave out, and note, the shapes in directories that links outside of the root lead to.

    given: the root that the user named. The listing's own lies above it where that was one class.
    """
    root = listing.root or given
    limit = root if is_inside(given, root) else given
    folder_of = {
        s.source: str(PurePosixPath(split_source(s.source)[0]).parent) for s in listing.shapes
    }
    outside = {name for name in set(folder_of.values()) if not is_inside(root / name, limit)}
    if not outside:
        return listing
    shapes = tuple(s for s in listing.shapes if folder_of[s.source] not in outside)
    what = (
        f"{len(listing.shapes) - len(shapes)} shapes are left out: links lead to them out of the "
        f"root, such as {min(outside)}"
    )
    if not shapes:
        fix = "use --follow-links, or give --root the directory that the link leads to"
        raise UsageError(what, where=str(given), fix=fix)
    return replace(listing, shapes=shapes, notes=(*listing.notes, f"{what} (see --follow-links)"))


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
