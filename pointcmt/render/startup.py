"""Makes worker processes start faster: big libraries without their parts that no worker uses.

For worker processes only: in a process of the user's own, the missing parts would be missed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

# open3d imports its web plots and with them dash and plotly: 0.25 s of 0.55 s.
WEB_PLOTS = "open3d.visualization.draw_plotly"
NO_PLOTS = SimpleNamespace(get_plotly_fig=None, draw_plotly=None, draw_plotly_server=None)
# numba looks for a BLAS, which no kernel here calls, where scipy is installed: 0.2 s.
BLAS = "scipy.linalg"


def import_lightly() -> None:
    """Import open3d and numba as a render worker needs them; errors are left to who uses them."""
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
