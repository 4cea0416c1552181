"""`Listing`: the shapes of a dataset in order, with their sources. `Source`: a dataset type."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pointcmt.datasets.store.schema import SPLITS, ShapeRecord
from pointcmt.errors import UsageError, nearest
from pointcmt.files import read_regular
from pointcmt.input_frame import InputFrame
from pointcmt.scenes import SceneData, SceneLabels
from pointcmt.shapes import Cloud, Mesh

MAX_NOTE = 1 << 20  # bytes of a text file about one scene
MAX_LIST = 8 << 20  # bytes of a list in a dataset: the published ones have up to 3 MB
SPLIT_FOLDERS = {  # names of directories of a split, in lower case
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


@dataclass(frozen=True)
class Listing:
    """The shapes of a dataset, found without reading any of them.

    root: directory that `ShapeRecord.source` is relative to; None if nothing is on disk.
    class_names: in label order, which does not depend on the classes present. up: axis of the
    sources, "x", "y" or "z". official: published number of shapes per split, for comparison. notes:
    what the user should know about this directory. part_names: per class, if shapes have part
    labels. not_read: number of files by kind of note, for files of shapes in other formats. kind:
    of all shapes. follow_links: whether links to directories outside the root may be followed.
    labels: of scenes, the classes of their points and boxes; class_names are then the types of
    scenes.
    spaces: the room that a scene shows, by id: scenes of the same one belong in the same split.
    input: the frame in which the benchmark's published networks take its clouds; None = as stored.
    """

    name: str
    root: Path | None
    shapes: tuple[ShapeRecord, ...]
    class_names: tuple[str, ...]
    up: str
    license: str
    url: str
    official: dict[str, int] | None
    notes: tuple[str, ...]
    part_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    not_read: dict[str, int] = field(default_factory=dict)
    kind: Literal["mesh", "cloud", "scene"] = "mesh"
    follow_links: bool = False
    labels: SceneLabels = field(default_factory=SceneLabels)
    spaces: dict[str, str] = field(default_factory=dict)
    input: InputFrame | None = None

    def counts(self) -> dict[str, int]:
        """Number of shapes per split, for the splits that are present."""
        found = Counter(shape.split for shape in self.shapes)
        return {split: found[split] for split in SPLITS if found[split]}


@dataclass(frozen=True)
class Source:
    """A dataset: a function that lists its shapes and, unless they are files, one that loads them.

    list_shapes: called with the name of the dataset and the user's --root, or None; returns all
    shapes, without reading any, and raises UsageError if the root does not hold the dataset.
    load_shape: called with a record and the listing's root; returns one shape, a `Mesh`, a `Cloud`
    or a `SceneData` according to the listing's `kind`, with the listing's `up` axis, and raises
    ShapeRefused if that fails. None: `ShapeRecord.source` is a file below the root, in one of the
    formats that pointcmt reads.

    The same record must always give the same shape, in any process. It may come from a store
    written by someone else.
    """

    list_shapes: Callable[[str, Path | None], Listing]
    load_shape: Callable[[ShapeRecord, Path | None], Mesh | Cloud | SceneData] | None = None


def select(listing: Listing, split: str | None = None, limit: int | None = None) -> Listing:
    """Select the shapes of one split, at most `limit`, in the listing's order.

    A limit is spread evenly over splits and classes: each pair of them gets the same number of
    shapes, its first ones, if it has enough. Raises UsageError if nothing would be left.
    """
    shapes = listing.shapes
    if split is not None:
        if split not in SPLITS:
            raise UsageError(
                f"unknown split '{split}'", where="--split", fix=nearest(split, SPLITS)
            )
        shapes = tuple(shape for shape in shapes if shape.split == split)
        if not shapes:
            found = ", ".join(f"{n} {name}" for name, n in listing.counts().items())
            raise UsageError(
                f"{listing.name} has no shapes in the split '{split}'",
                where="--split",
                fix=f"choose a split that has some: {found}",
            )
    if limit is not None:
        if limit < 1:
            raise UsageError(f"the limit must be at least 1, not {limit}", where="--limit")
        shapes = _spread(shapes, listing.class_names, limit)
    return replace(listing, shapes=shapes)


def split_source(source: str) -> tuple[str, int | None]:
    """Split a shape's source into file and row: `a.h5#17` is row 17 of an HDF5 file."""
    name, mark, row = source.rpartition(".h5#")
    if mark and row.isascii() and row.isdecimal():
        return f"{name}.h5", int(row)
    return source, None


