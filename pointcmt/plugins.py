"""Plugins: data sources, backbones, image networks and recipes from outside the package.

A plugin is named by an entry point of its group, or as `module:name`. The folders of the built-in
parts define what each kind of plugin must be, and check it (docs/own-parts.md lists them).

Importing a module runs its code. Entry points are always allowed, since the user has installed
their packages. A `module:name` is imported only if the user has given it to this process (see
`trust`), since stores, runs, exported files and configuration files may come from strangers.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pointcmt.errors import UsageError, nearest
from pointcmt.files import read_regular

if TYPE_CHECKING:  # every command imports this module; importlib.metadata is slow to import
    from importlib.metadata import EntryPoint

MOST_SOURCE = 64 << 20  # bytes of a module's file
_PATH = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE = re.compile(f"{_PATH}:{_PATH}")


@dataclass(frozen=True)
class Group:
    """One kind of plugin. entry_points: its entry point group; what: its name in messages."""

    entry_points: str
    what: str


SOURCES = Group("pointcmt.sources", "data source")
BACKBONES = Group("pointcmt.backbones", "backbone")
IMAGE_NETWORKS = Group("pointcmt.image_networks", "image network")
RECIPES = Group("pointcmt.recipes", "recipe")
GROUPS = (SOURCES, BACKBONES, IMAGE_NETWORKS, RECIPES)

_trusted: set[str] = set()


def is_reference(name: str) -> bool:
    """Return whether a name has the form `module:name`."""
    return _REFERENCE.fullmatch(name) is not None


def trust(*names: str) -> None:
    """Allow this process to import these `module:name`; names of another form are ignored.

    Only for names that the user has typed or passed to a function, never for names from a file.
    """
    _trusted.update(filter(is_reference, names))


def trusted() -> tuple[str, ...]:
    """Return the names that this process may import, for others that work for the same user."""
    return tuple(sorted(_trusted))


def look_in(folder: str) -> None:
    """Append this folder to the module search path."""
    if folder not in sys.path:
        sys.path.append(folder)


def names(group: Group) -> list[str]:
    """Return the names of the installed entry points of a group, sorted."""
    return sorted({point.name for point in _all(group)})


def find(group: Group, name: str, where: str = "") -> Any:
    """Import a plugin. Returns None if there is no plugin with this name.

    where: the source of the name, such as a flag or a file, for messages. Raises UsageError for a
    `module:name` that the user has not allowed, and if the module or the name in it cannot be
    imported.
    """
    point = _installed(group, name)
    if point is not None:
        dist = f"the package {point.dist.name}, " if point.dist else ""
        return _load(point.value, f"{dist}entry point {name} of {group.entry_points}")
    if not is_reference(name):
        return None
    if name not in _trusted and all(p.value != name for p in _all(group)):
        raise UsageError(
            f"the {group.what} '{name}' is Python code that a file refers to: it is only imported "
            "if you trust it",
            where=where,
            fix=f"if you trust it, add --trust {name}; or install the package that provides it as "
            f"an entry point of {group.entry_points}",
        )
    return _load(name, where)


def origin(group: Group, name: str) -> str:
    """Return what identifies a plugin's code; "" if unknown.

    For an entry point: its package and version. For a `module:name`, which is imported: the SHA-256
    of the module's file. Raises UsageError like `find`.
    """
    point = _installed(group, name)
    if point is not None:
        return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    if find(group, name) is None:
        return ""
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    try:
        import hashlib

        data = read_regular(file, MOST_SOURCE) if file else b""
        return f"sha256 {hashlib.sha256(data).hexdigest()}" if file else ""
    except OSError:
        return ""


def mistake(group: Group, name: str, what: str) -> UsageError:
    """Return the error for a plugin of the wrong kind. what: the end of its sentence."""
    return UsageError(
        f"the {group.what} '{name}' {what}", fix="see docs/own-parts.md for what it must be"
    )


def _all(group: Group) -> Iterable["EntryPoint"]:
    from importlib.metadata import entry_points

    return entry_points(group=group.entry_points)


def _installed(group: Group, name: str) -> "EntryPoint | None":
    """Return the entry point of this name. Raises UsageError if several packages define it."""
    found = list({p.value: p for p in _all(group) if p.name == name}.values())
    if len(found) > 1:
        dists = ", ".join(sorted(point.dist.name for point in found if point.dist))
        raise UsageError(
            f"several packages provide a {group.what} named '{name}': {dists}",
            where=f"entry points of {group.entry_points}",
            fix="use its module:name: " + " or ".join(sorted(point.value for point in found)),
        )
    return found[0] if found else None


def _load(reference: str, where: str) -> Any:
    """Import the object that `module:name` names."""
    module_name, _, path = reference.partition(":")
    try:
        module: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise UsageError(
                f"module '{missing}' of '{reference}' not found",
                where=where,
                fix="run the command in the folder that contains it, add that folder to "
                "PYTHONPATH, or install the package",
            ) from error
        raise UsageError(
            f"the module {module_name} needs {missing}, which is not installed",
            where=where,
            fix=f"install {missing}",
        ) from error
    except (Exception, SystemExit) as error:  # the module's code may raise anything
        raise UsageError(
            f"the module {module_name} cannot be imported: {type(error).__name__}: {error}",
            where=where,
            fix=f"run python -c 'import {module_name}' to see where it fails",
        ) from error
    found = module
    for part in path.split("."):
        if not hasattr(found, part):
            known = [each for each in dir(found) if not each.startswith("_")]
            raise UsageError(
                f"the module {module_name} has no '{path}'",
                where=where or reference,
                fix=nearest(part, known[:50]),
            )
        found = getattr(found, part)
    return found
