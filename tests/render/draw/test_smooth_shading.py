"""Smooth shading: light by interpolated normals; faces, depth and layers exactly as when flat."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.geometry import normalize
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.rays import KEY_FROM_CAMERA
from pointcmt.render.jobs.backends import make_renderer
from pointcmt.render.load.corner_normals import crease_normals
from pointcmt.shapes import Mesh, UnitMesh
from pointcmt.srgb import to_linear, to_srgb
from tests.render import shapes

BACKENDS = ("embree", "egl", "pyrender")
GRAY = to_linear(np.array(0.75))
RIG = find_rig("fibonacci8")


def draw(mesh, backend="embree", **settings):
    config = RenderConfig(RIG, **{"size": 64, "backend": backend, **settings})
    scene = RayCaster(mesh, cull=config.cull == "back")
    return make_renderer(backend).render(scene, RIG.cameras(config.size), config)


def ball(rings=8, signs=1, **more):
    """A sphere of few faces whose corners have the exact normals, times signs [F]."""
    mesh = shapes.sphere(rings, **more)
    signs = np.broadcast_to(signs, len(mesh.faces))[:, None, None]
    normals = mesh.vertices[mesh.faces] * signs
    return replace(mesh, corner_normals=normals.astype(np.float32))


def turned(mesh, seed=1):
    """The mesh rotated, so that no normal is exact in binary."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    return UnitMesh.of(mesh, mesh.vertices @ turn.T, turn)


def places(views, size=64):
    """Covered pixels: (indices, viewing directions [n,3], camera centers [n,3], cameras)."""
    camera = RIG.cameras(size)
    view, row, column = at = np.nonzero(views.face_index >= 0)
    pixel = np.stack([column + 0.5, row + 0.5, np.ones(len(row))], axis=1)
    ray = np.einsum("nij,nj->ni", np.linalg.inv(camera.K)[view], pixel)
    ray = np.einsum("nji,nj->ni", camera.world_to_camera[view, :3, :3], ray)
    return at, ray, camera.center[view], camera


def lit(normals, rays, turn):
    """The gray of docs/conventions.md in float64, sRGB 0..255, of normals on the viewer's side."""
    direction = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    key = np.einsum("nji,j->ni", turn, np.array(KEY_FROM_CAMERA))
    ahead = np.maximum(-(normals * direction).sum(axis=1), 0)
    toward = np.maximum((normals * key).sum(axis=1), 0)
    light = shading.AMBIENT + shading.HEADLIGHT * ahead + shading.KEY * toward
    return 255 * to_srgb(np.clip((0.02 + 0.98 * GRAY) * light, 0, 1))


