"""Any tree of mesh or cloud files: classes and splits from directories or `labels.csv`."""

import csv
import io
import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pointcmt.datasets.sources.formats import CLOUDS, MESHES, kind_of_unread, unknown, unread
from pointcmt.datasets.sources.listing import (
    SPLIT_FOLDERS,
    Listing,
    is_folder,
    is_inside,
    is_text,
    read_list,
    require_root,
    unrecognized,
)
from pointcmt.datasets.sources.split_lists import apply_lists, find_lists
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError

# By name of the dataset, which also decides whether a PLY file is read as a mesh or as a cloud.
SUFFIXES = {"folder": tuple(MESHES), "clouds": tuple(CLOUDS)}
LABELS = "labels.csv"
MOST_NAMED = 5  # formats in an error
MAX_LABELS = 256 << 20  # bytes of labels.csv: several million shapes
OBTAIN = {
    "folder": "set --root to a folder that contains mesh files, at any depth",
    "clouds": "set --root to a folder that contains point cloud files, at any depth",
}


def list_folder(dataset: str, root: Path | None, follow_links: bool = False) -> Listing:
    """List every mesh ("folder") or cloud ("clouds") below `root`, in the order of their paths.

    Hidden directories are skipped; without `follow_links`, so are links to directories outside the
    root. The class is the first directory that is not named like a split; the split is the first
    that is (default: train). Split lists beside clouds (train.txt, …) override the directories.
    With a `labels.csv` (header id, class, split) in the root, classes come only from there, and a
    shape that it does not list has none; an id is a path with or without its suffix. Raises
    UsageError if there are no files, and for lines of `labels.csv` that match no shape.
    """
    suffixes, obtain = SUFFIXES[dataset], OBTAIN[dataset]
    root = require_root(root, dataset, obtain)
    paths, notes, left = _walk(root, follow_links)
    lists, other = find_lists(root, paths) if dataset == "clouds" else ({}, set())
    found = sorted(
        path for path in paths - other - {LABELS} if Path(path).suffix.lower() in suffixes
    )
    rest = paths - set(found) - {LABELS} - {path for split in lists.values() for path in split}
    not_read = {kind_of_unread(dataset, s): n for s, n in unread(dataset, rest).items()}
    if not found:
        said = [f"{count} {kind}" for kind, count in [*not_read.items()][:MOST_NAMED]]
        obtain = "; ".join([*said, obtain, *(notes[-1:] if left else ())])
        raise unrecognized(root, f"files of {', '.join(suffixes)}", obtain)
    notes += [f"{count} {kind}" for kind, count in not_read.items()]
    others = unknown(dataset, rest)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in [*others.items()][:4])
        total = sum(others.values())
        notes.append(f"{total} other files ignored ({kinds}{', …' * (len(others) > 4)})")
    stems = Counter(_stem(path) for path in found)
    shapes = [_record(path, _stem(path) if stems[_stem(path)] == 1 else path) for path in found]
    if lists:
        shapes, of_lists = apply_lists(shapes, root, lists)
        notes += of_lists
    if LABELS in paths:
        shapes, unlisted = _label(shapes, root / LABELS)
        if unlisted:
            notes.append(f"{unlisted} shapes are not listed in {LABELS} and have no class")
    classes = sorted({shape.class_name for shape in shapes if shape.class_name is not None})
    if len(classes) == 1 and LABELS not in paths and all(s.source.count("/") > 1 for s in shapes):
        notes.append(f"all shapes have the class '{classes[0]}': --root may be one level too high")
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(shapes),
        class_names=tuple(classes),
        up="y",
        license="that of the files",
        url="",
        official=None,
        notes=tuple(notes),
        not_read=not_read,
        kind="cloud" if dataset == "clouds" else "mesh",
    )


