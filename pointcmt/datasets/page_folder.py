"""The output folder of pages about a store. Other files in it are only replaced on request.

The command that writes a page marks the files that it writes with its name, such as "pointcmt
preview" (a generator tag in the page, a text chunk in the pictures, the first line of a script),
so that it can recognize them later.
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

PNG_KEY = "Software"  # key of the text chunk
HEAD = 4096  # bytes at the beginning of a file that contain the mark
RUN = "run.json"
MOST_FACTS = 64 << 20  # bytes of a root or a run.json


def page_mark(generator: str) -> str:
    """Return the tag that marks a page as written by a command."""
    return f'<meta name="generator" content="{generator}">'


def script_mark(generator: str) -> str:
    """Return the first line of a script that marks it as written by a command."""
    return f"// {generator}\n"


def require_free(out: Path, names: Iterable[str], overwrite: bool, generator: str) -> None:
    """Raise StoreError if files would be replaced that were not written by the same command.

    generator: the command, such as "pointcmt preview". Nothing is ever written into a view store or
    a run. Elsewhere, overwrite allows replacing anything but folders.
    """
    word = generator.rpartition(" ")[2]
    with storage_errors(str(out)):
        owner = _owner(Path(os.path.realpath(out)))
        if owner:
            raise StoreError(
                f"{_a(word)} cannot be written into {owner}",
                where=str(out),
                fix="choose a folder outside of it for --out",
            )
        paths = [out / name for name in names if os.path.lexists(out / name)]
        folders = [path.name for path in paths if path.is_dir() and not path.is_symlink()]
        foreign = [path.name for path in paths if not is_ours(path, generator)]
    if folders:
        raise StoreError(
            f"a folder has the name of a file to write: {', '.join(folders)}",
            where=str(out),
            fix="choose another folder for --out",
        )
    if foreign and not overwrite:
        raise StoreError(
            f"this would replace files that are not from {_a(word)}: {', '.join(foreign)}",
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


def is_ours(path: Path, generator: str) -> bool:
    """Return whether a command has written a file: never for links and non-regular files."""
    if path.is_symlink():
        return False
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a regular file
            return False
        raise
    marks = (page_mark(generator), f"{PNG_KEY}\0{generator}")
    is_script = head.startswith(script_mark(generator).encode())
    return is_script or any(mark.encode() in head for mark in marks)


def _a(word: str) -> str:
    """Return a word with its article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


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
