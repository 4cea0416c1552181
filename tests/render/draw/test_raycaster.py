"""Images against plain float64 ray casting, and the properties of light and color."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import Rig, View, find_rig, pixel_centers
from pointcmt.geometry import first_twins, normalize
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Material
from pointcmt.srgb import to_linear, to_srgb
from tests import reference
from tests.render import shapes

FRONT = Rig("front", (View((0.0, -3.0, 0.0)),))


def config(rig="dodeca20", **settings):
    return RenderConfig(FRONT if rig == "front" else find_rig(rig), **{"size": 96, **settings})


def draw(mesh, settings):
    return draw_views(RayCaster(mesh), settings.rig.cameras(settings.size), settings)


def rays_of(cameras, view, row, column):
    """Origins and directions (length 1 = depth 1) of the rays through pixel centers."""
    uv = np.stack([column, row], axis=-1) + 0.5
    origin = cameras.center[view]
    ends = [cameras[v].unproject(uv[i, None], np.ones(1))[0] for i, v in enumerate(view)]
    return origin, np.array(ends) - origin


def check_exact(mesh, size=224, pixels=3000):
    """Check face ids and depth of one mesh on a sample of its pixels."""
    settings = config(size=size)
    cameras = settings.rig.cameras(size)
    views = draw(mesh, settings)
    rng = np.random.default_rng(0)
    covered = rng.permutation(np.argwhere(views.face_index >= 0))[:pixels].T
    origin, direction = rays_of(cameras, *covered)
    _, nearest = reference.nearest_hits(mesh.vertices, mesh.faces, origin, direction)
    faces, depth = views.face_index[tuple(covered)], views.depth[tuple(covered)]
    own = reference.distance_to_face(mesh.vertices, mesh.faces, faces, origin, direction, 1e-4)
    assert np.mean(own <= nearest + 1e-6) >= 0.999  # the face is the nearest one hit
    assert np.abs(depth - nearest)[np.isfinite(nearest)].max() <= 1e-5
    lands = reference.point_triangle_distance(
        origin + depth[:, None] * direction, mesh.vertices[mesh.faces[faces]]
    )
    assert lands.max() <= 1e-6
    empty = rng.permutation(np.argwhere(views.face_index < 0))[: pixels // 4].T
    missed, _ = reference.nearest_hits(mesh.vertices, mesh.faces, *rays_of(cameras, *empty))
    assert np.mean(missed < 0) >= 0.999
    np.testing.assert_array_equal(views.depth > 0, views.face_index >= 0)


@pytest.mark.parametrize("mesh", [shapes.box(), shapes.sphere()], ids=["box", "sphere"])
def test_ids_and_depth_are_exact_on_simple_solids(mesh):
    check_exact(mesh)


@pytest.mark.parametrize(
    "name",
    [
        "ModelNet40/airplane/train/airplane_0002.off",
        "ModelNet40/bathtub/train/bathtub_0001.off",
        "ModelNet40/bed/train/bed_0002.off",
        "ModelNet10/chair/train/chair_0001.off",
        "textured/fuze/fuze.obj",
    ],
)
def test_ids_and_depth_are_exact_on_real_meshes(real_data, name):
    mesh, _ = normalize(load_mesh(real_data / name), "z")
    check_exact(mesh, pixels=min(3000, int(6e7 / len(mesh.faces))))


def test_the_first_of_two_coincident_faces_is_shown():
    mesh = shapes.box()
    twins = replace(mesh, faces=np.concatenate([mesh.faces, mesh.faces[:, [1, 0, 2]], mesh.faces]))
    np.testing.assert_array_equal(first_twins(twins), np.tile(np.arange(12), 3))
    once, thrice = draw(mesh, config()), draw(twins, config())
    np.testing.assert_array_equal(once.face_index, thrice.face_index)
    np.testing.assert_array_equal(once.rgb, thrice.rgb)


def test_surfaces_are_two_sided():
    mesh = shapes.sphere()
    turned = replace(mesh, faces=mesh.faces[:, ::-1].copy())
    there, back = draw(mesh, config()), draw(turned, config())
    np.testing.assert_array_equal(there.face_index, back.face_index)
    assert np.abs(there.rgb.astype(int) - back.rgb).max() <= 1  # rounding of another corner order


def test_antialiasing_only_changes_rgb_at_edges():
    mesh = shapes.box()
    plain, smooth = draw(mesh, config(antialias=False)), draw(mesh, config())
    np.testing.assert_array_equal(plain.face_index, smooth.face_index)
    np.testing.assert_array_equal(plain.depth, smooth.depth)
    inside = interior(plain.face_index)
    np.testing.assert_array_equal(plain.rgb[inside], smooth.rgb[inside])
    assert np.any(plain.rgb != smooth.rgb)


@pytest.mark.parametrize("name", ["box", "sphere"])
def test_antialiasing_comes_close_to_many_samples(name):
    mesh = getattr(shapes, name)()
    settings = config(size=64)
    truth = supersampled(mesh, settings)
    error = {
        on: np.sqrt(np.mean((draw(mesh, replace(settings, antialias=on)).rgb - truth) ** 2))
        for on in (False, True)
    }
    assert error[True] < 0.4 * error[False]


def test_light_follows_the_camera_by_default():
    mesh = shapes.sphere(60)
    fixed_to_camera = draw(mesh, config("ortho6")).rgb.astype(int)
    spread = np.ptp(fixed_to_camera[:4].mean(axis=(1, 2, 3)))
    assert spread < 1  # a sphere looks the same from all sides
    fixed_to_world = draw(mesh, config("ortho6", light="world")).rgb
    top, bottom = fixed_to_world[4, 48, 48].mean(), fixed_to_world[5, 48, 48].mean()
    assert top > bottom + 20


def test_light_fixed_to_the_world_shows_a_surface_the_same_to_everyone():
    """Each face of a ball has one color in all views, whichever way it is turned."""
    ball = shapes.sphere(24)
    for mesh in (ball, replace(ball, faces=ball.faces[:, ::-1])):
        views = draw(mesh, config("dodeca20", light="world", antialias=False))
        shown = views.face_index >= 0
        face, color = views.face_index[shown], views.rgb[shown].astype(int)
        low, high = np.full((len(mesh.faces), 3), 255), np.zeros((len(mesh.faces), 3), int)
        np.minimum.at(low, face, color)
        np.maximum.at(high, face, color)
        assert np.array_equal(low[np.unique(face)], high[np.unique(face)])


def test_depth_and_ids_do_not_depend_on_light_background_or_antialiasing():
    mesh = shapes.sphere()
    first = draw(mesh, config())
    other = draw(mesh, config(light="world", background=(0, 0, 0), antialias=False))
    np.testing.assert_array_equal(first.depth, other.depth)
    np.testing.assert_array_equal(first.face_index, other.face_index)
    assert np.all(other.rgb[other.face_index < 0] == 0)


def test_material_colors_are_srgb_and_fully_lit_when_facing_the_camera():
    mesh = shapes.wall(color=(0.8, 0.4, 0.2))
    image = draw(mesh, config("front", layers=("albedo", "normal")))
    inside = interior(image.face_index)
    albedo = image.layers["albedo"][inside]
    np.testing.assert_array_equal(albedo, np.broadcast_to([204, 102, 51], albedo.shape))
    normal = image.layers["normal"][inside].astype(int)
    np.testing.assert_array_equal(normal, np.broadcast_to([128, 128, 1], normal.shape))
    lit = shading.AMBIENT + shading.HEADLIGHT - shading.KEY * shading.KEY_FROM_CAMERA[2]
    assert lit == pytest.approx(0.761, abs=0.001)
    linear = 0.02 + 0.98 * to_linear(np.array([0.8, 0.4, 0.2]))  # 2 % are always reflected
    center = image.rgb[0, 48, 48].astype(int)
    assert np.abs(center - 255 * to_srgb(lit * linear)).max() <= 1


@pytest.mark.parametrize("light", ["camera", "world"])
@pytest.mark.parametrize("rig", ["dodeca20", "ortho6", "front"])
def test_no_material_vanishes_in_the_white_background_or_in_black(rig, light):
    """Whatever its color, a surface differs from white, and a black one's faces from each other."""
    for color in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        ball = shapes.sphere(24)
        mesh = replace(
            ball,
            materials=(Material("plain", color),),
            face_material=np.zeros(len(ball.faces), np.int32),
        )
        settings = config(rig, light=light, layers=("albedo",), antialias=False)
        views = draw(mesh, settings)
        covered = views.face_index >= 0
        shown = views.rgb[covered].astype(int).max(axis=1)
        assert shown.max() <= 255 - 10
        assert np.ptp(shown) >= 20
        assert views.faint_share(settings.background) == 0
        np.testing.assert_array_equal(views.layers["albedo"][covered], round(255 * color[0]))


