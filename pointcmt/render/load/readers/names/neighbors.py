"""Find a file around a model that is not where the model says.

Datasets keep textures in folders beside the models' (Google Scanned Objects:
`meshes/model.obj`, `materials/textures/texture.png`), and exporters write paths of their own
machine. From the model's folder up to the root of the dataset, each folder is looked into, and its
subfolders that are named like those of textures. Nothing else is searched, so that the cost does
not depend on the size of the dataset.

A name such as texture.png, which many models use, counts only in folders that belong to this model
alone: a wrong texture is worse than none.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from os.path import splitext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pointcmt.datasets.sources.formats import MESHES, UNREAD_SHAPES
from pointcmt.datasets.sources.listing import is_folder

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

Result = TypeVar("Result")

_MOST_LEVELS = 8  # folders from the model's own upward
_MOST_ENTRIES = 1000  # of a folder that are looked at; a larger one holds many models
_SETTLED = 3_000_000_000  # nanoseconds; the coarsest time stamps (FAT's) have steps of two seconds
# Folders of textures, the likeliest first. Those in the second line are often of materials alone.
_TEXTURES = (
    *("textures", "texture", "tex", "images", "image", "img", "imgs", "maps", "map", "bitmaps"),
    *("materials", "material", "mats", "mtl", "sourceimages", "skins", "media", "assets"),
)
_OF_MODELS = (  # folders within the folder of one model
    *("meshes", "mesh", "models", "model", "obj", "objs", "ply", "stl", "off", "glb", "gltf"),
    *("source", "sources", "src", "geometry", "geo", "visual", "collision", "scene", "export"),
)
_HARMLESS = ("thumbnails", "thumbnail", "previews", "preview", "renders", "screenshots", "docs")
_COMMON = re.compile(  # words of names that do not tell models apart
    "textures?|textured|tex|txt|maps?|materials?|mat|mtl|diffuse|diff|albedo|base|colou?r|col|"
    "basecolor|images?|imgs?|atlas|default|untitled|model|mesh|objects?|obj|output|normalized|"
    "simple|simplified|scans?|uv|skin|scene|buffers?|data|geometry|main|file|part|[a-z]{1,2}"
)
_SHAPES = {*MESHES, *UNREAD_SHAPES}


@dataclass(frozen=True)
class Level:
    """A folder at or above a model. places: it and its folders of textures. own: of this model."""

    places: tuple[Path, ...]
    own: bool


@dataclass(frozen=True)
class Guess:
    """The result of a search. others: files of the right name that may be another model's."""

    path: Path | None = None
    own: bool = True
    others: tuple[Path, ...] = ()


def levels_above(base: Path, limit: Path, stem: str) -> tuple[Level, ...]:
    """Return the folders from a model's own up to the limit. Both paths are real ones."""
    levels: list[Level] = []
    own = True
    folders = [base, *base.parents][:_MOST_LEVELS]
    for depth, folder in enumerate(folders):
        if not folder.is_relative_to(limit):
            break
        branch = folders[depth - 1].name if depth else ""
        inside, alone = _look_into(folder, branch)
        own = own and (depth == 0 or alone)
        named = [folder / stem] if depth == 0 and (folder / stem).is_dir() else []
        deeper = [below for place in inside for below in _look_into(place, "")[0]]
        places = (folder, *named, *inside, *deeper)
        levels.append(Level(tuple(dict.fromkeys(places)), own))
    return tuple(levels)


def in_levels(levels: tuple[Level, ...], limit: Path, parts: tuple[str, ...]) -> Guess:
    """Look for a file by the last parts of its name, near the model first, then farther up."""
    others: tuple[Path, ...] = ()
    for level in levels:
        for count in range(len(parts), 0, -1):
            name = "/".join(parts[-count:])
            hits = tuple(dict.fromkeys(_hits(level.places, name, limit)))
            if not hits:
                continue
            if len(hits) == 1 and (level.own or not _is_common(parts[-count:])):
                return Guess(hits[0], level.own)
            others = others or hits
            break
    return Guess(others=others[:2])


