"""The renderer of clouds: draws each point as a disc of fixed pixel radius; the nearest one wins.

Discs are not blended, so each pixel shows exactly one point: its index, its depth, its color.
docs/conventions.md defines what is drawn and which points count as visible.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.compiled import compiled
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.rays import pack_cameras
from pointcmt.render.draw.scanline import NEAR
from pointcmt.render.draw.views import Views
from pointcmt.shapes import Cloud, Material

GRAY_BYTE = round(255 * Material().color[0])  # of points without a color


class Splats(NamedTuple):
    """What views [V] of a cloud show at pixel centers."""

    face_index: NDArray[np.int32]  # [V,H,W] index of the point, -1 = none
    depth: NDArray[np.float32]  # [V,H,W] its depth, 0 = none


def splat(points: NDArray[np.float64], camera: Camera, radius: float) -> Splats:
    """Return the nearest point whose disc covers each pixel's center, from cameras [V].

    radius: pixels, at least 1, so that a point always covers the pixel it falls into. Of points
    [M,3] at the same depth, the first counts.
    """
    projection = camera.K @ camera.world_to_camera[:, :3]
    return Splats(*_splat(points, projection, camera.width, float(radius)))


def draw_cloud(cloud: Cloud, splats: Splats, camera: Camera, config: RenderConfig) -> Views:
    """Return the images of a normalized cloud with unit normals from its splats.

    Colors are drawn unlit. Without colors, points are gray and lit like a mesh, with their normals
    turned to the viewer.
    """
    face_index = splats.face_index
    rgb = np.empty((*face_index.shape, 3), np.uint8)
    layers = {name: np.empty_like(rgb) for name in config.layers}
    cameras = pack_cameras(camera, config.light)
    own = _own_colors(cloud)
    gray = shading.LINEAR_OF_BYTE[own]
    for view, shown in enumerate(face_index):
        lit = own
        if cloud.colors is None:
            place = cameras.origin[view], cameras.light[view], cameras.axis[view]
            light = shading.light_points(cloud.points, cloud.normals, *place)
            lit = shading.encode_lit(gray, light, shading.LEAST_REFLECTED)
        _paint(shown, lit, np.array(config.background, np.uint8), rgb[view])
        if "albedo" in layers:
            _paint(shown, own, np.zeros(3, np.uint8), layers["albedo"][view])
        if "normal" in layers:
            local = _camera_normals(cloud, camera[view])
            _paint(shown, local, np.full(3, 128, np.uint8), layers["normal"][view])
    return Views(rgb, splats.depth, face_index, layers)


def visible_points(
    cloud: Cloud, chosen: NDArray[np.int32], splats: Splats, camera: Camera
) -> NDArray[np.bool_]:
    """Return which points `chosen` [N] of a cloud each view shows, [V,N]; splats: of all points.

    A point is visible if it projects into the image and its pixel shows a point of the same
    surface: one that is nearer to the camera by at most a pixel's width (depth / focal length), or
    that close to the plane through the point and normal to it.
    """
    points, normals = cloud.points[chosen], cloud.normals[chosen]
    uv, depth = camera.project(points)
    inside = np.all((uv >= 0) & (uv < camera.width), axis=2) & (depth >= NEAR)
    column, row = np.floor(np.where(inside[..., None], uv, 0)).astype(np.int64).transpose(2, 0, 1)
    view = np.arange(len(camera))[:, None]
    shown = cloud.points[splats.face_index[view, row, column]]  # background only where not inside
    nearer = depth - splats.depth[view, row, column]
    off_plane = np.abs(((shown - points) * normals).sum(axis=2))
    return inside & (np.minimum(nearer, off_plane) <= depth / camera.K[:, :1, 0])


def _own_colors(cloud: Cloud) -> NDArray[np.uint8]:
    """Return unlit colors [M,3], sRGB."""
    if cloud.colors is not None:
        return np.rint(255 * np.clip(cloud.colors, 0, 1)).astype(np.uint8)
    return np.full(cloud.points.shape, GRAY_BYTE, np.uint8)


def _camera_normals(cloud: Cloud, camera: Camera) -> NDArray[np.uint8]:
    """Return normals [M,3] turned to the viewer, in camera axes: 128 + 127 n."""
    away = ((cloud.points - camera.center) * cloud.normals).sum(axis=1, keepdims=True) > 0
    local = np.where(away, -cloud.normals, cloud.normals) @ camera.world_to_camera[:3, :3].T
    return np.rint(128 + 127 * local).astype(np.uint8)


@compiled
def _splat(points, projection, size, radius):  # type: ignore[no-untyped-def]
    face_index = np.full((len(projection), size, size), -1, np.int32)
    depth = np.empty((len(projection), size, size), np.float32)
    nearest = np.empty((size, size))
    for view in range(len(projection)):
        p = projection[view]
        nearest[:] = np.inf
        for point in range(len(points)):
            x, y, z = points[point, 0], points[point, 1], points[point, 2]
            reach = p[2, 0] * x + p[2, 1] * y + p[2, 2] * z + p[2, 3]
            if reach < NEAR:
                continue
            u = (p[0, 0] * x + p[0, 1] * y + p[0, 2] * z + p[0, 3]) / reach
            v = (p[1, 0] * x + p[1, 1] * y + p[1, 2] * z + p[1, 3]) / reach
            # Rows and columns with centers within the radius; none if the disc is outside.
            top = np.int64(np.ceil(min(max(v - radius - 0.5, 0.0), size * 1.0)))
            left = np.int64(np.ceil(min(max(u - radius - 0.5, 0.0), size * 1.0)))
            bottom = np.int64(np.floor(max(min(v + radius - 0.5, size - 1.0), -1.0)))
            right = np.int64(np.floor(max(min(u + radius - 0.5, size - 1.0), -1.0)))
            for row in range(top, bottom + 1):
                down = row + 0.5 - v
                for column in range(left, right + 1):
                    if reach < nearest[row, column]:
                        across = column + 0.5 - u
                        if across * across + down * down <= radius * radius:
                            nearest[row, column] = reach
                            face_index[view, row, column] = point
        for row in range(size):
            for column in range(size):
                reach = nearest[row, column]
                depth[view, row, column] = reach if reach < np.inf else 0.0
    return face_index, depth


@compiled
def _paint(shown, colors, background, out):  # type: ignore[no-untyped-def]
    """Fill an image [H,W,3] with the colors [M,3] of the points shown [H,W]."""
    for row in range(len(shown)):
        for column in range(shown.shape[1]):
            point = shown[row, column]
            for channel in range(3):
                value = colors[point, channel] if point >= 0 else background[channel]
                out[row, column, channel] = value
