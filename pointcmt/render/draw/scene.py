"""`Scene`: a mesh that can be drawn and ray cast."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pointcmt.render.draw.shading import Surface
from pointcmt.shapes import Mesh


class Sides(NamedTuple):
    """The two sides of faces. cull: faces are left out where they are turned away. opposed: some
    faces coincide with others that face the other way and may have another color."""

    cull: bool = False
    opposed: bool = False


PLAIN = Sides()


class Scene(Protocol):
    """Input of renderers and visibility tests. F faces, of which K are drawn.

    mesh: in the unit sphere. surface: the mesh packed for shading. first_twin [F] i32: the first
    face with the same corners. faces [K] i32: the faces that are drawn and hit: all except exact
    twins of earlier ones with the same winding.
    """

    mesh: Mesh
    surface: Surface
    first_twin: NDArray[np.int32]
    faces: NDArray[np.int32]

    @property
    def sides(self) -> Sides:
        """How the two sides of the faces are drawn."""
        ...

    def cast(
        self, rays: NDArray[np.float32], by_side: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return first face [n] i32 (-1 = none) of rays [n,6] and distance [n] in ray lengths.

        by_side: of coincident faces, return one that is turned to the ray's origin; else any.
        """
        ...

    def has_both_sides(self, faces: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return for each of some first twins whether one of its twins has the opposite winding."""
        ...