def test_vertex_colors_are_interpolated_in_linear_light():
    mesh = shapes.wall()
    colors = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]], np.float32)
    mesh = replace(mesh, uv=None, vertex_colors=colors)
    image = draw(mesh, config("front", layers=("albedo",), size=201))
    row = image.layers["albedo"][0, 100, :, 0].astype(int)
    shown = row[image.face_index[0, 100] >= 0]
    assert np.all(np.diff(shown) >= 0)
    assert row[100] == 188  # half the light, in sRGB


def test_face_colors_and_materials_are_on_their_faces():
    parts = (shapes.box(0.3, (-0.5, 0, 0)), shapes.box(0.3, (0.5, 0, 0)))
    materials = (Material("red", (1, 0, 0)), Material("blue", (0, 0, 1)))
    mesh = shapes.join(*parts, materials=materials, face_material=np.repeat([0, 1], 12))
    image = draw(mesh, config("front", layers=("albedo",)))
    red, blue = image.face_index < 12, image.face_index >= 12
    red &= image.face_index >= 0
    assert np.all(image.layers["albedo"][red] == [255, 0, 0])
    assert np.all(image.layers["albedo"][blue] == [0, 0, 255])
    painted = replace(mesh, face_colors=np.tile([[0, 1, 0]], (24, 1)).astype(np.float32))
    image = draw(painted, config("front", layers=("albedo",)))
    assert np.all(image.layers["albedo"][image.face_index >= 0] == [0, 255, 0])


