"""`compiled`: numba's njit, loaded on first use, with machine code cached in a writable folder.

The folder is NUMBA_CACHE_DIR if that is set, else beside the package, else the user's own.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, update_wrapper
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
_loading = RLock()  # numba's setting of the cache is one for all threads


def compiled(function: Function) -> Function:
    """Compile a function that releases the GIL on its first call; later processes use the cache.

    numba, which is slow to import, is imported on the first call, too: a training process on a
    GPU, for example, never calls a compiled function. Floating-point operations keep their order
    (no fastmath), so that results do not depend on the machine. Division by zero gives inf or nan,
    as in numpy.
    """
    return cast(Function, _Kernel(function))


class _Kernel:
    """A function for numba, which sees its dispatcher wherever another kernel calls it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._dispatcher: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._dispatcher or self._load())(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """The type of this object inside compiled functions: that is how numba asks for it."""
        dispatcher: Any = self._dispatcher or self._load()
        return dispatcher._numba_type_

    def _load(self) -> Callable[..., Any]:
        with _loading:
            if self._dispatcher is None:
                self._dispatcher = _dispatcher(vars(self)["__wrapped__"])
            return self._dispatcher


def _dispatcher(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's dispatcher of a function."""
    import numba

    place = _cache_folder()
    if place is None:
        return numba.njit(nogil=True, error_model="numpy")(function)
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(place)  # numba reads it at decoration
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before


@cache
def _cache_folder() -> Path | None:
    """Return the first writable folder for machine code; None if there is none.

    Its name is a digest of all files with compiled functions, because numba itself only notices
    changes in a function's own file, not in those of the functions it calls. numba only uses a
    cache that it can write, so a read-only one that several users share, as beside the package in a
    container's image, is copied to the user's folder.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source:
            digest.update(source)
    name = f"kernels-{digest.hexdigest()[:12]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    shared = Path(chosen) / "pointcmt" if chosen else package / "__pycache__"
    if _is_writable(shared / name):
        for old in shared.glob("kernels-*"):
            if old.name != name and not chosen:  # other installations may share a chosen folder
                shutil.rmtree(old, ignore_errors=True)
        return shared / name
    for place in _places_of_the_user():
        if (shared / name).is_dir() and not (place / name).exists():
            _copy(shared / name, place / name)
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
