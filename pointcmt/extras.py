"""Import the libraries of an extra, such as torch; if one is missing, the error names the extra."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pointcmt import __version__
from pointcmt.errors import DependencyError

# PyTorch's index of CPU builds; the default builds for Linux include gigabytes of CUDA.
CPU_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
WITH_TORCH = ("train", "export", "all")  # extras that install torch


@contextmanager
def needs(extra: str, what: str = "this command") -> Iterator[None]:
    """Prepare for the libraries of an extra. what: needs them.

    Raises DependencyError, with how to install the extra, if one of them is missing.
    """
    if extra in WITH_TORCH:
        _let_waiting_threads_sleep()
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pointcmt"):
            raise
        raise DependencyError(
            f"{what} needs {error.name}, which is not installed", fix=install(extra)
        ) from error


def install(extra: str) -> str:
    """Return how to install the libraries of an extra, from a checkout or a wheel file."""
    text = (
        f"in a checkout: pip install '.[{extra}]'; with the wheel: "
        f"pip install 'pointcmt-{__version__}-py3-none-any.whl[{extra}]'"
    )
    return f"{text}; for CPUs only, first: {CPU_TORCH}" if extra in WITH_TORCH else text


def _let_waiting_threads_sleep() -> None:
    """Make OpenMP threads sleep while they wait, unless the environment says otherwise.

    OpenMP reads the policy when torch is loaded. By default, waiting threads spin; when two of them
    share a core (another process is enough), every layer then waits for the scheduler: on 2 cores,
    a training step of 0.1 s took 3 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
