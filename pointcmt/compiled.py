"""`compiled`: numba's njit, its machine code cached on disk wherever that can be written."""

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first call, without the GIL; later processes find the result in a cache.

    Floating point keeps its order (no fastmath), so that results do not depend on the machine.
    Division by zero gives inf or nan, as in numpy.
    """
    place = _cache_folder()
    if place is None:
        return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(place)  # numba reads it when decorating
    try:
        kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = before
    return cast(Function, kernel)


@cache
def _cache_folder() -> Path | None:
    """Where machine code goes: beside the package, else in the user's cache; None = nowhere.

    Its name is a digest of all files with compiled functions, because numba itself only notices
    changes in a function's own file, not in those of the functions it calls.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"@compiled" in source:
            digest.update(source)
    name = f"kernels-{digest.hexdigest()[:12]}"
    beside = package / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "pointcmt"
    for parent in (beside, home):
        if not parent.is_absolute():  # a container's user without a home
            continue
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            if parent is beside:
                for old in parent.glob("kernels-*"):
                    if old.name != name:
                        shutil.rmtree(old, ignore_errors=True)
            return parent / name
    return None
