"""The figures of the documentation site, drawn by our own renderer from built-in shapes.

Usage: python docs/site/figures.py FOLDER   (some seconds; `make docs` draws them by itself)
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from drawing import (
    AXES,
    BLUE,
    GRAY,
    GREEN,
    INK,
    RED,
    Drawing,
    column,
    enlarge,
    grid,
    row,
)  # fmt: skip
from numpy.typing import NDArray
from PIL import Image

import pointcmt as pc
from pointcmt.cameras import Camera, on_sphere
from pointcmt.correspondences import points_to_pixels
from pointcmt.datasets.sources.toy import build
from pointcmt.render.preview import point_colors

RIGS = ("circle12", "dodeca20", "ortho6", "mvnet12", "simpleview6", "fibonacci12")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw().save(folder / name, optimize=True)


@cache
def unit_mesh(shape: str) -> pc.UnitMesh:
    return pc.normalize(build(shape), up="z")[0]


def rendered(shape: str, *views: pc.View, size: int, **settings: object) -> pc.RenderedViews:
    return pc.render_views(unit_mesh(shape), pc.Rig("figure", views), size, **settings)  # type: ignore[arg-type]


# --- conventions


def world() -> Image.Image:
    """A shape in the world, and a camera that looks at it, from outside; and what it sees."""
    outside = pc.View(on_sphere(-62, 24, 6.4).position, (1.15, -0.45, 0.3), fov=38)
    scene = rendered("chair/0000", outside, size=520)
    camera = pc.Rig("seen", (on_sphere(-25, 18),)).cameras(160)[0]
    drawing = Drawing(scene.rgb[0][:400], scene.camera[0])
    for axis, name in enumerate("XYZ"):
        drawing.arrow([0, 0, 0], 1.45 * np.eye(3)[axis], AXES[axis], f"+{name}")
    draw_camera(drawing, camera)
    seen = rendered("chair/0000", on_sphere(-25, 18), size=400)
    image = Drawing(seen.rgb[0])
    image.line([[1, 1], [398, 1], [398, 398], [1, 398], [1, 1]], GRAY, 1)
    image.arrow([6, 6], [100, 6], RED, "u")
    image.arrow([6, 6], [6, 100], GREEN, "v")
    return row([drawing.done(), image.done()], ["the world, and a camera in it", "its image"])


def draw_camera(drawing: Drawing, camera: Camera) -> None:
    """Draw a camera's frustum to a depth of 1, and its axes."""
    size = camera.width
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], float)
    ends = camera.unproject(corners, np.full(4, 0.75))
    for end in ends:
        drawing.line([camera.center, end], GRAY, 1)
    drawing.line([*ends, ends[0]], GRAY, 1)
    turn = camera.world_to_camera[:3, :3]
    for axis, name in enumerate("xyz"):
        drawing.arrow(camera.center, camera.center + 0.6 * turn[axis], AXES[axis], name)


def pixels() -> Image.Image:
    """Ten by six pixels of an image, with the coordinates of one of them."""
    views = rendered("mug/0001", on_sphere(-60, 22), size=48)
    top, left, scale = 9, 27, 44
    part = views.rgb[0][top : top + 6, left : left + 10]
    margin = 40
    canvas = np.full((6 * scale + 2 * margin, 10 * scale + 2 * margin, 3), 255, np.uint8)
    canvas[margin:-margin, margin:-margin] = enlarge(part, 10 * scale)
    drawing = Drawing(canvas)

    def place(u: float, v: float) -> list[float]:
        return [margin + scale * u, margin + scale * v]

    for c in range(11):
        drawing.line([place(c, 0), place(c, 6)], (200, 200, 200), 0.5)
        drawing.text([margin + scale * c, margin - 12], str(c), RED)
    for r in range(7):
        drawing.line([place(0, r), place(10, r)], (200, 200, 200), 0.5)
        drawing.text([margin - 12, margin + scale * r], str(r), GREEN)
    drawing.arrow(place(10, 0), [margin + scale * 10 + 18, margin], RED, "u")
    drawing.arrow(place(0, 6), [margin, margin + scale * 6 + 18], GREEN, "v")
    drawing.line([place(3, 2), place(4, 2), place(4, 3), place(3, 3), place(3, 2)], BLUE, 2)
    drawing.dot(place(3.5, 2.5), BLUE, 4)
    drawing.text(place(6.1, 2.5), "row 2, column 3: center (3.5, 2.5)", BLUE)
    return drawing.done()