def _walk(root: Path, follow_links: bool) -> tuple[set[str], list[str], list[str]]:
    """Return all files below the root as relative posix paths, notes, and links not followed.

    Links to directories are visited after all real directories; each directory is visited once.
    """
    found: set[str] = set()
    unreadable: list[str] = []
    left: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = deque([""])
    while waiting:
        stack = [waiting.popleft()]
        while stack:
            folder = stack.pop()
            try:
                files, folders, links = _look_into(root / folder, seen)
            except OSError:
                unreadable.append(str(root / folder))
                continue
            prefix = f"{folder}/" if folder else ""
            found |= {prefix + name for name in files}
            stack += [prefix + name for name in sorted(folders, reverse=True)]
            for link in (prefix + name for name in sorted(links)):
                follow = follow_links or is_inside(root / link, root)
                (waiting if follow else left).append(link)
    unnamed = {path for path in found if not is_text(path)}
    notes = []
    if unreadable:
        notes.append(f"{len(unreadable)} folders cannot be read, such as {unreadable[0]}")
    if unnamed:
        notes.append(f"{len(unnamed)} files ignored: their names are not valid UTF-8")
    if left:
        what = f"{len(left)} links to folders outside the root are not followed"
        notes.append(f"{what}, such as {left[0]} (see --follow-links)")
    return found - unnamed, notes, left


def _look_into(folder: Path, seen: set[tuple[int, int]]) -> tuple[list[str], list[str], list[str]]:
    """Return a directory's files, directories and links to directories; empty if `seen` before."""
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) not in seen:
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    kind = files if not is_folder(entry) else folders
                    (links if kind is folders and entry.is_symlink() else kind).append(entry.name)
    return files, folders, links


def _stem(path: str) -> str:
    """Return a posix path without its suffix."""
    return path[: len(path) - len(Path(path).suffix)]


def _record(path: str, shape_id: str) -> ShapeRecord:
    directories = path.split("/")[:-1]
    splits = [SPLIT_FOLDERS[name.lower()] for name in directories if name.lower() in SPLIT_FOLDERS]
    classes = [name for name in directories if name.lower() not in SPLIT_FOLDERS]
    return ShapeRecord(
        id=shape_id,
        class_name=classes[0] if classes else None,
        split=splits[0] if splits else "train",
        source=path,
    )


def _label(shapes: list[ShapeRecord], path: Path) -> tuple[list[ShapeRecord], int]:
    """Return the shapes with classes and splits from `labels.csv`, and how many it omits."""
    names: dict[str, list[int]] = {}
    for index, shape in enumerate(shapes):
        for name in {shape.source, _stem(shape.source)}:
            names.setdefault(name, []).append(index)
    labels: dict[int, tuple[str | None, str | None]] = {}
    for line, shape_id, label, split in _rows(path):
        matches = names.get(shape_id.replace("\\", "/").removeprefix("./"), [])
        if len(matches) != 1:
            what = (
                "is not a shape of this folder" if not matches else "is ambiguous: add the suffix"
            )
            raise _labels_error(path, line, f"'{shape_id}' {what}")
        if matches[0] in labels:
            raise _labels_error(path, line, f"'{shape_id}' is listed twice")
        if split and split.lower() not in SPLIT_FOLDERS:
            raise _labels_error(path, line, f"unknown split '{split}'; known: train, test, val")
        labels[matches[0]] = label or None, SPLIT_FOLDERS.get((split or "").lower())
    labeled = []
    for index, shape in enumerate(shapes):
        class_name, known = labels.get(index, (None, None))
        labeled.append(replace(shape, class_name=class_name, split=known or shape.split))
    return labeled, len(shapes) - len(labels)


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, id, class, split) of each line that is not empty; the last two may be empty."""
    reader = csv.reader(io.StringIO(read_list(path, MAX_LABELS), newline=""))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if "id" not in header or not {"class", "split"} & set(header):
            raise _labels_error(path, 1, "the header must be id,class,split")
        where = {name: header.index(name) for name in ("id", "class", "split") if name in header}
        for row in reader:
            if any(cell.strip() for cell in row):
                at = {name: row[i].strip() if i < len(row) else "" for name, i in where.items()}
                yield reader.line_num, at["id"], at.get("class", ""), at.get("split", "")
    except csv.Error as error:
        raise UsageError(f"{LABELS} cannot be read: {error}", where=str(path)) from error


def _labels_error(path: Path, line: int, what: str) -> UsageError:
    return UsageError(
        f"{LABELS}, line {line}: {what}",
        where=str(path),
        fix="each line must be id,class,split; an id is a path relative to the root",
    )
