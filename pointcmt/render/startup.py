"""Loading the big libraries: lightly in worker processes, and with a remedy where it fails."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from pointcmt.errors import DependencyError, install

# open3d imports its web plots and with them dash and plotly: 0.25 s of 0.55 s.
WEB_PLOTS = "open3d.visualization.draw_plotly"
NO_PLOTS = SimpleNamespace(get_plotly_fig=None, draw_plotly=None, draw_plotly_server=None)
# numba looks for a BLAS, which no kernel here calls, where scipy is installed: 0.2 s.
BLAS = "scipy.linalg"


# Libraries that open3d loads and leaves to the system, and the Debian packages that hold them.
SYSTEM_PACKAGES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libgomp.so.1": "libgomp1",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
}


def load_open3d(where: str) -> Any:
    """The module. Raises DependencyError with a remedy; where: what needs it."""
    try:
        import open3d
    except ImportError as error:
        raise DependencyError(
            f"open3d cannot be loaded: {error}", where=where, fix=remedy(error)
        ) from error
    return open3d


def remedy(error: ImportError) -> str:
    """What to install where open3d could not be imported."""
    library = str(error).split(":")[0]
    if library in SYSTEM_PACKAGES:
        return f"apt-get install {SYSTEM_PACKAGES[library]}, or the package that has {library}"
    return install("render")


def import_lightly() -> None:
    """Import open3d and numba as a render worker needs them; errors are left to who uses them.

    For worker processes only: in a process of the user's own, the missing parts would be missed.
    """
    with suppress(ImportError), _instead({WEB_PLOTS: NO_PLOTS, BLAS: None}):
        import numba.np.arraymath  # noqa: F401
        import open3d  # noqa: F401


@contextmanager
def _instead(modules: dict[str, Any]) -> Iterator[None]:
    """Have imports find these objects (None: nothing) unless the real modules are there already."""
    placed = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name in placed:
            sys.modules.pop(name, None)