def require_root(root: Path | None, dataset: str, obtain: str) -> Path:
    """Return a dataset's directory. If missing, raises UsageError with how to obtain it."""
    if root is None:
        raise UsageError(f"{dataset} needs a root folder", where="--root", fix=obtain)
    if not root.exists():
        raise UsageError("no such folder", where=str(root), fix=obtain)
    if not root.is_dir():
        raise UsageError("this is a file, not a folder", where=str(root), fix=obtain)
    return root


def is_inside(path: str | Path, limit: str | Path) -> bool:
    """Return whether a path is equal to or below a directory, resolving links in both."""
    real, top = os.path.realpath(path), os.path.realpath(limit)
    return real == top or real.startswith(f"{top.rstrip('/')}/")


def unrecognized(root: Path, expected: str, obtain: str) -> UsageError:
    """Return the error for a directory that does not look like the dataset."""
    names = sorted(folders(root)) + sorted(files(root))
    found = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return UsageError(
        f"expected {expected}; found {found or 'an empty folder'}", where=str(root), fix=obtain
    )


def folders(path: Path) -> list[str]:
    """Return the names of visible subdirectories, including links to directories."""
    return [entry.name for entry in _entries(path) if is_folder(entry)]


def files(path: Path) -> list[str]:
    """Return the names of the visible files in a directory."""
    return [entry.name for entry in _entries(path) if not is_folder(entry)]


def read_list(path: Path, most: int = MAX_LIST, fix: str = "") -> str:
    """Return the text of a list file of a dataset. Raises UsageError if it cannot be read."""
    try:
        return read_regular(path, most).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        what = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(f"{path.name} cannot be read: {what}", where=str(path), fix=fix) from error


def read_about(path: Path, root: Path, follow_links: bool = False) -> str:
    """Return the text of a file about one scene, "" if there is none that can be read.

    Files that a link leads to outside the root are not read without `follow_links`.
    """
    try:
        if not (follow_links or is_inside(path, root)):
            return ""
        return read_regular(path, MAX_NOTE).decode("utf-8-sig")
    except (OSError, UnicodeError):
        return ""


def is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8, so that it can be stored in a plan."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we lack permission
        return False


def _entries(path: Path) -> Iterable[os.DirEntry[str]]:
    """Return the entries of a directory, sorted. Raises UsageError if it cannot be read."""
    try:
        entries = [e for e in os.scandir(path) if not e.name.startswith(".") and is_text(e.name)]
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return sorted(entries, key=lambda entry: entry.name)


def _spread(
    shapes: tuple[ShapeRecord, ...], class_names: tuple[str, ...], limit: int
) -> tuple[ShapeRecord, ...]:
    order = {name: i for i, name in enumerate(class_names)}
    groups: dict[tuple[int, int], list[int]] = {}
    for index, shape in enumerate(shapes):
        key = (SPLITS.index(shape.split), order.get(shape.class_name or "", -1))
        groups.setdefault(key, []).append(index)
    queues = [groups[key] for key in sorted(groups)]
    chosen: list[int] = []
    taken = 0
    while len(chosen) < min(limit, len(shapes)):
        left = [queue for queue in queues if len(queue) > taken]
        room = limit - len(chosen)
        if room < len(left):  # last round: evenly spaced queues among those with shapes left
            left = [left[(2 * i + 1) * len(left) // (2 * room)] for i in range(room)]
        chosen += [queue[taken] for queue in left]
        taken += 1
    return tuple(shapes[index] for index in sorted(chosen))
