"""Import the libraries of an extra, such as torch; if one is missing, the error names the extra."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pointcmt import __version__
from pointcmt.errors import DependencyError

# PyTorch's index of CPU builds; the default builds for Linux include gigabytes of CUDA.
CPU_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
WITH_TORCH = ("train", "export", "all")  # extras that install torch
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of glibc's mallopt (malloc.h)
ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES")  # environment variables that set such parameters


@contextmanager
def needs(extra: str, what: str = "this command") -> Iterator[None]:
    """Prepare for the libraries of an extra. what: needs them.

    Raises DependencyError, with how to install the extra, if one of them is missing.
    """
    if extra in WITH_TORCH:
        _let_waiting_threads_sleep()
        keep_freed_memory()
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


def keep_freed_memory() -> None:
    """Make glibc reuse large arrays that are freed, unless the environment says how it allocates.

    By default it returns each array of more than 32 MiB to the system, and the next one of that
    size, a step later, is cleared page by page: a third of a step of PointNet++ on a CPU
    (benchmarks/networks.py). Other C libraries have no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None and not any(name.startswith(ALLOCATOR) for name in os.environ):
        mallopt(MMAP_MAX, 0)  # no array in a mapping of its own
        mallopt(TRIM_THRESHOLD, -1)  # nothing goes back from the end of the heap