def file_in(base: Path, name: str, limit: Path) -> tuple[Path | None, bool]:
    """Return the real path of a regular file below `base`, or None and whether it leaves the limit.

    The case of the last part of the name may differ.
    """
    try:
        path = (base / name).resolve()
        if path.is_relative_to(limit):
            path = _in_any_case(path)
        inside = path.is_relative_to(limit)
        return (path if inside and path.is_file() else None), not inside
    except (OSError, ValueError, RuntimeError):  # too long, contains a NUL, a cycle of links
        return None, False


def _hits(places: tuple[Path, ...], name: str, limit: Path) -> Iterator[Path]:
    """Yield the files of a name in some folders; only the first folder's if it is there."""
    for number, place in enumerate(places):
        found, _ = file_in(place, name, limit)
        if found is not None:
            yield found
            if number == 0:
                return


def _is_common(parts: tuple[str, ...]) -> bool:
    """Return whether many models may use a name: it consists of common words and numbers."""
    text = " ".join((*parts[:-1], Path(parts[-1]).stem))
    if re.search("[0-9a-f]{8}", text, re.IGNORECASE):  # a hash or a long number
        return False
    words = re.findall(r"[^\W\d_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", text))
    return all(_COMMON.fullmatch(w.lower()) or w.lower() in _TEXTURES for w in words)


def _look_into(folder: Path, branch: str) -> tuple[list[Path], bool]:
    """Return a folder's subfolders of textures, and whether it belongs to one model alone.

    branch: the subfolder that the model is in. The folder is the model's if there is no other
    shape, and if the branch is named like a part of a model or no other subfolder may hold one.
    """
    try:
        entries = _up_to_date(_entries, folder)
    except OSError:
        return [], False
    inside = [name for name in entries.folders if name.casefold() in _TEXTURES and name != branch]
    inside.sort(key=lambda name: (_TEXTURES.index(name.casefold()), name))
    known = {*_TEXTURES, *_HARMLESS, branch.casefold()}
    alone = all(name.casefold() in known or name.startswith(".") for name in entries.folders)
    own = not entries.shapes and (alone or branch.casefold() in _OF_MODELS)
    return [folder / name for name in inside], own


@dataclass(frozen=True)
class _Entries:
    """The names of a folder's subfolders, and whether it has files of shapes."""

    folders: tuple[str, ...]
    shapes: bool


def _in_any_case(path: Path) -> Path:
    """Return the real path of the file of this name in its directory, ignoring case if needed."""
    if path.exists() or not path.parent.is_dir():
        return path
    same = _up_to_date(_names, path.parent).get(path.name.casefold())
    return (path.parent / same).resolve() if same else path


def _up_to_date(read: "_lru_cache_wrapper[Result]", folder: Path) -> Result:
    """Return what `read` finds in a directory, from its cache if the directory has not changed.

    A directory that has just changed may change again with the same time stamp: not cached.
    """
    status = folder.stat()
    settled = status.st_mtime_ns < time.time_ns() - _SETTLED
    return (read if settled else read.__wrapped__)(folder, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=4)  # directories; workers process models one after the other
def _names(folder: Path, _inode: int, _changed: int) -> dict[str, str]:
    """Return the first name in a directory per casefolded form."""
    return {name.casefold(): name for name in sorted(os.listdir(folder), reverse=True)}


@lru_cache(maxsize=16)
def _entries(folder: Path, _inode: int, _changed: int) -> _Entries:
    """Look into a directory. One of very many entries holds many shapes, and is not read."""
    with os.scandir(folder) as entries:
        first = list(islice(entries, _MOST_ENTRIES + 1))
    if len(first) > _MOST_ENTRIES:
        return _Entries(tuple(name for name in _TEXTURES if (folder / name).is_dir()), True)
    folders = tuple(entry.name for entry in first if is_folder(entry))
    return _Entries(folders, any(splitext(entry.name)[1].lower() in _SHAPES for entry in first))
