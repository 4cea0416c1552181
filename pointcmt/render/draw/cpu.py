"""The CPU renderer: exact faces at pixel centers, and extra rays at edges.

Scan conversion gives face ids and depth in float64. For color, further rays are cast only where
the image needs them: at pixels that differ visibly from a neighbor that shows another face.
"""

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.rays import CENTER, PackedCameras, locate, make_rays, pack_cameras
from pointcmt.render.draw.scanline import NEAR, close_views, nearest_faces
from pointcmt.render.draw.scene import Scene
from pointcmt.render.draw.views import Views

PIXELS_AT_ONCE = 1 << 21  # bounds memory: about 100 bytes per pixel
EDGE_CONTRAST = 24  # of 255: a smaller step between two faces does not need further rays
# With the center, five samples on a grid rotated by 26.6°: no two share a row or column.
EDGE_SAMPLES = np.array([(0.7, 0.1), (0.9, 0.7), (0.3, 0.9), (0.1, 0.3)])
BLANK = {"albedo": 0, "normal": 128}  # values of the optional layers where there is no surface


def draw_views(scene: Scene, camera: Camera, config: RenderConfig) -> Views:
    """Draw the scene from cameras [V] with the settings of `config`."""
    at_once = max(1, PIXELS_AT_ONCE // config.size**2)
    parts = [
        _draw_some(scene, camera[first : first + at_once], config)
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


def _draw_some(scene: Scene, camera: Camera, config: RenderConfig) -> Views:
    size, total, surface = config.size, len(camera) * config.size**2, scene.surface
    cameras = pack_cameras(camera, config.light)
    rgb = _filled(total, config.background)
    depth = np.zeros(total, np.float32)
    face_index = nearest_faces(
        scene.mesh.vertices, scene.mesh.faces, scene.faces, camera, config.cull == "back"
    ).ravel()
    pixels = np.flatnonzero(face_index >= 0)
    hits = face_index[pixels]
    images = {"rgb": rgb}
    images |= {name: np.full((total, 3), BLANK[name], np.uint8) for name in config.layers}
    depth[pixels] = paint(images, pixels, hits, camera, cameras, surface)
    if config.antialias:
        _smooth(scene, rgb, face_index, camera, config, cameras)
    shape = (len(camera), size, size)
    return Views(
        rgb.reshape(*shape, 3),
        depth.reshape(shape),
        face_index.reshape(shape),
        {name: images[name].reshape(*shape, 3) for name in config.layers},
    )


def _smooth(
    scene: Scene,
    rgb: NDArray[np.uint8],
    face_index: NDArray[np.int32],
    camera: Camera,
    config: RenderConfig,
    cameras: PackedCameras,
) -> None:
    """Set edge pixels of rgb [V·size²,3] to the mean light of their center and further rays."""
    size, surface = config.size, scene.surface
    edges = shading.find_edges(rgb, face_index, size, EDGE_CONTRAST)
    rays = make_rays(edges, EDGE_SAMPLES, size, cameras)
    close = close_views(scene.mesh.vertices, camera)
    if close.any():  # nothing nearer than NEAR is drawn; distance along these rays is depth
        shown = np.repeat(close[edges // size**2], len(EDGE_SAMPLES))
        rays[shown, :3] += np.float32(NEAR) * rays[shown, 3:]
    hits, _ = scene.cast(rays, by_side=not shading.has_one_color(surface))
    _, weights, width, light, _ = locate(edges, EDGE_SAMPLES, hits, size, cameras, surface)
    colors = shading.base_colors(hits, weights, width, surface)
    missed = hits < 0
    colors[missed], light[missed] = shading.LINEAR_OF_BYTE[list(config.background)], -1.0
    shading.smooth(rgb, edges, colors, light, len(EDGE_SAMPLES))


def paint(
    images: dict[str, NDArray[np.uint8]],
    pixels: NDArray[np.int64],
    hits: NDArray[np.int32],
    camera: Camera,
    cameras: PackedCameras,
    surface: shading.Surface,
) -> NDArray[np.float64]:
    """Paint pixels [n] of flat images [V·size²,3] with the faces [n] at their centers.

    images: "rgb" or layers, by name. Returns the faces' depth at the pixels, [n].
    """
    depth, weights, width, light, _ = locate(pixels, CENTER, hits, camera.width, cameras, surface)
    albedo = shading.base_colors(hits, weights, width, surface)
    if "rgb" in images:
        _put(images["rgb"], pixels, shading.encode_lit(albedo, light, shading.LEAST_REFLECTED))
    if "albedo" in images:
        images["albedo"][pixels] = shading.encode_lit(
            albedo, np.ones(len(albedo), np.float32), np.float32(0)
        )
    if "normal" in images:
        images["normal"][pixels] = _camera_normals(pixels, hits, camera, cameras, surface)
    return depth


def _camera_normals(
    pixels: NDArray[np.int64],
    hits: NDArray[np.int32],
    camera: Camera,
    cameras: PackedCameras,
    surface: shading.Surface,
) -> NDArray[np.uint8]:
    """Return normals turned to the viewer in camera axes, [n,3] u8: 128 + 127 n."""
    view, rest = np.divmod(pixels, camera.width**2)
    row, column = np.divmod(rest, camera.width)
    across = np.stack([column + 0.5, row + 0.5, np.ones(len(pixels))], axis=1)
    ray = np.einsum("nij,nj->ni", cameras.pixel_to_ray[view], across)
    normal = surface.normals[hits]
    normal = np.where((normal * ray).sum(axis=1, keepdims=True) > 0, -normal, normal)
    local = np.einsum("nij,nj->ni", camera.world_to_camera[view, :3, :3], normal)
    return np.rint(128 + 127 * local).astype(np.uint8)


@compiled
def _put(image, pixels, colors):  # type: ignore[no-untyped-def]
    """Set pixels [n] of an image [·,3] to colors [n,3], faster than numpy's indexing."""
    for n in range(len(pixels)):
        for channel in range(3):
            image[pixels[n], channel] = colors[n, channel]


def _filled(count: int, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return [count,3] of one color. Filling in grays is many times faster."""
    if len(set(color)) == 1:
        return np.full((count, 3), color[0], np.uint8)
    return np.tile(np.array(color, np.uint8), count).reshape(count, 3)
