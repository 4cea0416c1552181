"""Functions that torch.compile leaves out, without importing its compiler before it is used."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def eager(function: Callable[P, R]) -> Callable[P, R]:
    """Keep a function out of compiled graphs, as torch.compiler.disable does.

    That decorator imports all of torch's compiler when a process starts, and most processes compile
    nothing.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            disable: Any = torch.compiler.disable
            result: R = disable(function)(*args, **kwargs)
            return result
        return function(*args, **kwargs)

    return call
