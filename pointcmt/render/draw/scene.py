"""`Scene`: a mesh that can be drawn and ray cast."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointcmt.render.draw.shading import Surface
from pointcmt.shapes import Mesh


class Scene(Protocol):
    """Input of renderers and visibility tests. F faces, of which K are drawn.

    mesh: in the unit sphere. surface: the mesh packed for shading. first_twin [F] i32: the first
    face with the same corners. faces [K] i32: the faces that are drawn and hit: all except exact
    twins of earlier ones.
    """

    mesh: Mesh
    surface: Surface
    first_twin: NDArray[np.int32]
    faces: NDArray[np.int32]

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return first face [n] i32 (-1 = none) of rays [n,6] and distance [n] in ray lengths."""
        ...
