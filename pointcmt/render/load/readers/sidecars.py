"""Files that a model names (materials, textures), read only from the model's own directory."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pointcmt.errors import printable as printable  # for the readers of what models name
from pointcmt.files import read_regular

MAX_SIDECAR = 256 << 20  # bytes of one material file or texture
_SETTLED = 3_000_000_000  # nanoseconds; the coarsest time stamps, FAT's, have steps of two seconds
_ABSOLUTE = re.compile(r"/|[A-Za-z]:")
_SHAPENET = ("models", "model_normalized.obj")  # ShapeNetCore v2: textures lie beside `models`


class NotRead(Exception):
    """A file that a model names is not used; the text says why and becomes a note of the mesh."""


@dataclass(frozen=True)
class ModelFolder:
    """Where names in a model file lead. Both paths are real ones, without symbolic links.

    base: what names are relative to. limit: the directory that no file may lie outside of.
    """

    base: Path
    limit: Path


def folder_of(mesh: Path) -> ModelFolder:
    """The directory of a mesh file, and its parent in the layout of ShapeNetCore v2."""
    base = mesh.parent.resolve()
    layout = (base.name, mesh.name)
    return ModelFolder(base, base.parent if layout == _SHAPENET else base)


def find(folder: ModelFolder, name: str, bases: Iterable[Path] = ()) -> Path:
    """The real path of a file named in a model, looked for in `bases` and in the folder's own.

    Backslashes count as slashes; of an absolute path only the last part is looked for; the case of
    the last part may differ. Raises NotRead where it is missing or lies outside of the limit.
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
        except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a ring of links
            continue
        outside |= not path.is_relative_to(folder.limit)
    if outside:
        raise NotRead(f"{printable(name)} lies outside of the model's directory: not read")
    raise NotRead(f"{printable(name)} is missing")


def read_sidecar(path: Path) -> bytes:
    """The content of a file that `find` found. Raises NotRead where it cannot be had."""
    try:
        return read_regular(path, MAX_SIDECAR)
    except OSError as error:
        raise NotRead(f"{printable(path.name)} cannot be read ({error.strerror})") from error


def _in_any_case(path: Path) -> Path:
    """The real path of the file of this name in its directory, in another case if need be."""
    if path.exists() or not path.parent.is_dir():
        return path
    same = _names_in(path.parent).get(path.name.casefold())
    return (path.parent / same).resolve() if same else path


def _names_in(folder: Path) -> dict[str, str]:
    """The first name in a directory by its casefolded form, from a listing that is up to date.

    A directory that has just been changed may change again at the same time stamp: not remembered.
    """
    status = folder.stat()
    settled = status.st_mtime_ns < time.time_ns() - _SETTLED
    read = _listed if settled else _listed.__wrapped__
    return read(folder, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4)  # directories; a worker meets one after the other
def _listed(folder: Path, _inode: int, _changed: int) -> dict[str, str]:
    return {name.casefold(): name for name in sorted(os.listdir(folder), reverse=True)}
