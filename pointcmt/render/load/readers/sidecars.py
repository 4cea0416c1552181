"""Files that a model names (materials, textures), read only from the model's own directory."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pointcmt.errors import printable as printable  # for readers that print names from models
from pointcmt.files import read_regular

MAX_SIDECAR = 256 << 20  # bytes per material file or texture
_SETTLED = 3_000_000_000  # nanoseconds; the coarsest time stamps (FAT's) have steps of two seconds
_ABSOLUTE = re.compile(r"/|[A-Za-z]:")
_SHAPENET = ("models", "model_normalized.obj")  # ShapeNetCore v2: textures are beside `models`


class NotRead(Exception):
    """A file that a model names is not used. The message says why and becomes a mesh note."""


@dataclass(frozen=True)
class ModelFolder:
    """Where to find files named in a model. Both paths are real ones, without symbolic links.

    base: the directory that names are relative to. limit: files outside it are not read.
    """

    base: Path
    limit: Path


def folder_of(mesh: Path) -> ModelFolder:
    """Return the directory of a mesh file, with its parent as limit in ShapeNetCore v2's layout."""
    base = mesh.parent.resolve()
    layout = (base.name, mesh.name)
    return ModelFolder(base, base.parent if layout == _SHAPENET else base)


def find(folder: ModelFolder, name: str, bases: Iterable[Path] = ()) -> Path:
    """Return the real path of a file named in a model, searching `bases` and the folder's own.

    Backslashes count as slashes; of an absolute path only the last part is used; the case of the
    last part may differ. Raises NotRead if the file is missing or outside the limit.
    """
    wanted = name.strip().strip('"').replace("\\", "/")
    if _ABSOLUTE.match(wanted):
        wanted = re.split(r"[/:]", wanted)[-1]
    outside = False
    for base in [*bases, folder.base]:
        try:
            path = (base / wanted).resolve()
            if path.is_relative_to(folder.limit):
                path = _in_any_case(path)
            if path.is_relative_to(folder.limit) and path.is_file():
                return path
        except (OSError, ValueError, RuntimeError):  # too long, contains a NUL, a cycle of links
            continue
        outside |= not path.is_relative_to(folder.limit)
    if outside:
        raise NotRead(f"{printable(name)} is outside the model's folder and is ignored")
    raise NotRead(f"{printable(name)} is missing")


def read_sidecar(path: Path) -> bytes:
    """Read a file that `find` returned. Raises NotRead if it cannot be read."""
    try:
        return read_regular(path, MAX_SIDECAR)
    except OSError as error:
        raise NotRead(f"{printable(path.name)} cannot be read ({error.strerror})") from error


def _in_any_case(path: Path) -> Path:
    """Return the real path of the file of this name in its directory, ignoring case if needed."""
    if path.exists() or not path.parent.is_dir():
        return path
    same = _names_in(path.parent).get(path.name.casefold())
    return (path.parent / same).resolve() if same else path


def _names_in(folder: Path) -> dict[str, str]:
    """Return the first name in a directory per casefolded form, from an up-to-date listing.

    A directory that has just changed may change again with the same time stamp: not cached.
    """
    status = folder.stat()
    settled = status.st_mtime_ns < time.time_ns() - _SETTLED
    read = _listed if settled else _listed.__wrapped__
    return read(folder, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4)  # directories; workers process them one after the other
def _listed(folder: Path, _inode: int, _changed: int) -> dict[str, str]:
    return {name.casefold(): name for name in sorted(os.listdir(folder), reverse=True)}