def test_transparent_materials_are_drawn_opaque():
    """Color, depth, id and visibility of a pixel belong to the same surface."""
    materials = (Material("glass", (0, 1, 0), opacity=0.1), Material("core", (1, 0, 0)))
    parts = (shapes.box(0.5), shapes.box(0.2))
    mesh = shapes.join(*parts, materials=materials, face_material=np.repeat([0, 1], 12))
    image = draw(mesh, config(layers=("albedo",)))
    covered = image.face_index >= 0
    assert np.all(image.face_index[covered] < 12)
    assert np.all(image.layers["albedo"][covered] == [0, 255, 0])


def test_a_texture_is_upright_and_exact_where_texels_are_large():
    texture = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)
    large = texture.repeat(64, axis=0).repeat(64, axis=1)
    image = draw(shapes.wall(large), config("front", layers=("albedo",))).layers["albedo"][0]
    quarter = {(30, 30): 0, (30, 66): 1, (66, 30): 2, (66, 66): 3}
    for place, texel in quarter.items():
        np.testing.assert_array_equal(image[place], texture.reshape(4, 3)[texel])


def test_a_fine_texture_fades_to_its_mean_instead_of_flickering():
    checker = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    mesh = shapes.wall(np.repeat(checker[..., None], 3, axis=2), repeat=4.0)
    image = draw(mesh, config("front", layers=("albedo",)))
    inside = image.layers["albedo"][interior(image.face_index)].astype(int)
    assert np.abs(inside - 188).max() <= 2  # half of white, in linear light


