"""Split lists beside clouds: train.txt, test.txt, val.txt, modelnet40_train.txt and the like.

Each line names a shape: its path below the root, or the end of it, with or without the suffix and
the class's directory.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pointcmt.datasets.sources.listing import SPLIT_FOLDERS, read_list
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError
from pointcmt.files import open_regular

FOLDERS = ("", "split", "splits", "lists", "train_test_split")  # where lists are looked for
MAX_LIST = 256 << 20  # bytes: several million shapes
_SPLIT = re.compile(
    rf"(?:.*[_\-.])?({'|'.join(SPLIT_FOLDERS)})(?:[_\-.]?(?:split|list|files?|file_list|ids|set))?"
    r"\.(?:txt|lst|list|csv)",
    re.IGNORECASE,
)
_OTHER = re.compile(  # lists of names, and prose
    r"(?:.*[_\-.])?(?:filelist|file_list|names?|classes|categories|synsetoffset2category|readme|"
    r"license|licence|metadata|all|index|notes?|requirements)\.(?:txt|csv)",
    re.IGNORECASE,
)
_START = 4096  # bytes of a file that show whether it holds points
_PRECEDENCE = ("test", "val", "train")  # of a shape in several lists
_SHOWN = 80  # characters of a line in a note
_HEADERS = ("id", "name", "file", "filename", "path", "shape")  # of a column


def find_lists(root: Path, paths: Iterable[str]) -> tuple[dict[str, list[str]], set[str]]:
    """Return the split lists among a directory's files, by split, and all files that hold no cloud.

    Only text files at the top, or in a directory named like FOLDERS, whose name is that of a list
    and whose first lines are not points.
    """
    lists: dict[str, list[str]] = defaultdict(list)
    other = set()
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        split, is_other = _SPLIT.fullmatch(name), _OTHER.fullmatch(name)
        if folder.lower() in FOLDERS and (split or is_other) and not _holds_points(root / path):
            other.add(path)
            if split:
                lists[SPLIT_FOLDERS[split[1].lower()]].append(path)
    return dict(lists), other


def apply_lists(
    shapes: list[ShapeRecord], root: Path, lists: dict[str, list[str]]
) -> tuple[list[ShapeRecord], list[str]]:
    """Return the shapes with the splits of the lists, and notes.

    If there is a list for train, shapes that no list names are left out; else they keep the split
    of their directory. Raises UsageError for a line that fits several shapes, and if no line fits
    any shape.
    """
    index = _Index(shapes)
    found: dict[int, set[str]] = defaultdict(set)
    missing: list[str] = []
    for split, paths in lists.items():
        for path in paths:
            for number, line in enumerate(read_list(root / path, MAX_LIST).splitlines(), 1):
                name = _name_in(line, path)
                if not name or name.startswith("#") or (number == 1 and name.lower() in _HEADERS):
                    continue
                match = index.find(name, f"{path}, line {number}", root)
                if match is None:
                    missing.append(name)
                else:
                    found[match].add(split)
    names = ", ".join(sorted(path for paths in lists.values() for path in paths))
    if not found:
        raise UsageError(
            f"the split lists name none of the {len(shapes)} shapes, but "
            f"{missing[0][:_SHOWN]!r} and others" if missing else "the split lists are empty",
            where=f"{root}: {names}",
            fix="each line must be a path below the root, with or without suffix and class; "
            "or delete the lists",
        )  # fmt: skip
    notes = [f"splits are read from {names}"]
    if missing:
        notes.append(
            f"{len(missing)} shapes that the split lists name are missing, such as "
            f"{missing[0][:_SHOWN]!r}"
        )
    several = [i for i, splits in found.items() if len(splits) > 1]
    if several:
        notes.append(
            f"{len(several)} shapes are in several split lists, such as {shapes[several[0]].id}: "
            "test counts before val, val before train"
        )
    unlisted = len(shapes) - len(found)
    if unlisted and "train" in lists:
        notes.append(f"{unlisted} shapes are left out: no split list names them")
    elif unlisted:
        notes.append(f"{unlisted} shapes that no split list names keep the split of their folder")
    listed = [
        replace(shape, split=next(s for s in _PRECEDENCE if s in found[i])) if i in found else shape
        for i, shape in enumerate(shapes)
        if i in found or "train" not in lists
    ]
    return listed, notes


class _Index:
    """Finds shapes by the ends of their paths, with and without suffix."""

    def __init__(self, shapes: list[ShapeRecord]) -> None:
        self._shapes = shapes
        self._first: dict[str, int] = {}
        self._others: dict[str, set[int]] = defaultdict(set)  # few ends belong to several shapes
        for i, shape in enumerate(shapes):
            parts = shape.source.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                for key in {end, str(PurePosixPath(end).with_suffix(""))}:
                    if self._first.setdefault(key, i) != i:
                        self._others[key].add(i)

    def _matches(self, end: str) -> set[int]:
        if end not in self._first:
            return set()
        return {self._first[end], *self._others.get(end, ())}

    def find(self, name: str, where: str, root: Path) -> int | None:
        """Return the shape that a line names; None if it is missing.

        Directories at the line's beginning that no shape has, such as those of the machine that
        wrote it, are ignored.
        """
        parts = [part for part in re.split(r"[/\\]+", name) if part not in ("", ".")]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            matches = self._matches(end) or self._matches(_without_suffix(end))
            if len(matches) > 1:
                exact = {i for i in matches if end in (self._shapes[i].source, self._shapes[i].id)}
                matches = exact or matches
            if len(matches) == 1:
                return next(iter(matches))
            if matches:
                some = ", ".join(self._shapes[i].source for i in sorted(matches)[:2])
                raise UsageError(
                    f"{where}: {name[:_SHOWN]!r} fits several shapes: {some}",
                    where=str(root),
                    fix="write the path below the root with its suffix",
                )
        first = name.split(maxsplit=1)[0]  # a label may follow
        return self.find(first, where, root) if first != name else None


def _name_in(line: str, path: str) -> str:
    """Return the name in a line; in a .csv file, the first cell."""
    name = line.split(",")[0] if path.lower().endswith(".csv") else line
    return name.strip().strip("\"'")


def _without_suffix(name: str) -> str:
    """Return a listed path without the suffix of a file, which may differ from that on disk."""
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]{0,7}$", "", name)


def _holds_points(path: Path) -> bool:
    """Return whether a text file begins like points: a line with at least three numbers."""
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError:
        return True  # refused when it is read
    return any(_count_numbers(line) >= 3 for line in re.split(rb"[\r\n]+", start)[:20])


def _count_numbers(line: bytes) -> int:
    count = 0
    for word in re.split(rb"[\s,;]+", line):
        try:
            float(word)
        except ValueError:
            continue
        count += 1
    return count
