"""`RayCaster`: ray casting with an Embree scene."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.geometry import first_twins
from pointcmt.render import startup
from pointcmt.render.draw import shading
from pointcmt.shapes import Mesh, UnitMesh

open3d = startup.load_open3d("the Embree renderer")


class RayCaster:
    """A mesh of the unit sphere in an Embree scene. Raises TypeError for any other mesh.

    threads: maximum for Embree; the results do not depend on it. faces [K] i32: the faces that are
    drawn and hit: all except exact twins of earlier ones. surface: the mesh packed for shading.
    """

    def __init__(self, mesh: UnitMesh, threads: int = 1) -> None:
        if not isinstance(mesh, UnitMesh):  # cameras are placed around the unit sphere
            raise TypeError(
                "expected a mesh normalized to the unit sphere (see pointcmt.geometry.normalize)"
            )
        self.mesh: Mesh = mesh
        self.surface = shading.make_surface(mesh)
        self.threads = threads
        self.scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self.first_twin = first_twins(mesh)
        kept = np.flatnonzero(self.first_twin == np.arange(len(mesh.faces)))
        self._face_of_hit = np.append(kept, -1).astype(np.int32)  # the last entry maps a miss to -1
        self.faces = self._face_of_hit[:-1]
        self.scene.add_triangles(
            _tensor(mesh.vertices.astype(np.float32)), _tensor(mesh.faces[kept].astype(np.uint32))
        )

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return first face [n] i32 (-1 = none) of rays [n,6] and distance [n] in ray lengths.

        Of twin faces, returns the first one in the mesh.
        """
        found = self.scene.cast_rays(_tensor(rays), nthreads=self.threads)
        hits = found["primitive_ids"].numpy().view(np.int32)  # Embree reports a miss as 2³²-1
        return self._face_of_hit[hits], found["t_hit"].numpy()


def _tensor(array: NDArray[Any]) -> Any:
    return open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))
