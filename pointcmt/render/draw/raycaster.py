"""`RayCaster`: ray casting with an Embree scene."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.geometry import first_twins, opposed_faces
from pointcmt.render import startup
from pointcmt.render.draw import shading
from pointcmt.render.draw.scanline import TIE
from pointcmt.render.draw.scene import Sides
from pointcmt.shapes import Mesh, UnitMesh

BEYOND = 1e-6  # of a ray's distance: where it goes on behind a culled face

open3d = startup.load_open3d("the Embree renderer")


class RayCaster:
    """A mesh of the unit sphere in an Embree scene. Raises TypeError for any other mesh.

    threads: maximum for Embree; the results do not depend on it. cull: leave out faces where they
    are turned away. faces [K] i32: the faces that are drawn and hit: all except exact twins of
    earlier ones with the same winding. surface: the mesh packed for shading.
    """

    def __init__(self, mesh: UnitMesh, threads: int = 1, cull: bool = False) -> None:
        if not isinstance(mesh, UnitMesh):  # cameras are placed around the unit sphere
            raise TypeError("a mesh is drawn in the unit sphere: see pointcmt.geometry.normalize")
        self.mesh: Mesh = mesh
        self.cull = cull
        self.surface = shading.make_surface(mesh)
        self.threads = threads
        self.first_twin = first_twins(mesh)
        kept = self._first_of_each_side()
        self._face_of_hit = np.append(kept, -1).astype(np.int32)  # the last entry maps a miss to -1
        self.faces = self._face_of_hit[:-1]
        self.scene = self._scene_of(kept)

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return first face [n] i32 (-1 = none) of rays [n,6] and distance [n] in ray lengths.

        Of coincident faces, returns one that is turned to the ray's origin, if there is one.
        """
        hits, distance = self._cast(self.scene, rays)
        hits = self._face_of_hit[hits]
        away = self._turned_away(hits, rays)
        if len(away):
            self._prefer_front(away, rays, hits, distance)
        while self.cull and len(away := self._turned_away(hits, rays)):  # look behind them
            origin, direction = rays[away, :3], rays[away, 3:]
            passed = distance[away] * np.float32(1 + BEYOND)
            rest = np.column_stack([origin + passed[:, None] * direction, direction])
            found, more = self._cast(self.scene, rest)
            hits[away], distance[away] = self._face_of_hit[found], passed + more
            self._prefer_front(away, rays, hits, distance)
        return hits, distance

    @property
    def sides(self) -> Sides:
        """How the two sides of the faces are drawn."""
        return Sides(self.cull, bool(self._opposed))

    def has_both_sides(self, faces: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return for each of some first twins whether one of its twins has the opposite winding."""
        others = self.faces[self.first_twin[self.faces] != self.faces]
        return np.isin(faces, self.first_twin[others])

    def _first_of_each_side(self) -> NDArray[np.int64]:
        """Return the first of all faces with the same corners and winding."""
        count, first = len(self.mesh.faces), self.first_twin
        if np.array_equal(first, np.arange(count)):
            return np.arange(count)
        normals = self.surface.normals
        reversed_ = np.einsum("fi,fi->f", normals, normals[first]) < 0
        _, kept = np.unique(2 * first.astype(np.int64) + reversed_, return_index=True)
        return np.sort(kept)

    @cached_property
    def _opposed(self) -> list[tuple[Any, NDArray[np.int32]]]:
        """Scenes whose faces do not coincide with others of the same scene, and their faces."""
        sides = opposed_faces(self.mesh, self.surface.normals)
        return [(self._scene_of(faces), np.append(faces, -1)) for faces in sides if len(faces)]

    def _scene_of(self, faces: NDArray[np.integer[Any]]) -> Any:
        scene = open3d.t.geometry.RaycastingScene(nthreads=self.threads)
        corners = self.mesh.faces[faces].astype(np.uint32)
        scene.add_triangles(_tensor(self.mesh.vertices.astype(np.float32)), _tensor(corners))
        return scene

    def _cast(
        self, scene: Any, rays: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the first triangle of a scene that each ray hits, -1 = none, and its distance."""
        found = scene.cast_rays(_tensor(rays), nthreads=self.threads)
        # Embree reports a miss as 2³²-1.
        return found["primitive_ids"].numpy().view(np.int32), found["t_hit"].numpy()

    def _turned_away(self, hits: NDArray[np.int32], rays: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the indices of the rays that hit the back of a face."""
        return np.flatnonzero((hits >= 0) & (self._facing(hits, rays) > 0))

    def _facing(self, faces: NDArray[np.int32], rays: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.einsum("ni,ni->n", self.surface.normals[faces], rays[:, 3:])

    def _prefer_front(
        self,
        away: NDArray[np.int64],
        rays: NDArray[np.float32],
        hits: NDArray[np.int32],
        distance: NDArray[np.float32],
    ) -> None:
        """Replace hits of the rays `away` (indices) by fronts of faces at the same place."""
        for scene, faces in self._opposed:
            found, t = self._cast(scene, rays[away])
            found = faces[found]
            same = np.abs(t - distance[away]) <= np.float32(TIE) * distance[away]
            chosen = same & (found >= 0) & (self._facing(found, rays[away]) < 0)
            hits[away[chosen]] = found[chosen]


def _tensor(array: NDArray[Any]) -> Any:
    return open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))
