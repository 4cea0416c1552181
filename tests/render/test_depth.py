"""Depth is that of the named face's plane, for any mesh, size and rig, on the CPU and with EGL.

The reference is in extended precision and tries every face at every pixel: nothing of the package
takes part but the cameras.
"""

import numpy as np
import pytest

from pointcmt.cameras import Rig, View, find_rig
from pointcmt.datasets.store.schema import depth_scale, quantize_depth
from pointcmt.geometry import sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.egl import contexts
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.scanline import _scan_close, nearest_faces, nearest_faces_at
from pointcmt.render.draw.splatter import draw_cloud, splat
from pointcmt.render.draw.visibility import visible_points
from pointcmt.shapes import Cloud, UnitMesh
from tests.render import shapes

NEAR = 1e-4  # docs/conventions.md
EXACT = 1e-6  # what is left when depth becomes float32
LONG = np.longdouble
HALF = 0.577350269  # of shapes.box()


@pytest.fixture(scope="module")
def rasterizer():
    with Rasterizer(contexts.list_devices()[0]) as made:
        yield made


@pytest.fixture
def draw(request, rasterizer):
    """A back end as a function: mesh, rig, size, settings → views."""

    def draw(mesh, rig, size, **settings):
        config, caster = RenderConfig(rig, size=size, **settings), RayCaster(mesh)
        camera = rig.cameras(size)
        if request.param == "egl":
            scene = caster.surface, caster.faces, camera, config
            views = rasterizer.render(*scene)
            faster = rasterizer.render(*scene, caster.cast)
            np.testing.assert_array_equal(views.depth > 0, faster.depth > 0)
            np.testing.assert_allclose(views.depth, faster.depth, rtol=0, atol=EXACT)
            return faster
        return draw_views(caster, camera, config)

    return draw


every_backend = pytest.mark.parametrize("draw", ["embree", "egl"], indirect=True)


