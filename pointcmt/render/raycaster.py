"""The CPU renderer: exact faces at pixel centres, Embree for every ray that is not through one.

Scan conversion gives face ids and depth in float64. Colour then takes further rays only where the
image needs them: at pixels that differ visibly from a neighbour that shows another face.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.geometry import first_twins
from pointcmt.mesh import UnitMesh
from pointcmt.render import shading, startup
from pointcmt.render.config import RenderConfig
from pointcmt.render.scanline import NEAR, close_views, nearest_faces
from pointcmt.render.views import Views

open3d = startup.load_open3d("the Embree renderer")

RAYS_AT_ONCE = 1 << 21  # bounds memory: about 100 bytes a ray
EDGE_CONTRAST = 24  # of 255: a fainter step between two faces is not worth further rays
# With the centre, five samples on a grid turned by 26.6°: none shares a row or column of the pixel.
EDGE_SAMPLES = np.array([(0.7, 0.1), (0.9, 0.7), (0.3, 0.9), (0.1, 0.3)])
CENTER = np.array([(0.5, 0.5)])
BLANK = {"albedo": 0, "normal": 128}  # what the optional layers are where there is no surface


class RayCaster:
    """A mesh of the unit sphere in an Embree scene. Raises TypeError for any other mesh.

    threads: how many Embree may use; the results do not depend on it. faces [K] i32: the faces that
    are drawn and hit, which are all but exact twins of earlier ones. surface: what shading reads.
    """

    def __init__(self, mesh: UnitMesh, threads: int = 1) -> None:
        if not isinstance(mesh, UnitMesh):  # cameras are placed around the unit sphere
            raise TypeError("a mesh is drawn in the unit sphere: see pointcmt.geometry.normalize")
        self.mesh = mesh
        self.surface = shading.make_surface(mesh)
        self.threads = threads
        self.scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
        self.first_twin = first_twins(mesh)
        kept = np.flatnonzero(self.first_twin == np.arange(len(mesh.faces)))
        self._face_of_hit = np.append(kept, -1).astype(np.int32)  # a miss is -1: the last entry
        self.faces = self._face_of_hit[:-1]
        self.scene.add_triangles(
            _tensor(mesh.vertices.astype(np.float32)), _tensor(mesh.faces[kept].astype(np.uint32))
        )

    def cast(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """First face [n] i32 (-1 = none) of rays [n,6] and distance [n] in direction lengths.

        Of twin faces it is the first one in the mesh.
        """
        found = self.scene.cast_rays(_tensor(rays), nthreads=self.threads)
        hits = found["primitive_ids"].numpy().view(np.int32)  # Embree's "none" is 2³²-1
        return self._face_of_hit[hits], found["t_hit"].numpy()

    def render(self, camera: Camera, config: RenderConfig) -> Views:
        """Draw the mesh from cameras [V] as `config` says."""
        at_once = max(1, RAYS_AT_ONCE // config.size**2)
        parts = [
            self._render_some(camera[first : first + at_once], config)
            for first in range(0, len(camera), at_once)
        ]
        if len(parts) == 1:
            return parts[0]
        return Views(
            np.concatenate([part.rgb for part in parts]),
            np.concatenate([part.depth for part in parts]),
            np.concatenate([part.face_index for part in parts]),
            {name: np.concatenate([part.layers[name] for part in parts]) for name in config.layers},
        )

    def _render_some(self, camera: Camera, config: RenderConfig) -> Views:
        size, total, surface = config.size, len(camera) * config.size**2, self.surface
        lens = shading.make_lens(camera, config.light)
        rgb = _filled(total, config.background)
        depth = np.zeros(total, np.float32)
        face_index = nearest_faces(self.mesh.vertices, self.mesh.faces, self.faces, camera).ravel()
        pixels = np.flatnonzero(face_index >= 0)
        hits = face_index[pixels]
        images = {"rgb": rgb}
        images |= {name: np.full((total, 3), BLANK[name], np.uint8) for name in config.layers}
        depth[pixels] = paint(images, pixels, hits, camera, lens, surface)
        if config.antialias:
            self._smooth(rgb, face_index, camera, config, lens)
        shape = (len(camera), size, size)
        return Views(
            rgb.reshape(*shape, 3),
            depth.reshape(shape),
            face_index.reshape(shape),
            {name: images[name].reshape(*shape, 3) for name in config.layers},
        )

    def _smooth(
        self,
        rgb: NDArray[np.uint8],
        face_index: NDArray[np.int32],
        camera: Camera,
        config: RenderConfig,
        lens: shading.Lens,
    ) -> None:
        """Give edge pixels of rgb [V·size²,3] the mean light of their centre and further rays."""
        size, surface = config.size, self.surface
        edges = shading.find_edges(rgb, face_index, size, EDGE_CONTRAST)
        rays = shading.make_rays(edges, EDGE_SAMPLES, size, lens)
        close = close_views(self.mesh.vertices, camera)
        if close.any():  # nothing nearer than NEAR is drawn: a unit of direction is one of depth
            shown = np.repeat(close[edges // size**2], len(EDGE_SAMPLES))
            rays[shown, :3] += np.float32(NEAR) * rays[shown, 3:]
        hits, _ = self.cast(rays)
        _, weights, width, light, _ = shading.locate(edges, EDGE_SAMPLES, hits, size, lens, surface)
        colors = shading.base_colors(hits, weights, width, surface)
        missed = hits < 0
        colors[missed], light[missed] = shading.LINEAR_OF_BYTE[list(config.background)], 1.0
        shading.smooth(rgb, edges, colors, light, len(EDGE_SAMPLES))


def paint(
    images: dict[str, NDArray[np.uint8]],
    pixels: NDArray[np.int64],
    hits: NDArray[np.int32],
    camera: Camera,
    lens: shading.Lens,
    surface: shading.Surface,
) -> NDArray[np.float64]:
    """Paint pixels [n] of flat images [V·size²,3] with the faces [n] at their centers.

    images: "rgb" or layers, by name. Returns the faces' depth there, [n].
    """
    depth, weights, width, light, _ = shading.locate(
        pixels, CENTER, hits, camera.width, lens, surface
    )
    albedo = shading.base_colors(hits, weights, width, surface)
    if "rgb" in images:
        images["rgb"][pixels] = shading.encode_lit(albedo, light)
    if "albedo" in images:
        images["albedo"][pixels] = shading.encode_lit(albedo, np.ones(len(albedo), np.float32))
    if "normal" in images:
        images["normal"][pixels] = _camera_normals(pixels, hits, camera, lens, surface)
    return depth


def _camera_normals(
    pixels: NDArray[np.int64],
    hits: NDArray[np.int32],
    camera: Camera,
    lens: shading.Lens,
    surface: shading.Surface,
) -> NDArray[np.uint8]:
    """Normals turned to the viewer in camera axes, [n,3] u8: 128 + 127 n."""
    view, rest = np.divmod(pixels, camera.width**2)
    row, column = np.divmod(rest, camera.width)
    across = np.stack([column + 0.5, row + 0.5, np.ones(len(pixels))], axis=1)
    ray = np.einsum("nij,nj->ni", lens.pixel_to_ray[view], across)
    normal = surface.normals[hits]
    normal = np.where((normal * ray).sum(axis=1, keepdims=True) > 0, -normal, normal)
    local = np.einsum("nij,nj->ni", camera.world_to_camera[view, :3, :3], normal)
    return np.rint(128 + 127 * local).astype(np.uint8)


def _tensor(array: NDArray[Any]) -> Any:
    return open3d.core.Tensor.from_numpy(np.ascontiguousarray(array))


def _filled(count: int, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """[count,3] of one colour; greys are many times faster to fill in."""
    if len(set(color)) == 1:
        return np.full((count, 3), color[0], np.uint8)
    return np.tile(np.array(color, np.uint8), count).reshape(count, 3)
