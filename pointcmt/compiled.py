"""`compiled`: numba's njit with its machine code cached in the first writable folder."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function that releases the GIL on its first call; later processes use the cache.

    Floating-point operations keep their order (no fastmath), so that results do not depend on the
    machine. Division by zero gives inf or nan, as in numpy.
    """
    place = _cache_folder()
    if place is None:
        return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(place)  # numba reads it at decoration
    try:
        kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before
    return cast(Function, kernel)


@cache
def _cache_folder() -> Path | None:
    """Return the folder for machine code: beside the package, else the user's; None if neither.

    Its name is a digest of all files with compiled functions, because numba itself only notices
    changes in a function's own file, not in those of the functions it calls. numba only uses a
    cache that it can write, so a read-only cache beside the package, as in a container's image, is
    copied to a writable folder.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source:
            digest.update(source)
    name = f"kernels-{digest.hexdigest()[:12]}"
    beside = package / "__pycache__"
    if _is_writable(beside / name):
        for old in beside.glob("kernels-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
        return beside / name
    for place in _places_of_the_user():
        if (beside / name).is_dir() and not (place / name).exists():
            _copy(beside / name, place / name)
        if _is_writable(place / name):
            return place / name
    return None


def _is_writable(folder: Path) -> bool:
    """Create a folder if possible, and return whether it is writable."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


def _places_of_the_user() -> Iterator[Path]:
    """Yield the user's cache, then a private temporary folder, for users without a home and for
    read-only systems. Cached code is executed, so other users must not be able to write there.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if home.is_absolute():  # it is not for a container's user without a home
        yield home / "pointcmt"
    if not hasattr(os, "getuid"):  # Windows: its temporary folder is the user's own
        return
    with suppress(OSError):
        own = Path(tempfile.gettempdir()) / f"pointcmt-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o77:
            yield own


def _copy(source: Path, target: Path) -> None:
    """Copy a folder's files atomically: many processes may start at once."""
    with suppress(OSError):  # the target is not writable, or another process was faster
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as draft:
            copy = Path(draft) / "copy"
            for path in (path for path in source.rglob("*") if path.is_file()):
                place = copy / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
            copy.rename(target)
