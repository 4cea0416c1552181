"""The output folder of an export: what it holds, what may be replaced, where a shape's files go.

export.json     what the folder is an export of; written first
index.jsonl     a line per exported shape: id, place, class, label, split; written after its files
failures.jsonl  a line per shape that could not be exported, and why; missing if there are none

Files in a folder with such an `export.json` are the export's own. Anything else is only replaced
with --overwrite, and never in a view store or a run.
"""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pointcmt.datasets.enclosing import is_store, store_around
from pointcmt.datasets.store.locations import is_remote, storage_errors
from pointcmt.datasets.store.schema import digest, encode_line
from pointcmt.errors import StoreError, UsageError, brief, differing
from pointcmt.files import parse_json, read_json, read_regular

MARK, INDEX, FAILURES = "export.json", "index.jsonl", "failures.jsonl"
GENERATOR, VERSION = "pointcmt export", 1
RUN = "run.json"
MOST_INDEX = 1 << 30  # bytes
MOST_NAME = 150  # bytes of a file's name; file systems take up to 255

# Characters that are not in the names of files on every system, and `~`, which marks our own.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\%~]|^\.|[. ]$|^ ')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows


class ExportFolder:
    """An output folder that belongs to this export.

    out: the folder. facts: what is exported, for `export.json`; `to` and `settings` in it must
    agree with those of an earlier export here. own: by format, a pattern of the names of a shape's
    files. overwrite: replace files of others, and export all shapes again. Raises UsageError for a
    folder that cannot be one, StoreError for one that holds anything else.
    """

    def __init__(
        self, out: str | Path, facts: dict[str, Any], own: dict[str, str], overwrite: bool = False
    ) -> None:
        self.out = _require_place(out)
        self.facts = {"generator": GENERATOR, "version": VERSION, **facts}
        self._made: set[Path] = set()  # folders known to be plain folders outside of stores
        with storage_errors(str(out)):
            found = _read_mark(self.out)
            self._require_own(found, overwrite)
            self.done = {} if overwrite or found is None else _read_index(self.out)
            if found is not None and overwrite and found != self.facts:
                _remove(self.out, own.get(str(found.get("to")), ""))
            self.out.mkdir(parents=True, exist_ok=True)
            self._replace(MARK, json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n")
            self._write_index()

    def write(self, place: str, files: dict[str, bytes]) -> None:
        """Write the files of a shape, in order. Raises StoreError.

        place: of the shape, relative to the folder. files: by name relative to it; "" is the place
        itself. Links in the place of files are replaced, not followed.
        """
        for name, data in files.items():
            path = self.out / place / name if name else self.out / place
            with storage_errors(str(path)):
                self._make_folder(path.parent)
                path.unlink(missing_ok=True)
                with open(path, "xb") as file:
                    file.write(data)

    def record(self, line: dict[str, Any]) -> None:
        """Add a shape to the index, after its files have been written. Raises StoreError."""
        with storage_errors(str(self.out / INDEX)), open(self.out / INDEX, "ab") as file:
            file.write(encode_line(line))
        self.done[line["id"]] = line

    def finish(self, order: dict[str, int], failures: Iterable[dict[str, Any]]) -> None:
        """Write the index in this order of ids, and the failures. Raises StoreError."""
        known = sorted(self.done, key=lambda shape: order.get(shape, -1))
        self.done = {shape: self.done[shape] for shape in known}
        lines = b"".join(map(encode_line, failures))
        with storage_errors(str(self.out)):
            self._write_index()
            if lines:
                self._replace(FAILURES, lines.decode())
            else:
                (self.out / FAILURES).unlink(missing_ok=True)

    def _write_index(self) -> None:
        self._replace(INDEX, b"".join(map(encode_line, self.done.values())).decode())

    def _replace(self, name: str, text: str) -> None:
        """Write a file completely or not at all; a link is replaced, not followed."""
        draft = self.out / f".{name}.{os.getpid()}"
        try:
            draft.write_text(text, "utf-8", newline="\n")
            draft.replace(self.out / name)
        finally:
            draft.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below `out`, through no link and into no store. Raises StoreError."""
        if folder in self._made or folder == self.out:
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        if folder.is_symlink() or is_store(folder):
            what = "a link" if folder.is_symlink() else "a view store"
            raise StoreError(
                f"there is {what} where an export would write",
                where=str(folder),
                fix="choose another --out, or move it",
            )
        self._made.add(folder)

    def _require_own(self, found: dict[str, Any] | None, overwrite: bool) -> None:
        """Raise StoreError for a folder that holds anything but this export."""
        if overwrite:
            return
        if found is None:
            others = sorted(os.listdir(self.out)) if self.out.exists() else []
            if others:
                raise StoreError(
                    f"this folder holds other files (such as {others[0]})",
                    where=f"--out {self.out}",
                    fix="choose another --out, or add --overwrite to replace files of equal names",
                )
            return
        keys = ("version", "to", "store", "settings")
        different = differing(
            {key: found.get(key) for key in keys}, {key: self.facts[key] for key in keys}
        )
        if different:
            lines = [f"{key}: {brief(a)} here, {brief(b)} now" for key, (a, b) in different.items()]
            raise StoreError(
                "this folder holds another export:\n  " + "\n  ".join(lines),
                where=f"--out {self.out}",
                fix="choose another --out, or add --overwrite to replace that export",
            )


def places(ids: Iterable[str], suffix: str = "") -> list[str]:
    """Return where each shape's files go, relative to the output folder: one place each.

    An id is its place, as chair/0000, where that is safe on every file system: other characters are
    written as %, the bytes in hexadecimal. Where two places would be equal or one inside of the
    other, also on file systems that ignore case, ~ and the number of the shape are added.
    """
    plain = ["/".join(map(_safe, shape.split("/"))) for shape in ids]
    keys = [_key(f"{place}{suffix}") for place in plain]
    counts, taken = Counter(keys), {MARK, INDEX, FAILURES}
    for key in counts:
        while "/" in key:
            key = key.rpartition("/")[0]
            taken.add(key)
    return [
        f"{place}~{number}{suffix}" if counts[key] > 1 or key in taken else f"{place}{suffix}"
        for number, (place, key) in enumerate(zip(plain, keys, strict=True))
    ]


def _key(place: str) -> str:
    return unicodedata.normalize("NFC", place).casefold()


def _safe(part: str) -> str:
    """Return one part of an id as a file name; different parts have different names."""
    safe = "".join(
        _escaped(c) if (_UNSAFE.match(c) and c not in ". ") or not c.isprintable() else c
        for c in part
    )
    safe = re.sub(r"^[. ]|[. ]$", lambda found: _escaped(found[0]), safe)
    if _RESERVED.fullmatch(safe):
        safe = _escaped(safe[0]) + safe[1:]
    if len(safe.encode()) > MOST_NAME:
        return f"{safe[: MOST_NAME // 4]}~{digest(part.encode('utf-8', 'surrogatepass'))[:16]}"
    return safe or "~"


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def _require_place(out: str | Path) -> Path:
    """Return --out as a path. Raises UsageError where an export cannot be."""
    if is_remote(str(out)) or re.match(r"(s3|gs):", str(out)):
        raise UsageError(
            "only view stores can be on object storage",
            where=f"--out {out}",
            fix="use a local folder",
        )
    path = Path(out)
    store = store_around(path)
    if store is not None:
        raise UsageError(
            f"nothing is exported into a view store: {store} is one",
            where=f"--out {out}",
            fix="choose another --out",
        )
    if os.path.lexists(path / RUN):
        raise UsageError(
            "nothing is exported into the folder of a run",
            where=f"--out {out}",
            fix="choose another --out",
        )
    if os.path.lexists(path) and not path.is_dir():
        raise UsageError("this is a file, not a folder", where=f"--out {out}", fix="name a folder")
    return path


def _read_mark(out: Path) -> dict[str, Any] | None:
    """Return the facts of an earlier export, None if there is none."""
    try:
        found = read_json(out / MARK)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("generator") == GENERATOR else None


def _read_index(out: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of an index by id, without one that a killed process has left half."""
    found = {}
    with suppress(FileNotFoundError):
        for text in read_regular(out / INDEX, MOST_INDEX).splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = parse_json(text)
                found[str(line["id"])] = line
    return found


def _remove(out: Path, own: str) -> None:
    """Delete the files of an earlier export. own: a pattern of the names of a shape's files."""
    for line in _read_index(out).values():
        place = out / str(line.get("place"))
        inside = place.relative_to(out).parts if place.is_relative_to(out) else ()
        if not inside or ".." in inside or place.is_symlink():
            continue
        if place.is_file():
            place.unlink()
        folders = [place]
        for path in sorted(place.rglob("*"), reverse=True) if place.is_dir() else ():
            if path.is_dir() and not path.is_symlink():
                folders.insert(0, path)
            elif re.fullmatch(own, path.relative_to(place).as_posix()):
                path.unlink()
        for folder in [*folders, *place.parents]:
            if folder == out:
                break
            with suppress(OSError):  # it holds files of others
                folder.rmdir()
