"""`RayCaster`: ray casting with an Embree scene."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.geometry import first_twins, opposed_faces
from pointcmt.render import startup
from pointcmt.render.draw import shading
from pointcmt.render.draw.scanline import TIE
from pointcmt.render.draw.scene import Sides
from pointcmt.shapes import Mesh, UnitMesh

# Barycentric coordinates of the place where a face is tested for others that coincide with it (not
# the centroid, through which a quad's other diagonal passes), and how far from its plane these may
# be, in world units.
PLACE = (0.4, 0.35, 0.25)
REACH = 1e-5
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
            raise TypeError(
                "expected a mesh normalized to the unit sphere (see pointcmt.geometry.normalize)"
            )
        self.mesh: Mesh = mesh
        self.cull = cull
        self.surface = shading.make_surface(mesh)
        self.threads = threads
        self.first_twin = first_twins(mesh)
        kept = self._first_of_each_side()
        self._face_of_hit = np.append(kept, -1).astype(np.int32)  # the last entry maps a miss to -1
        self.faces = self._face_of_hit[:-1]
        self.scene = self._scene_of(kept)

    def cast(
        self, rays: NDArray[np.float32], by_side: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return first face [n] i32 (-1 = none) of rays [n,6] and distance [n] in ray lengths.

        by_side: of coincident faces, return one that is turned to the ray's origin, if there is
        one; otherwise any, which is faster.
        """
        hits, distance = self._cast(self.scene, rays)
        hits = self._face_of_hit[hits]
        if by_side or self.cull:
            self._prefer_front(rays, hits, distance)
        while self.cull and len(away := self._backs(hits, rays)):  # look behind them
            origin, direction = rays[away, :3], rays[away, 3:]
            passed = distance[away] * np.float32(1 + BEYOND)
            rest = np.column_stack([origin + passed[:, None] * direction, direction])
            found, more = self._cast(self.scene, rest)
            hits[away], distance[away] = self._face_of_hit[found], passed + more
            self._prefer_front(rays, hits, distance)
        return hits, distance

    @property
    def sides(self) -> Sides:
        """How the two sides of the faces are drawn."""
        opposed = not shading.has_one_color(self.surface) and bool(self._opposed)
        return Sides(self.cull, opposed)

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
    def _opposed(self) -> list[tuple[NDArray[np.bool_], NDArray[np.int32], Any]]:
        """Where else to look if a ray hits the back of a face that coincides with another.

        For each kind of faces: which they are, [F], and the faces that they may coincide with, as a
        list and as a scene, none of which coincide with each other.
        """
        kinds = opposed_faces(self.mesh, self.surface.normals)
        if not len(kinds[0]):
            return []
        scenes = [self._scene_of(faces) for faces in kinds]
        found = []
        for mine, theirs, scene in zip(kinds, reversed(kinds), reversed(scenes), strict=True):
            coincides = np.zeros(len(self.mesh.faces), np.bool_)
            coincides[mine] = self._touch(mine, scene)
            if coincides.any():
                found.append((coincides, np.append(theirs, -1), scene))
        return found

    def _touch(self, faces: NDArray[np.int32], scene: Any) -> NDArray[np.bool_]:
        """Return whether a scene has a surface at one place of each face, PLACE."""
        corners = (self.mesh.vertices[self.mesh.faces[faces, corner]] for corner in range(3))
        place = sum(share * corner for share, corner in zip(PLACE, corners, strict=True))
        normals = self.surface.normals[faces]
        rays = np.column_stack([place + REACH * normals, -normals]).astype(np.float32)
        met = scene.test_occlusions(_tensor(rays), tfar=2 * REACH, nthreads=self.threads)
        found: NDArray[np.bool_] = met.numpy()
        return found

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

    def _backs(self, hits: NDArray[np.int32], rays: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the indices of the rays that hit the back of a face."""
        backs: NDArray[np.int64] = _backs(hits, rays, self.surface.normals)
        return backs

    def _prefer_front(
        self, rays: NDArray[np.float32], hits: NDArray[np.int32], distance: NDArray[np.float32]
    ) -> None:
        """Replace hits of backs by fronts of other faces at the same place."""
        away = self._backs(hits, rays)
        for is_mine, theirs, scene in self._opposed if len(away) else ():
            some = away[is_mine[hits[away]]]
            found, t = self._cast(scene, rays[some])
            found = theirs[found]
            same = np.abs(t - distance[some]) <= np.float32(TIE) * distance[some]
            facing = np.einsum("ni,ni->n", self.surface.normals[found], rays[some, 3:])
            chosen = same & (found >= 0) & (facing < 0)
            hits[some[chosen]] = found[chosen]


@compiled
def _backs(hits, rays, normals):  # type: ignore[no-untyped-def]
    """Return the indices of the rays [n,6] whose hits [n], -1 = none, are turned away."""
    backs, count = np.empty(len(hits), np.int64), 0
    for n in range(len(hits)):
        face = hits[n]
        if face >= 0:
            facing = 0.0
            for axis in range(3):
                facing += normals[face, axis] * rays[n, 3 + axis]
            if facing > 0.0:
                backs[count] = n
                count += 1
    return backs[:count]


def _tensor(array: NDArray[Any]) -> Any:
    return open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))