def test_mip_levels_keep_the_mean_light():
    texture = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    levels = shading.mip_levels(texture[:32, :32])
    assert [level.shape[:2] for level in levels] == [(32 >> i, 32 >> i) for i in range(6)]
    mean = shading.LINEAR_OF_BYTE[texture[:32, :32]].mean(axis=(0, 1))
    np.testing.assert_allclose(shading.LINEAR_OF_BYTE[levels[-1][0, 0]], mean, atol=0.01)
    assert shading.mip_levels(texture)[-1].shape == (1, 1, 3)


def test_srgb_tables_follow_the_standards_curve():
    exact = np.arange(256) / 255
    low = exact <= 0.04045
    linear = np.where(low, exact / 12.92, ((exact + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(shading.LINEAR_OF_BYTE, linear, atol=1e-7)
    grays = np.repeat(shading.LINEAR_OF_BYTE[:, None], 3, axis=1)
    back = shading.encode_lit(grays, np.ones(256, np.float32), np.float32(0))
    np.testing.assert_array_equal(back[:, 0], np.arange(256))  # there and back is the identity


@pytest.mark.parametrize(("size", "rig"), [(8, "dodeca20"), (1024, "front"), (33, "fibonacci128")])
def test_images_have_the_requested_sizes_and_number_of_views(size, rig):
    mesh = shapes.sphere(60)
    image = draw(mesh, config(rig, size=size))
    share = np.mean(image.face_index >= 0, axis=(1, 2))
    disc = np.pi * (np.tan(np.arcsin(1 / 3)) / np.tan(np.radians(20)) / 2) ** 2
    np.testing.assert_allclose(share, disc, atol=3 / size)


def test_a_camera_inside_the_shape_sees_all_around():
    rig = Rig("inside", (View((0.0, -0.1, 0.0), fov=90.0), View((0.0, -3.0, 0.0))))
    image = draw(shapes.sphere(), RenderConfig(rig, size=32))
    assert np.all(image.face_index[0] >= 0)


def test_views_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    mesh = shapes.sphere()
    together = draw(mesh, config())
    monkeypatch.setattr("pointcmt.render.draw.cpu.PIXELS_AT_ONCE", 96 * 96 * 3)
    apart = draw(mesh, config())
    np.testing.assert_array_equal(together.rgb, apart.rgb)
    np.testing.assert_array_equal(together.face_index, apart.face_index)


def interior(face_index):
    """Pixels whose 3x3 neighborhood shows a single face."""
    inside = face_index >= 0
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            inside &= np.roll(face_index, (row, column), axis=(1, 2)) == face_index
    inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    return inside


def supersampled(mesh, settings, factor=8):
    """Each pixel as the mean light of factor² plain samples, [V,H,W,3] in 0..255."""
    fine = draw(mesh, replace(settings, size=settings.size * factor, antialias=False)).rgb
    size = settings.size
    light = (
        shading.LINEAR_OF_BYTE[fine].reshape(-1, size, factor, size, factor, 3).mean(axis=(2, 4))
    )
    low = light <= 0.0031308
    return 255 * np.where(low, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def test_the_pixel_centers_of_these_tests_match_the_package(tmp_path):
    cameras = config().rig.cameras(4)
    origin, direction = rays_of(cameras, np.array([0]), np.array([2]), np.array([1]))
    uv, depth = cameras[0].project(origin + 2 * direction)
    np.testing.assert_allclose(uv[0], pixel_centers(4, 4)[2, 1], atol=1e-9)
    np.testing.assert_allclose(depth, 2)
