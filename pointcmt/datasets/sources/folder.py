"""Any tree of mesh or cloud files: classes and splits from its directories, or `labels.csv`."""

import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pointcmt.datasets.schema import ShapeRecord
from pointcmt.datasets.sources.listing import (
    SPLIT_FOLDERS,
    Listing,
    is_text,
    require_root,
    unrecognised,
)
from pointcmt.errors import UsageError

# By name of the data set. A PLY file may be either: which, the user says, and never its content.
SUFFIXES = {
    "folder": (".off", ".obj", ".ply", ".stl", ".glb"),
    "clouds": (".ply", ".xyz", ".txt", ".pts", ".npy"),
}
LABELS = "labels.csv"
OBTAIN = {
    "folder": "give --root a directory that holds mesh files, at any depth",
    "clouds": "give --root a directory that holds files of clouds, at any depth",
}


def list_folder(dataset: str, root: Path | None) -> Listing:
    """List every mesh ("folder") or cloud ("clouds") below `root`, in the order of their paths.

    Hidden directories are left out.
    The class is the first directory that is not named like a split, the split the first that is
    (else train). With a `labels.csv` (header id, class, split) in the root classes come from there
    alone, so that a shape it does not list has none; an id is a path with or without its suffix.
    Raises UsageError where there are none, and for lines of `labels.csv` that fit no shape.
    """
    suffixes, obtain = SUFFIXES[dataset], OBTAIN[dataset]
    root = require_root(root, dataset, obtain)
    paths, notes = _walk(root)
    found = sorted(path for path in paths if Path(path).suffix.lower() in suffixes)
    if not found:
        raise unrecognised(root, f"files of {', '.join(suffixes)}", obtain)
    rest = paths - set(found) - {LABELS}
    others = Counter(Path(path).suffix.lower() or "no suffix" for path in rest)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(4))
        notes.append(f"{others.total()} other files ignored ({kinds}{', …' * (len(others) > 4)})")
    stems = Counter(_stem(path) for path in found)
    shapes = [_record(path, _stem(path) if stems[_stem(path)] == 1 else path) for path in found]
    if LABELS in paths:
        shapes, unlisted = _label(shapes, root / LABELS)
        if unlisted:
            notes.append(f"{unlisted} shapes are not in {LABELS}: they have no class")
    classes = sorted({shape.class_name for shape in shapes if shape.class_name is not None})
    if len(classes) == 1 and LABELS not in paths and all(s.source.count("/") > 1 for s in shapes):
        notes.append(f"all shapes have the class '{classes[0]}': is the root one level too high?")
    return Listing(
        name=dataset,
        root=root,
        shapes=tuple(shapes),
        class_names=tuple(classes),
        up="y",
        licence="that of the files",
        url="",
        official=None,
        notes=tuple(notes),
        kind="cloud" if dataset == "clouds" else "mesh",
    )


def _walk(root: Path) -> tuple[set[str], list[str]]:
    """All files below the root as posix paths relative to it, and notes.

    Links to directories are followed after all real ones; each directory is entered once.
    """
    found: set[str] = set()
    unreadable: list[str] = []
    unnamed = 0
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        links = []
        for folder, subfolders, names in os.walk(
            waiting.pop(0), onerror=lambda error: unreadable.append(str(error.filename))
        ):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            links += [Path(folder, n) for n in subfolders if os.path.islink(Path(folder, n))]
            shown = [name for name in names if not name.startswith(".")]
            relative = [Path(folder, name).relative_to(root).as_posix() for name in shown]
            found |= {path for path in relative if is_text(path)}
            unnamed += sum(not is_text(path) for path in relative)
        waiting += links
    notes = []
    if unreadable:
        notes.append(f"{len(unreadable)} directories cannot be read, first {unreadable[0]}")
    if unnamed:
        notes.append(f"{unnamed} files whose names are not valid text ignored")
    return found, notes


def _stem(path: str) -> str:
    """A posix path without its suffix."""
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
    """The shapes with the classes and splits of `labels.csv`, and how many it does not list."""
    names: dict[str, list[int]] = {}
    for index, shape in enumerate(shapes):
        for name in {shape.source, _stem(shape.source)}:
            names.setdefault(name, []).append(index)
    labels: dict[int, tuple[str | None, str | None]] = {}
    for line, shape_id, label, split in _rows(path):
        matches = names.get(shape_id.replace("\\", "/").removeprefix("./"), [])
        if len(matches) != 1:
            what = "is no shape here" if not matches else "may be several files: add the suffix"
            raise _labels_error(path, line, f"'{shape_id}' {what}")
        if matches[0] in labels:
            raise _labels_error(path, line, f"'{shape_id}' is listed twice")
        if split and split.lower() not in SPLIT_FOLDERS:
            raise _labels_error(path, line, f"unknown split '{split}'; known: train, test, val")
        labels[matches[0]] = label or None, SPLIT_FOLDERS.get((split or "").lower())
    labelled = []
    for index, shape in enumerate(shapes):
        class_name, known = labels.get(index, (None, None))
        labelled.append(replace(shape, class_name=class_name, split=known or shape.split))
    return labelled, len(shapes) - len(labels)


def _rows(path: Path) -> list[tuple[int, str, str, str]]:
    """(line, id, class, split) of each line that is not empty; the last two may be empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise UsageError(f"{LABELS} cannot be read: {error}", where=str(path)) from error
    if "id" not in header or not {"class", "split"} & set(header):
        raise _labels_error(path, 1, "the header must be id,class,split")
    where = {name: header.index(name) for name in ("id", "class", "split") if name in header}
    found = []
    for line, row in rows:
        if any(row):
            cell = {name: row[at] if at < len(row) else "" for name, at in where.items()}
            found.append((line, cell["id"], cell.get("class", ""), cell.get("split", "")))
    return found


def _labels_error(path: Path, line: int, what: str) -> UsageError:
    return UsageError(
        f"{LABELS}, line {line}: {what}",
        where=str(path),
        fix="its lines are id,class,split, an id being a path below the root",
    )
