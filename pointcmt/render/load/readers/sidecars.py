"""Files that a model names (materials, textures, buffers): where they are looked for and read."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pointcmt.errors import printable as printable  # for readers that print names from models
from pointcmt.files import read_regular
from pointcmt.render.load.readers.names.neighbors import Level, file_in, in_levels, levels_above

MAX_SIDECAR = 256 << 20  # bytes per material file or texture
_ABSOLUTE = re.compile(r"/|[A-Za-z][\w+.-]*:")  # also of Windows, and URLs
_SHAPENET = ("models", "model_normalized.obj")  # ShapeNetCore v2: textures are beside `models`
_MOST_PARTS = 4  # of a name that are searched for together


class NotRead(Exception):
    """A file that a model names is not used. The message says why and becomes a mesh note."""


@dataclass(frozen=True)
class Search:
    """Where models may look for files besides their own folders.

    root: of the dataset; files outside it are not read. None = each model's own folder. textures:
    one more folder, in which names are searched last.
    """

    root: Path | None = None
    textures: Path | None = None


@dataclass(frozen=True)
class ModelFolder:
    """Where to find files named in a model. All paths are real ones, without symbolic links.

    base: the directory that names are relative to. limit: files outside it are not read, apart
    from those in `textures`. stem: the model's name without its suffix. notes: on files that were
    found elsewhere than their model says, for the mesh.
    """

    base: Path
    limit: Path
    stem: str = ""
    textures: Path | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The folders above the model, up to the limit, in which files may be."""
        return levels_above(self.base, self.limit, self.stem)


def folder_of(mesh: Path, search: Search | None = None) -> ModelFolder:
    """Return where a mesh file's names are looked for.

    Without a root, the limit is the mesh's directory, or its parent in ShapeNetCore v2's layout;
    also for a mesh that links lead to out of the root.
    """
    search = search or Search()
    base = mesh.parent.resolve()
    limit = base.parent if (base.name, mesh.name) == _SHAPENET else base
    if search.root is not None and limit.is_relative_to(root := search.root.resolve()):
        limit = root
    textures = None if search.textures is None else search.textures.resolve()
    return ModelFolder(base, limit, mesh.stem, textures)


def find(folder: ModelFolder, name: str, bases: Iterable[Path] = ()) -> Path:
    """Return the real path of a file named in a model.

    It is looked for where the name says, relative to `bases` and to the model's directory; then
    under its last parts around the model, up to the folder's limit (`neighbors`), and in the
    folder's `textures`. Backslashes count as slashes; of an absolute path only the last parts are
    used; the case of the last part may differ. Raises NotRead if the file is missing, outside the
    limit, or might be another model's.
    """
    wanted = name.strip().strip('"').replace("\\", "/")
    absolute = _ABSOLUTE.match(wanted) is not None
    parts = re.split(r"[/:]" if absolute else "/", wanted)
    outside = False
    for base in [*bases, folder.base]:
        found, leaves = file_in(base, parts[-1] if absolute else wanted, folder.limit)
        if found is not None:
            return found
        outside |= leaves
    guess = in_levels(folder.levels, folder.limit, _last_parts(parts))
    if guess.path is not None:
        if not guess.own:
            place = os.path.relpath(guess.path, folder.base)
            folder.notes.append(
                f"{printable(name)} is not where its model says: {printable(place)} is used"
            )
        return guess.path
    found = _in_textures(folder, _last_parts(parts))
    if found is not None:
        return found
    if guess.others:
        others = ", ".join(printable(os.path.relpath(path, folder.base)) for path in guess.others)
        raise NotRead(
            f"{printable(name)} is missing: {others} may belong to another model (see --textures)"
        )
    if outside:
        raise NotRead(f"{printable(name)} is outside the model's folder and is ignored")
    raise NotRead(f"{printable(name)} is missing")


def read_sidecar(path: Path) -> bytes:
    """Read a file that `find` returned. Raises NotRead if it cannot be read."""
    try:
        return read_regular(path, MAX_SIDECAR)
    except OSError as error:
        raise NotRead(f"{printable(path.name)} cannot be read ({error.strerror})") from error


def _last_parts(parts: list[str]) -> tuple[str, ...]:
    """Return the last parts of a name: none before a step to a parent folder."""
    last: list[str] = []
    for part in reversed(parts):
        if part == ".." or len(last) == _MOST_PARTS:
            break
        if part not in ("", "."):
            last.insert(0, part)
    return tuple(last)


def _in_textures(folder: ModelFolder, parts: tuple[str, ...]) -> Path | None:
    """Return a file of the additional folder: in the model's place in it, or in the folder itself.

    The place of the model root/a/chair.obj is a/chair or a.
    """
    top = folder.textures
    if top is None:
        return None
    place = top
    if folder.base.is_relative_to(folder.limit):
        place = top / folder.base.relative_to(folder.limit)
    for base in dict.fromkeys((place / folder.stem, place, top)):
        for count in range(len(parts), 0, -1):
            found, _ = file_in(base, "/".join(parts[-count:]), top)
            if found is not None:
                return found
    return None
