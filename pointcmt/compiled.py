"""`compiled`: numba's njit, its machine code cached on disk wherever that can be written."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first call, without the GIL; the result is cached for later processes.

    A container with a read-only home has nowhere to cache; the function then compiles per process.
    Floating point keeps its order (no fastmath), so that results do not depend on the machine.
    """
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # numba: "no locator available for file ..."
        return cast(Function, numba.njit(nogil=True, error_model="numpy")(function))
