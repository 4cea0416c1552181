"""Import large libraries: only the needed parts in workers, and with helpful errors."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from pointcmt.errors import DependencyError
from pointcmt.extras import install

# open3d imports its web plots and, with them, dash and plotly: 0.25 s of 0.55 s.
WEB_PLOTS = "open3d.visualization.draw_plotly"
NO_PLOTS = SimpleNamespace(get_plotly_fig=None, draw_plotly=None, draw_plotly_server=None)
WEB_VISUALIZER = "OPEN3D_DISABLE_WEB_VISUALIZER"
# numba asks scipy for its version and for a BLAS if it is installed, which no kernel here needs:
# 0.2 s.
SCIPY = ("scipy", "scipy.linalg")


# System libraries that open3d needs but does not ship, and the Debian packages that contain them.
SYSTEM_PACKAGES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libgomp.so.1": "libgomp1",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
}


def load_open3d(where: str) -> Any:
    """Import open3d. where: the feature that needs it. Raises DependencyError with a remedy."""
    try:
        with _without_web_visualizer():
            import open3d
    except ImportError as error:
        raise DependencyError(
            f"open3d cannot be loaded: {error}", where=where, fix=remedy(error)
        ) from error
    return open3d


def remedy(error: ImportError) -> str:
    """Return what to install if importing open3d failed."""
    library = str(error).split(":")[0]
    if library in SYSTEM_PACKAGES:
        return (
            f"run `apt-get install {SYSTEM_PACKAGES[library]}`, or install the package that "
            f"provides {library}"
        )
    return install("render")


def import_lightly() -> None:
    """Import the parts of open3d and numba that a render worker needs; ignore errors for now.

    For worker processes only: the user's own process may need the parts that are left out.
    """
    with suppress(ImportError), _instead({WEB_PLOTS: NO_PLOTS, **dict.fromkeys(SCIPY)}):
        import numba.np.arraymath  # noqa: F401
        import open3d  # noqa: F401


@contextmanager
def _without_web_visualizer() -> Iterator[None]:
    """In a notebook, importing open3d would start a server for a viewer, and print so."""
    if WEB_VISUALIZER in os.environ:  # the user's own choice
        yield
        return
    os.environ[WEB_VISUALIZER] = "true"
    try:
        yield
    finally:
        del os.environ[WEB_VISUALIZER]


@contextmanager
def _instead(modules: dict[str, Any]) -> Iterator[None]:
    """Make imports find these objects (None: nothing) unless the real modules are loaded."""
    placed = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name in placed:
            sys.modules.pop(name, None)
