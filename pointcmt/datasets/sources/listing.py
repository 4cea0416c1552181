"""What a source gives back: the shapes of a data set, in order, with where they come from."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pointcmt.datasets.store.schema import SPLITS, ShapeRecord
from pointcmt.errors import UsageError, nearest
from pointcmt.files import read_regular
from pointcmt.shapes import Cloud, Mesh

MAX_LIST = 8 << 20  # bytes of a list that comes with a data set: the published ones have up to 3 MB
SPLIT_FOLDERS = {  # what directories of a split are called, in lower case
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
    """The shapes of a data set, found without reading any of them.

    root: what `ShapeRecord.source` is relative to; None where nothing is on disk. class_names: the
    order of the labels, the same whichever classes are present. up: axis of the sources, "x", "y"
    or "z". official: shapes per split as published, to be compared with. notes: what a user should
    know of this particular directory. part_names: per class, where shapes carry part labels. kind:
    what all of the shapes are. follow_links: whether links to directories outside of the root may
    be followed.
    """

    name: str
    root: Path | None
    shapes: tuple[ShapeRecord, ...]
    class_names: tuple[str, ...]
    up: str
    licence: str
    url: str
    official: dict[str, int] | None
    notes: tuple[str, ...]
    part_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kind: Literal["mesh", "cloud"] = "mesh"
    follow_links: bool = False

    def counts(self) -> dict[str, int]:
        """How many shapes there are per split, for the splits that are present."""
        found = Counter(shape.split for shape in self.shapes)
        return {split: found[split] for split in SPLITS if found[split]}


@dataclass(frozen=True)
class Source:
    """A data set under one name: how its shapes are listed and, where they are no files, made.

    list_shapes(name, root): all shapes, without reading any. name: of the data set; root: the
    user's --root, or None. Raises UsageError where the root does not hold the data set.

    load_shape(record, root): one shape of the listing, a `Mesh` or a `Cloud` as its `kind` says, in
    the axes that its `up` says; root: the listing's. Raises ShapeRefused where it cannot be made.
    The same record must always give the same shape, in any process. The record may be of a store
    that someone else has written. Without it, `ShapeRecord.source` is a file below the root, in one
    of the formats that pointcmt reads.
    """

    list_shapes: Callable[[str, Path | None], Listing]
    load_shape: Callable[[ShapeRecord, Path | None], Mesh | Cloud] | None = None


def select(listing: Listing, split: str | None = None, limit: int | None = None) -> Listing:
    """The shapes of one split, and at most `limit` of them, in the listing's order.

    A limit is spread evenly over splits and classes: each pair of them gives as many of its first
    shapes as the others, as far as it has them. Raises UsageError where nothing would be left.
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
                f"{listing.name} has no shapes of the split '{split}' here",
                where="--split",
                fix=f"there are: {found}",
            )
    if limit is not None:
        if limit < 1:
            raise UsageError(f"a limit of {limit} leaves no shapes", where="--limit")
        shapes = _spread(shapes, listing.class_names, limit)
    return replace(listing, shapes=shapes)


def split_source(source: str) -> tuple[str, int | None]:
    """The file of a shape's source, and the row of it: `a.h5#17` is row 17 of an HDF5 file."""
    name, mark, row = source.rpartition(".h5#")
    if mark and row.isascii() and row.isdecimal():
        return f"{name}.h5", int(row)
    return source, None


def require_root(root: Path | None, dataset: str, obtain: str) -> Path:
    """The directory of a data set. Raises UsageError with how to obtain it where it is missing."""
    if root is None:
        raise UsageError(f"{dataset} needs the directory it lies in", where="--root", fix=obtain)
    if not root.exists():
        raise UsageError("there is no such directory", where=str(root), fix=obtain)
    if not root.is_dir():
        raise UsageError("this is a file, not a directory", where=str(root), fix=obtain)
    return root


def is_inside(path: str | Path, limit: str | Path) -> bool:
    """Return whether a path is a directory or below it, links followed in both."""
    real, top = os.path.realpath(path), os.path.realpath(limit)
    return real == top or real.startswith(f"{top.rstrip('/')}/")


def unrecognised(root: Path, expected: str, obtain: str) -> UsageError:
    """The error for a directory that does not look like the data set."""
    names = sorted(folders(root)) + sorted(files(root))
    found = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return UsageError(
        f"expected {expected}; found {found or 'an empty directory'}", where=str(root), fix=obtain
    )


def folders(path: Path) -> list[str]:
    """The names of the directories in a directory, links to such included, hidden ones not."""
    return [entry.name for entry in _entries(path) if is_folder(entry)]


def files(path: Path) -> list[str]:
    """The names of the files in a directory, hidden ones not."""
    return [entry.name for entry in _entries(path) if not is_folder(entry)]


def read_list(path: Path, most: int = MAX_LIST, fix: str = "") -> str:
    """Return the text of a list beside a data set. Raises UsageError where it cannot be read."""
    try:
        return read_regular(path, most).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        what = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(f"{path.name} cannot be read: {what}", where=str(path), fix=fix) from error


def is_text(name: str) -> bool:
    """Whether a file name is valid text: only then it can be written into a plan."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def _entries(path: Path) -> Iterable[os.DirEntry[str]]:
    """What is in a directory, sorted. Raises UsageError where it cannot be read."""
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
        if room < len(left):  # the last round: every so manieth of those that have more
            left = [left[(2 * i + 1) * len(left) // (2 * room)] for i in range(room)]
        chosen += [queue[taken] for queue in left]
        taken += 1
    return tuple(shapes[index] for index in sorted(chosen))