def depth() -> Image.Image:
    """Depth of a wall in front of the camera, and the length of the rays to it."""
    corners = [[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]
    wall = pc.Mesh(np.array(corners) * 0.7, [[0, 1, 2], [0, 2, 3]])
    rig = pc.Rig("front", (pc.View((0, -1.1, 0), fov=60),))
    views = pc.render_views(wall, rig, 240, up="z", normalize=False)
    z = views.depth[0].astype(float)
    v, u = np.mgrid[0:240, 0:240] + 0.5
    K = views.camera.K[0]
    slant = np.sqrt(1 + ((u - K[0, 2]) / K[0, 0]) ** 2 + ((v - K[1, 2]) / K[1, 1]) ** 2)
    pictures = []
    for values in (z, z * slant):
        drawing = Drawing(bands(values))
        for at in ((120, 120), (20, 120), (20, 20)):
            drawing.dot(at, RED, 3)
            beside = (at[0] + 28, at[1] + 2) if at[0] < 60 else (at[0], at[1] + 14)
            drawing.text(beside, f"{values[at[1], at[0]]:.2f}", RED)
        pictures.append(drawing.done())
    return row(pictures, ["z depth: what is stored", "ray length: not stored"])


def bands(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Show values in bands of 0.05, lighter with distance; 0 is white."""
    steps = np.floor(values / 0.05)
    gray = np.clip(90 + 10 * (steps - steps[values > 0].min()), 0, 245)
    return np.repeat(np.where(values > 0, gray, 255).astype(np.uint8)[..., None], 3, axis=2)


def points() -> Image.Image:
    """The first n stored points of a shape, and those that a view sees."""
    mesh = unit_mesh("airplane/0002")
    views = rendered("airplane/0002", on_sphere(-60, 25), size=250)
    places, faces = pc.sample_points(mesh, 1024, seed=0)
    pale = (255 - (255 - views.rgb[0]) // 4).astype(np.uint8)
    pictures, captions = [], []
    for count in (32, 128, 512):
        drawing = Drawing(pale, views.camera[0])
        for point in places[:count]:
            drawing.dot(point, INK, 1.8)
        pictures.append(drawing.done())
        captions.append(f"the first {count} points")
    seen = views.visible(places, faces)[0]
    drawing = Drawing(pale, views.camera[0])
    for point in places[~seen]:
        drawing.dot(point, (190, 190, 190), 1.4)
    colors = point_colors(places)
    for index in np.flatnonzero(seen):
        drawing.dot(places[index], tuple(map(int, colors[index])), 1.8)
    return row([*pictures, drawing.done()], [*captions, "1,024: seen in color, hidden in gray"])


def boxes() -> Image.Image:
    """The box of a turned chair, from above and from the side."""
    yaw = np.radians(35)
    mesh = unit_mesh("chair/0000")
    front = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]])  # its front, -Y, becomes +X
    upright = mesh.vertices @ front
    low, high = upright.min(axis=0), upright.max(axis=0)
    size = high - low
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    turned = pc.UnitMesh.of(mesh, upright @ turn.T)
    center = turn @ ((low + high) / 2)
    above = pc.View((0, 0, 3.4), up=(0, 1, 0))
    views = pc.render_views(turned, pc.Rig("box", (above, on_sphere(-30, 25, 3.6))), 300)
    corner = np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    corners = center + (corner * size / 2) @ turn.T
    ring = [0, 1, 2, 3, 0]
    pictures = []
    for view in range(2):
        drawing = Drawing(views.rgb[view], views.camera[view])
        for part in (ring, [4 + i for i in ring], *([i, i + 4] for i in range(4))):
            drawing.line(corners[part], BLUE, 1)
        ahead = center + turn @ [0.95, 0, 0]
        drawing.arrow(center, ahead, BLUE, "front")
        if view == 0:
            drawing.arrow(center, center + np.array([0.95, 0, 0]), RED, "+X")
            angles = np.linspace(0, yaw, 20)
            arc = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
            drawing.line(center + 0.6 * arc, INK, 1)
            middle = np.array([np.cos(yaw / 2), np.sin(yaw / 2), 0])
            drawing.text(center + 0.72 * middle, "yaw")
            drawing.text((corners[5] + corners[6]) / 2, "dy")
            drawing.text((corners[6] + corners[7]) / 2, "dx")
        else:
            right = views.camera[view].project(corners[:4])[0][:, 0].argmax()
            drawing.text((corners[right] + corners[right + 4]) / 2, "dz")
        pictures.append(drawing.done())
    return row(pictures, ["from above", "from the side"])


# --- rendering


def rigs() -> Image.Image:
    """The cameras of each rig around a shape, and their images."""
    outside = pc.View(on_sphere(-60, 28, 9.6).position, fov=44)
    base = rendered("chair/0000", outside, size=200)
    lines = []
    for name in RIGS:
        rig = pc.find_rig(name)
        drawing = Drawing(base.rgb[0], base.camera[0])
        for camera in rig.cameras(64):
            drawing.line([camera.center, 0.72 * camera.center], (190, 205, 235), 1)
            drawing.dot(camera.center, BLUE, 3)
        views = pc.render_views(unit_mesh("chair/0000"), rig, 84)
        around = row([drawing.done()], [f"{name}: {len(rig.views)} views"])
        lines.append(row([around, grid(list(views.rgb), 10)]))
    return column(lines)


def lights() -> Image.Image:
    """A shape with light fixed to the camera or to the world, flat and smooth."""
    around = tuple(on_sphere(azimuth, 20) for azimuth in (-60, 60, 180))
    rows = []
    for light in ("camera", "world"):
        views = rendered("mug/0001", *around, size=150, light=light)
        rows.append(row([grid(list(views.rgb), 3)], [f"light={light}"]))
    flat = rendered("mug/0001", around[0], size=150)
    smooth = rendered("mug/0001", around[0], size=150, shading="smooth", crease_angle=40.0)
    shading = row(
        [grid([flat.rgb[0], smooth.rgb[0]], 2)], ["flat, and smooth with crease_angle=40"]
    )
    return row([column(rows), shading])


def discs() -> Image.Image:
    """A cloud drawn with discs of several radii, at two numbers of points."""
    rows = []
    for count in (1024, 10000):
        places, _ = pc.sample_points(unit_mesh("guitar/0202"), count)
        cloud = pc.Cloud(places)
        pictures = [
            Image.fromarray(
                pc.render_views(
                    cloud, pc.Rig("one", (on_sphere(-70, 15),)), 190, up="z", splat=radius
                ).rgb[0]
            )
            for radius in (1.0, 2.0, 3.0, 4.0)
        ]
        rows.append(row(pictures, [f"{count:,} points, splat={radius}" for radius in (1, 2, 3, 4)]))
    return column(rows)


def matches() -> Image.Image:
    """Points that two views see, joined."""
    views = rendered("airplane/0002", on_sphere(-75, 22), on_sphere(-30, 22), size=300)
    places, faces = pc.sample_points(unit_mesh("airplane/0002"), 96)
    seen = views.visible(places, faces)
    uv, pixel = points_to_pixels(places, seen, views.camera, views.depth)
    both = np.flatnonzero((pixel >= 0).all(axis=(0, 2)))
    drawing = Drawing(np.concatenate(list(views.rgb), axis=1))
    colors = point_colors(places)
    for index in both[:24]:
        color = tuple(map(int, colors[index]))
        ends = [uv[0, index], uv[1, index] + [300, 0]]
        drawing.line(ends, color, 1)
        drawing.dot(ends[0], color, 3)
        drawing.dot(ends[1], color, 3)
    return drawing.done()


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "world.png": world,
    "pixels.png": pixels,
    "depth.png": depth,
    "points.png": points,
    "boxes.png": boxes,
    "rigs.png": rigs,
    "lights.png": lights,
    "discs.png": discs,
    "matches.png": matches,
}

if __name__ == "__main__":
    main()
