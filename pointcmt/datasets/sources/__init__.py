"""Datasets: list their shapes, classes and splits without reading any shape."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath

from pointcmt import plugins
from pointcmt.datasets.sources.listing import (
    Listing,
    Source,
    is_inside,
    select,
    split_source,
)
from pointcmt.datasets.sources.scanobjectnn import VARIANTS
from pointcmt.datasets.store.schema import SPLITS, ShapeRecord
from pointcmt.errors import MOST_DETAIL, PointcmtError, UsageError, nearest, shortened
from pointcmt.input_frame import InputFrame
from pointcmt.shapes import Cloud, Mesh

__all__ = ["SOURCES", "Listing", "Source", "find_source", "list_shapes", "select"]


def list_shapes(
    dataset: str, root: Path | None, up: str | None = None, follow_links: bool = False
) -> Listing:
    """Return the shapes of a dataset by name; up: axis that overrides the dataset's own.

    dataset: a name in SOURCES, or a source from outside the package (see `find_source`).
    follow_links: whether to list shapes in directories outside the root that links in it point to.
    Raises UsageError for an unknown name, and for a root that is missing or holds something else:
    the error tells what was expected and how to obtain the data.
    """
    source = find_source(dataset)
    if up is not None and up not in ("x", "y", "z"):
        raise UsageError(f"unknown up axis '{up}'", where="--up", fix="known: x, y, z")
    root = None if root is None else Path(root)
    list_them: Callable[..., Listing] = source.list_shapes
    if dataset in WALKERS:  # they walk directories: a link may lead to the whole disk
        list_them = partial(list_them, follow_links=follow_links)
    listing = (list_them if dataset in SOURCES else _checked(source))(dataset, root)
    if follow_links:
        listing = replace(listing, follow_links=True)
    elif root is not None and source.load_shape is None:
        listing = _without_outsiders(listing, root)
    notes = tuple(shortened(note, MOST_DETAIL) for note in listing.notes)
    return replace(listing, notes=notes, up=up or listing.up)


def find_source(dataset: str, where: str = "--dataset") -> Source:
    """Return a source: from SOURCES, an entry point of `pointcmt.sources`, or `module:name`.

    where: the setting that names it, for messages. Raises UsageError for an unknown name, and for
    one from outside that cannot be imported or is neither a `Source` nor a function that lists
    shapes.
    """
    found = SOURCES.get(dataset)
    if found is None:
        found = plugins.find(plugins.SOURCES, dataset, where)
    if found is None:
        known = [*SOURCES, *plugins.names(plugins.SOURCES)]
        raise UsageError(f"unknown dataset '{dataset}'", where=where, fix=nearest(dataset, known))
    if isinstance(found, Source):
        return found
    if isinstance(found, type) or not callable(found):
        what = (
            f"must be a Source or a function that returns a Listing, not a {type(found).__name__}"
        )
        raise plugins.mistake(plugins.SOURCES, dataset, what)
    return Source(found)


def _checked(source: Source) -> Callable[[str, Path | None], Listing]:
    """Return the source's `list_shapes` with its result checked; for sources from outside."""

    def list_and_check(dataset: str, root: Path | None) -> Listing:
        try:
            listing = source.list_shapes(dataset, root)
        except PointcmtError:
            raise
        except Exception as error:  # the source's code may raise anything
            what = f"failed to list its shapes: {type(error).__name__}: {error}"
            raise plugins.mistake(plugins.SOURCES, dataset, what) from error
        wrong = _fault(listing)
        if wrong:
            raise plugins.mistake(plugins.SOURCES, dataset, wrong)
        return replace(listing, name=dataset)  # a store finds its source by this name

    return list_and_check


KINDS = ("mesh", "cloud", "scene")
WALKERS = ("folder", "clouds", "frames", "scannet")


