"""The output folder of a preview. Other files in it are only replaced on request.

A preview marks the files that it writes (a generator tag in the page, a text chunk in the
pictures) so that it can recognize them later.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pointcmt.datasets.store.creation import is_root
from pointcmt.datasets.store.locations import storage_errors
from pointcmt.datasets.store.schema import ROOT
from pointcmt.errors import StoreError
from pointcmt.files import open_regular, parse_json, read_regular

GENERATOR = "pointcmt preview"
PAGE_MARK = f'<meta name="generator" content="{GENERATOR}">'
PNG_KEY = "Software"  # key of the text chunk
HEAD = 4096  # bytes at the beginning of a file that contain the mark
RUN = "run.json"
MOST_FACTS = 64 << 20  # bytes of a root or a run.json


def require_free(out: Path, names: Iterable[str], overwrite: bool) -> None:
    """Raise StoreError if a preview would replace files that were not written by a preview.

    Nothing is ever written into a view store or a run. Elsewhere, overwrite allows replacing
    anything but folders.
    """
    with storage_errors(str(out)):
        owner = _owner(Path(os.path.realpath(out)))
        if owner:
            raise StoreError(
                f"a preview cannot be written into {owner}",
                where=str(out),
                fix="choose a folder outside of it for --out",
            )
        paths = [out / name for name in names if os.path.lexists(out / name)]
        folders = [path.name for path in paths if path.is_dir() and not path.is_symlink()]
        foreign = [path.name for path in paths if not _is_ours(path)]
    if folders:
        raise StoreError(
            f"a folder has the name of a file to write: {', '.join(folders)}",
            where=str(out),
            fix="choose another folder for --out",
        )
    if foreign and not overwrite:
        raise StoreError(
            f"this would replace files that are not from a preview: {', '.join(foreign)}",
            where=str(out),
            fix="choose another folder for --out, or replace them with --overwrite",
        )


def write_files(out: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files into a folder, each completely or not at all. Raises StoreError."""
    with storage_errors(str(out)):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            draft = out / f".{name}.{os.getpid()}"
            try:
                draft.write_bytes(content)
                draft.replace(out / name)  # replaces a link itself, not its target
            finally:
                draft.unlink(missing_ok=True)
    return [out / name for name in contents]


def _is_ours(path: Path) -> bool:
    """Return whether a preview has written a file: never for links and non-regular files."""
    if path.is_symlink():
        return False
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a regular file
            return False
        raise
    return PAGE_MARK.encode() in head or f"{PNG_KEY}\0{GENERATOR}".encode() in head


def _owner(out: Path) -> str:
    """Return the view store or run that contains `out` or is `out`; "" if there is none."""
    if (out / RUN).exists():
        return f"the run {out}"
    for folder in (out, *out.parents):
        data = _content(folder / ROOT)
        if is_root(data):
            return f"the view store {folder}"
        with suppress(ValueError):
            facts = parse_json(_content(folder / RUN) or b"null")
            if isinstance(facts, dict) and "recipe" in facts:
                return f"the run {folder}"
    return ""


def _content(path: Path) -> bytes | None:
    with suppress(OSError):
        return read_regular(path, MOST_FACTS)
    return None