@pytest.mark.parametrize("backend", ["embree", "egl"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_sphere_of_few_faces_shades_like_a_sphere(mixed, backend):
    """mixed: the normals of half of the faces point inwards, as in careless files."""
    count = len(shapes.sphere(8).faces)
    signs = np.where(np.random.default_rng(0).random(count) < 0.5, -1, 1) if mixed else 1
    mesh = ball(8, signs)
    views = draw(mesh, backend, antialias=False)
    at, ray, center, camera = places(views)
    turn = camera.world_to_camera[at[0], :3, :3]
    found = views.rgb[at].astype(float)
    assert np.all(found == found[:, :1])
    # A vertex of the unit sphere is its own normal, so that of a point on a face is its direction.
    point = center + views.depth[at][:, None] * ray
    point /= np.linalg.norm(point, axis=1, keepdims=True)
    exact = lit(point, ray, turn)
    assert np.abs(found[:, 0] - exact).max() <= 0.52  # rounding, and a table for sRGB
    # The sphere itself, wherever the ray meets it near the face.
    b = (ray * center).sum(axis=1)
    square = (ray * ray).sum(axis=1)
    under = b * b - square * ((center * center).sum(axis=1) - 1)
    sphere = center + ((-b - np.sqrt(np.maximum(under, 0))) / square)[:, None] * ray
    near = np.linalg.norm(sphere - point, axis=1) <= 0.03
    assert near.mean() > 0.6
    assert np.abs(found[:, 0] - lit(sphere, ray, turn))[near].max() <= 6
    flat = draw(replace(mesh, corner_normals=None), backend, antialias=False).rgb[at][:, 0]
    assert np.abs(flat - lit(sphere, ray, turn))[near].max() >= 24


@pytest.mark.parametrize(
    ("mesh", "backend"),
    [("sphere", "pyrender"), *itertools.product(("sphere", "soup"), ("embree", "egl"))],
)
def test_everything_but_color_is_as_with_flat_shading(mesh, backend):
    rng = np.random.default_rng(2)
    if mesh == "sphere":
        smooth = ball(7)
    else:
        corners = rng.uniform(-0.57, 0.57, (40, 1, 3)) + rng.uniform(-0.2, 0.2, (40, 3, 3))
        normals = rng.normal(size=(40, 3, 3))
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        normals[rng.random((40, 3)) < 0.2] = 0
        faces = np.arange(120).reshape(-1, 3)
        smooth = UnitMesh(corners.reshape(-1, 3), faces, corner_normals=normals)
    flat = replace(smooth, corner_normals=None)
    for cull in ("none", "back"):
        settings = {"layers": ("albedo", "normal"), "cull": cull}
        left, right = (draw(each, backend, **settings) for each in (flat, smooth))
        np.testing.assert_array_equal(left.face_index, right.face_index)
        np.testing.assert_array_equal(left.depth, right.depth)
        for layer in settings["layers"]:
            np.testing.assert_array_equal(left.layers[layer], right.layers[layer])
        assert np.mean(left.rgb != right.rgb) > 0.02


@pytest.mark.parametrize(
    ("normals", "backend"),
    [
        ("creases", "pyrender"),  # which draws slowly
        *itertools.product(("creases", "faces", "zeros", "inverted"), ("embree", "egl")),
    ],
)
def test_a_cube_stays_flat_byte_for_byte(normals, backend):
    cube = turned(shapes.box())
    if normals == "creases":
        found = crease_normals(cube, 30)
    else:
        own = RayCaster(cube).surface.normals[:, None].repeat(3, axis=1)
        found = own * {"faces": 1, "zeros": 0, "inverted": -1}[normals]
    smooth = replace(cube, corner_normals=found)
    np.testing.assert_array_equal(draw(cube, backend).rgb, draw(smooth, backend).rgb)


@pytest.mark.parametrize("backend", ["embree", "egl"])
def test_a_face_without_normals_beside_smooth_ones_is_flat(backend):
    smooth = ball(8)
    normals = smooth.corner_normals.copy()
    normals[::2] = 0
    partly = replace(smooth, corner_normals=normals)
    images = [
        draw(mesh, backend, antialias=False)
        for mesh in (replace(smooth, corner_normals=None), smooth, partly)
    ]
    shown = images[0].face_index
    flat, other = (shown >= 0) & (shown % 2 == 0), (shown >= 0) & (shown % 2 == 1)
    np.testing.assert_array_equal(images[2].rgb[flat], images[0].rgb[flat])
    np.testing.assert_array_equal(images[2].rgb[other], images[1].rgb[other])


@pytest.mark.parametrize("backend", ["embree", "egl"])
def test_windings_do_not_matter(backend):
    """Every other face is wound the other way round; the normals stay."""
    mesh = ball(8)
    faces, normals = mesh.faces.copy(), mesh.corner_normals.copy()
    faces[::2], normals[::2] = faces[::2, ::-1], normals[::2, ::-1]
    other = UnitMesh(mesh.vertices, faces, corner_normals=normals)
    left, right = draw(mesh, backend).rgb, draw(other, backend).rgb
    assert np.abs(left.astype(int) - right).max() <= 1


@pytest.mark.parametrize("backend", ["embree", "egl"])
def test_the_inside_of_a_bowl_is_lit_like_its_outside(backend):
    """Both sides of a surface are seen: the light of the inner one is that of normals inwards."""
    mesh = ball(12)
    below = (mesh.vertices[mesh.faces][:, :, 2] <= 1e-9).all(axis=1)
    bowl = UnitMesh(mesh.vertices, mesh.faces[below], corner_normals=mesh.corner_normals[below])
    views = draw(bowl, backend, antialias=False)
    at, ray, center, camera = places(views)
    point = center + views.depth[at][:, None] * ray
    normal = point / np.linalg.norm(point, axis=1, keepdims=True)
    inside = (RayCaster(bowl).surface.normals[views.face_index[at]] * ray).sum(axis=1) > 0
    assert 0.1 < inside.mean() < 0.9
    normal[inside] *= -1
    exact = lit(normal, ray, camera.world_to_camera[at[0], :3, :3])
    assert np.abs(views.rgb[at][:, 0] - exact).max() <= 0.52


@pytest.mark.parametrize("backend", ["embree", "egl"])
def test_normals_behind_a_face_never_light_it(backend):
    """Light from the side of a face that is not seen does not reach it."""
    wall = shapes.wall()
    normals = np.zeros((2, 3, 3), np.float32)
    normals[:] = (0.6, 0.8, 0)  # the wall faces -Y: this is behind it
    behind, before = (
        draw(replace(wall, corner_normals=sign * normals), backend).rgb for sign in (1, -1)
    )
    np.testing.assert_array_equal(behind, before)


def test_pyrender_draws_a_coarse_smooth_sphere_like_a_fine_one():
    fine = draw(shapes.sphere(96), "pyrender")
    smooth, flat = (draw(mesh, "pyrender") for mesh in (ball(6), shapes.sphere(6)))
    near = (smooth.face_index >= 0) & (np.abs(smooth.depth - fine.depth) < 0.05)
    errors = [
        np.abs(views.rgb[near].astype(int) - fine.rgb[near]).mean() for views in (smooth, flat)
    ]
    assert errors[0] < 1
    assert errors[1] > 4 * errors[0]


def test_opposite_normals_that_cancel_give_the_faces_light():
    """Halfway between two opposite normals there is none."""
    wall = shapes.wall()
    normals = np.zeros((2, 3, 3), np.float32)
    normals[..., 0] = np.array([[1, -1, -1], [1, -1, 1]])
    smooth = draw(replace(wall, corner_normals=normals), "embree")
    assert smooth.rgb.min() > 0
    assert np.isfinite(smooth.depth).all()


def test_a_turned_file_has_turned_normals():
    """The up axis turns normals as it turns vertices."""
    mesh = ball(6)
    source = Mesh(mesh.vertices * 3 + 5, mesh.faces, corner_normals=mesh.corner_normals)
    for up in "xyz":
        unit, _ = normalize(source, up)
        expected = unit.vertices[unit.faces]
        np.testing.assert_allclose(unit.corner_normals, expected, atol=1e-6)