def _fault(listing: object) -> str:
    """Return what is wrong with a listing from outside the package; "" if it is valid."""
    if not isinstance(listing, Listing):
        return f"returned a {type(listing).__name__}, not a Listing"
    if listing.up not in ("x", "y", "z") or listing.kind not in KINDS:
        return f"returned a Listing with up={listing.up!r} and kind={listing.kind!r}"
    stated: object = listing.input
    if not isinstance(stated, InputFrame | None):
        return f"returned a Listing with input={stated!r}, not an InputFrame"
    if not listing.shapes:
        return "listed no shapes"
    if not all(isinstance(shape, ShapeRecord) for shape in listing.shapes):
        return "listed shapes that are not ShapeRecords"
    ids = {shape.id for shape in listing.shapes}
    if len(ids) < len(listing.shapes):
        return "listed several shapes with the same id"
    for shape in listing.shapes:
        if shape.split not in SPLITS:
            return f"listed {shape.id} in the split {shape.split!r}"
        if shape.class_name is not None and shape.class_name not in listing.class_names:
            return f"listed {shape.id}, whose class {shape.class_name!r} is not in class_names"
    return ""


def _without_outsiders(listing: Listing, given: Path) -> Listing:
    """Leave out shapes that are reached by links to directories outside the root, with a note.

    given: the root that the user passed. If it was a single class, the listing's root is above it.
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
        f"{len(listing.shapes) - len(shapes)} shapes are left out: they are reached by links to "
        f"folders outside the root, such as {min(outside)}"
    )
    if not shapes:
        fix = "use --follow-links, or set --root to the folder that the link points to"
        raise UsageError(what, where=str(given), fix=fix)
    return replace(listing, shapes=shapes, notes=(*listing.notes, f"{what} (see --follow-links)"))


def _list_toy(dataset: str, root: Path | None) -> Listing:
    """List the built-in shapes; they are generated when rendered and need no root."""
    from pointcmt.datasets.sources.toy import CLASS_NAMES, PART_NAMES, list_toy

    if root is not None:
        raise UsageError(
            "toy shapes are built in and have no root", where="--root", fix="leave it out"
        )
    return Listing(
        name=dataset,
        root=None,
        shapes=tuple(list_toy()),
        class_names=tuple(CLASS_NAMES),
        up="z",
        license="MIT, like pointcmt",
        url="",
        official=None,
        notes=(),
        part_names=dict(PART_NAMES),
    )


def _build_toy(record: ShapeRecord, root: Path | None) -> Mesh | Cloud:
    from pointcmt.datasets.sources import toy

    return toy.build(record.id)


def _from(module: str) -> Callable[..., Listing]:
    """Return the function list_MODULE of a module here, which is imported when it is called.

    Rendering one dataset need not wait for the modules of the others.
    """

    def list_them(dataset: str, root: Path | None, **options: bool) -> Listing:
        source = import_module(f"{__name__}.{module}")
        listing: Listing = getattr(source, f"list_{module}")(dataset, root, **options)
        return listing

    return list_them


SOURCES: dict[str, Source | Callable[[str, Path | None], Listing]] = {
    "modelnet10": _from("modelnet"),
    "modelnet40": _from("modelnet"),
    "shapenetcore": _from("shapenet"),
    "folder": _from("folder"),
    "toy": Source(_list_toy, _build_toy),
    "modelnet10-clouds": _from("modelnet_clouds"),
    "modelnet40-clouds": _from("modelnet_clouds"),
    "shapenetpart": _from("shapenetpart"),
    **dict.fromkeys(VARIANTS, _from("scanobjectnn")),
    "clouds": _from("folder"),
    "toyrooms": _from("toyrooms"),
    "frames": _from("frames"),
    "scannet": _from("scannet"),
    "s3dis": _from("s3dis"),
    **{f"s3dis-area{area}": _from("s3dis") for area in range(1, 7)},
    "sunrgbd": _from("sunrgbd"),
    "sunrgbd-v2": _from("sunrgbd"),
}