def meet(mesh, faces, camera, row, column):
    """Depth of faces' planes at pixel centers, and by how much the centers lie inside of the faces
    (barycentric units, negative outside), all broadcast; nan for planes that are met nowhere."""
    K, pose = camera.K.astype(LONG), camera.world_to_camera.astype(LONG)
    corners = (mesh.vertices.astype(LONG) @ pose[:3, :3].T + pose[:3, 3])[mesh.faces[faces]]
    half = LONG(0.5)
    x, y = (column + half - K[0, 2]) / K[0, 0], (row + half - K[1, 2]) / K[1, 1]
    ray = np.stack(np.broadcast_arrays(x, y, LONG(1)), axis=-1)
    a, u, v = corners[..., 0, :], *(corners[..., i, :] - corners[..., 0, :] for i in (1, 2))
    normal = np.cross(u, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (normal * a).sum(axis=-1) / (normal * ray).sum(axis=-1)
        p = depth[..., None] * ray - a
        square = (normal**2).sum(axis=-1)
        b = (np.cross(p, v) * normal).sum(axis=-1) / square
        c = (np.cross(u, p) * normal).sum(axis=-1) / square
    return depth, np.minimum(np.minimum(b, c), 1 - b - c)


def check(mesh, rig, views):
    """The promise: background is one thing, a covered center lies on its face, at its depth."""
    np.testing.assert_array_equal(views.face_index >= 0, views.depth > 0)
    size = views.depth.shape[-1]
    stored = quantize_depth(views.depth, depth_scale(RenderConfig(rig, size=size).farthest))
    np.testing.assert_array_equal(views.face_index >= 0, stored > 0)
    for view, camera in enumerate(map(rig.cameras(size).__getitem__, range(len(rig.views)))):
        row, column = np.nonzero(views.face_index[view] >= 0)
        faces = views.face_index[view, row, column]
        depth, inside = meet(mesh, faces, camera, row, column)
        np.testing.assert_allclose(views.depth[view, row, column], depth, rtol=0, atol=EXACT)
        assert np.all(inside >= -EXACT)
        assert np.all(depth >= NEAR - EXACT)


def nearest(mesh, camera):
    """Depth [H,W] of the nearest face at each pixel center, inf = none, and how clear that is: the
    least distance (barycentric units) of the center from the outline of any face in its plane."""
    row, column = np.mgrid[0 : camera.height, 0 : camera.width]
    depth, inside = meet(
        mesh, np.arange(len(mesh.faces)), camera, row[..., None], column[..., None]
    )
    hit = (inside >= 0) & (depth >= NEAR)
    clear = np.where(np.isfinite(inside), np.abs(inside), 1).min(axis=-1)
    return np.where(hit, depth, np.inf).min(axis=-1), clear


def odd_mesh(seed, rig):
    """Faces seen edge-on, or so but for 1e-3 to 1e-17, through pixel centers or not; needles that
    thin; faces without area; and a few ordinary ones."""
    rng, triangles, cameras = np.random.default_rng(seed), [], rig.cameras(33)
    middle = 3.0 if rig.name == "ortho6" else 1.4  # depth
    for _ in range(40):
        view = rng.integers(len(cameras))
        eye = cameras.center[view]
        a, b, c = rng.uniform(-0.55, 0.55, (3, 3))
        if rng.random() < 0.5:  # lines in the image that lead through many pixel centers
            at = [(16.5, rng.integers(6, 26) + 0.5), (16.5, rng.integers(6, 26) + 0.5)]
            a, b = cameras[view].unproject(at, np.full(2, middle))
        noise = rng.normal(size=3) * 10.0 ** -rng.integers(3, 18)
        deeper = a + (a - eye) * rng.uniform(-0.1, 0.1)
        between = a + (b - a) * rng.random()
        third = (deeper, deeper + noise, between, between + noise, a, c)[rng.integers(6)]
        triangles.append(np.stack([a, b, third])[rng.permutation(3)])
    faces = np.arange(120, dtype=np.int32).reshape(40, 3)
    return UnitMesh(np.concatenate(triangles), faces)


@every_backend
@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("rig", ["ortho6", "simpleview6"])
def test_depth_is_that_of_the_named_face_on_odd_meshes(draw, rig, size):
    rig = find_rig(rig)
    for seed in range(12):
        mesh = odd_mesh(seed, rig)
        check(mesh, rig, draw(mesh, rig, size))


@every_backend
@pytest.mark.parametrize("size", [224, 225])
def test_depth_is_that_of_the_named_face_at_full_size(draw, size):
    rig = find_rig("ortho6")
    mesh = odd_mesh(0, rig)
    check(mesh, rig, draw(mesh, rig, size))


@pytest.mark.parametrize("size", [32, 33])
def test_nothing_is_missing_and_nothing_is_in_front(size):
    rig = find_rig("ortho6")
    for seed in range(6):
        mesh = odd_mesh(seed, rig)
        views = draw_views(RayCaster(mesh), rig.cameras(size), RenderConfig(rig, size=size))
        for view in range(len(rig.views)):
            expected, clear = nearest(mesh, rig.cameras(size)[view])
            sure = clear > 1e-3
            found = np.where(views.depth[view] > 0, views.depth[view], np.inf)
            np.testing.assert_allclose(found[sure], expected[sure], rtol=0, atol=EXACT)
            assert sure.mean() > 0.5


def board(along, half=0.6):
    """An upright board through the origin, in the direction `along` [2]."""
    x, y = half * np.array(along) / np.hypot(*along)
    vertices = [[-x, -y, -half], [x, y, -half], [x, y, half], [-x, -y, half]]
    return UnitMesh(np.array(vertices), np.array([[0, 1, 2], [0, 2, 3]], np.int32))


@every_backend
@pytest.mark.parametrize("size", [32, 33, 224])
def test_boards_that_cross_at_45_degrees(draw, size):
    rig = find_rig("ortho6")
    mesh = shapes.join(board((1, 1)), board((1, -1)))
    views = draw(mesh, rig, size)
    check(mesh, rig, views)
    assert np.all(views.face_index[4:] == -1)  # from above and below both are edge-on
    assert np.all(views.rgb[4:] == 255)


@every_backend
@pytest.mark.parametrize("size", [32, 33, 225])
@pytest.mark.parametrize("antialias", [True, False])
def test_a_board_seen_edge_on_leaves_what_is_behind_it(draw, size, antialias):
    rig = Rig("front", (View((0.0, -3.0, 0.0)),))
    settings = {"antialias": antialias, "layers": ("albedo", "normal")}
    wall = board((1, 0))
    alone = draw(wall, rig, size, **settings)
    front = UnitMesh(board((0, 1)).vertices - (0, 0.3, 0), board((0, 1)).faces)  # crosses the wall
    crossed = draw(shapes.join(wall, front), rig, size, **settings)
    for name in ("face_index", "depth", "rgb"):
        np.testing.assert_array_equal(getattr(crossed, name), getattr(alone, name))
    for name, layer in alone.layers.items():
        np.testing.assert_array_equal(crossed.layers[name], layer)


@every_backend
def test_faces_without_area_change_no_image(draw):
    rig, box = find_rig("ortho6"), shapes.box(0.4)
    lines = np.array([[0, 0.0, 0], [0.6, 0.0, 0], [0.3, 1e-13, 0], [0, 0, 0.6], [0, 0, 0.1]])
    faces = np.array([[0, 1, 2], [0, 3, 4], [1, 1, 3], [2, 2, 2]], np.int32) + len(box.vertices)
    mesh = UnitMesh(np.concatenate([box.vertices, lines]), np.concatenate([box.faces, faces]))
    for size in (32, 33):
        plain, more = draw(box, rig, size), draw(mesh, rig, size)
        np.testing.assert_array_equal(more.face_index, plain.face_index)
        np.testing.assert_array_equal(more.depth, plain.depth)


CLOSE = {
    "on a vertex": (HALF, HALF, HALF),
    "on an edge": (HALF, 0.0, HALF),
    "on a face": (HALF, 0.1, 0.2),
    "1e-5 from a face, inside": (0.1, 0.0, HALF - 1e-5),
    "1e-3 from a face, outside": (0.1, -HALF - 1e-3, 0.2),
    "inside": (0.1, 0.2, 0.0),
}


@every_backend
@pytest.mark.parametrize("position", CLOSE.values(), ids=CLOSE)
def test_a_camera_on_or_inside_the_surface(draw, position):
    views = [(0.0, 0.0, 0.0), (2.0, 0.3, 0.1), (-0.2, -2.0, 0.4), (0.1, 0.0, 3.0)]
    rig = Rig("close", tuple(View(position, target=target, fov=70.0) for target in views))
    mesh = shapes.box()
    drawn = draw(mesh, rig, 33)
    check(mesh, rig, drawn)
    for view in range(4):
        expected, clear = nearest(mesh, rig.cameras(33)[view])
        sure = clear > 1e-3
        found = np.where(drawn.depth[view] > 0, drawn.depth[view], np.inf)
        np.testing.assert_allclose(found[sure], expected[sure], rtol=0, atol=EXACT)


def test_the_same_faces_wherever_they_are_looked_for():
    """A few pixels alone, and in camera coordinates, as from a camera that is close."""
    mesh = shapes.sphere(12)
    rig = Rig("two", (View((0.0, -3.0, 0.0)), View((0.3, -0.9, 0.2), fov=90.0), View((0, 0, 3.0))))
    camera, faces = rig.cameras(33), np.arange(len(mesh.faces), dtype=np.int32)
    whole = nearest_faces(mesh.vertices, mesh.faces, faces, camera)
    pixels = np.flatnonzero(np.random.default_rng(0).random(whole.size) < 0.1)
    some = nearest_faces_at(pixels, mesh.vertices, mesh.faces, faces, camera)
    np.testing.assert_array_equal(some, whole.reshape(-1)[pixels])
    far = camera.world_to_camera[0], camera.K[0], 33, False
    other = _scan_close(mesh.vertices, mesh.faces, faces, *far)
    assert np.mean(other == whole[0]) > 0.97  # else a center lies on the edge of both
    row, column = np.nonzero((other >= 0) | (whole[0] >= 0))
    depths = [
        meet(mesh, found[row, column], camera[0], row, column)[0] for found in (other, whole[0])
    ]
    np.testing.assert_allclose(*depths, rtol=0, atol=EXACT)
    none = nearest_faces_at(pixels[:0], mesh.vertices, mesh.faces, faces, camera)
    assert len(none) == 0


def test_points_on_faces_seen_edge_on_are_not_visible():
    mesh = shapes.join(board((1, 0)), board((0, 1)))
    points, faces = sample_points(mesh, 400, shape_seed(0, "boards"))
    camera = find_rig("ortho6").cameras(33)
    seen = visible_points(RayCaster(mesh), points.astype(np.float32), faces, camera)
    across = faces >= 2  # of the board that front and back see edge-on
    expected = np.zeros_like(seen)
    expected[:2, ~across] = expected[2:4, across] = True  # none from above or below
    np.testing.assert_array_equal(seen, expected)


def test_from_a_vertex_the_far_faces_of_a_box_are_visible():
    mesh = shapes.box()
    points, faces = sample_points(mesh, 400, shape_seed(0, "box"))
    rig = Rig("vertex", (View((HALF, HALF, HALF), fov=120.0),))
    seen = visible_points(RayCaster(mesh), points.astype(np.float32), faces, rig.cameras(64))
    far = np.any(np.abs(points + HALF) < 1e-9, axis=1)  # on the three faces opposite
    np.testing.assert_array_equal(seen[0], far)


def test_a_camera_inside_a_cloud():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 3)) * 0.2
    points[0] = (0.1, 0.0, 0.0)
    points[1:20] = (0.1, 0.0, 0.0) + rng.normal(size=(19, 3)) * 1e-5
    rig = Rig("in", (View((0.1, 0.0, 0.0), target=(1.0, 0.2, 0.1)),))
    config = RenderConfig(rig, size=33, splat=2.0)
    normals = np.tile([0.0, 0.0, 1.0], (500, 1))
    views = draw_cloud(
        Cloud(points, normals), splat(points, rig.cameras(33), 2.0), rig.cameras(33), config
    )
    np.testing.assert_array_equal(views.face_index >= 0, views.depth > 0)
    assert views.depth[views.depth > 0].min() >= NEAR
