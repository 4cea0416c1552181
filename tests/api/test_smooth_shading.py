"""Smooth shading from Python: `load_mesh`, `Mesh`, `from_trimesh`, `render_views`, `render`."""

import numpy as np
import pytest
import trimesh

import pointcmt as pc
from pointcmt.api.files import Loader, list_entries
from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes
from pointcmt.errors import ShapeError, UsageError
from pointcmt.geometry import normalize
from pointcmt.render.config import RenderConfig
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.stores import render_listing

SMOOTH = {"shading": "smooth", "crease_angle": 40.0}


def write_ball(path):
    """A coarse ball with the normals of a fine one."""
    ball = trimesh.creation.icosphere(1)
    lines = [f"v {x} {y} {z}\nvn {x} {y} {z}" for x, y, z in ball.vertices.tolist()]
    lines += ["f " + " ".join(f"{k + 1}//{k + 1}" for k in face) for face in ball.faces.tolist()]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_views_of_a_file_equal_those_in_its_store_and_those_that_predict_draws(tmp_path):
    path = write_ball(tmp_path / "M/ball.obj")
    trimesh.creation.icosphere(1).export(tmp_path / "M/none.off")
    listing = list_shapes("folder", tmp_path / "M")
    store = render_listing(listing, tmp_path / "S", **SMOOTH)
    loader = Loader(store.attributes["render"], draws=True, points=64, up="y")
    for shape, file in enumerate((path, tmp_path / "M/none.off")):
        mesh = pc.load_mesh(file, normals=True)
        views = pc.render_views(mesh, "ortho6", 32, **SMOOTH)
        np.testing.assert_array_equal(views.rgb, store.read("rgb", shape))
        (entry,) = list_entries(file, 0)
        np.testing.assert_array_equal(loader.load(entry, False).views, views.rgb)
        (given,) = list_entries(mesh, 0)
        np.testing.assert_array_equal(loader.load(given, False).views, views.rgb)
        flat = pc.render_views(mesh, "ortho6", 32)
        assert (flat.rgb != views.rgb).mean() > 0.1
        np.testing.assert_array_equal(
            flat.rgb, pc.render_views(pc.load_mesh(file), "ortho6", 32).rgb
        )
        assert views.notes == flat.notes == ()


def test_a_cloud_can_be_loaded_for_a_network_that_was_trained_on_smooth_images(tmp_path):
    (tmp_path / "M").mkdir()
    trimesh.creation.icosphere(1).export(tmp_path / "M/none.off")
    settings = {**SMOOTH, "cull": "back"}
    store = render_listing(list_shapes("folder", tmp_path / "M"), tmp_path / "S", **settings)
    loader = Loader(store.attributes["render"], draws=True, points=64, up="y")
    cloud = pc.Cloud(np.random.default_rng(0).normal(size=(300, 3)))
    (entry,) = list_entries(cloud, 0)
    assert loader.load(entry, False).views.shape == (6, 32, 32, 3)


def test_a_mesh_without_normals_is_drawn_flat_and_says_so(tmp_path):
    mesh = pc.load_mesh(write_ball(tmp_path / "M/ball.obj"))
    assert mesh.corner_normals is None
    flat = pc.render_views(mesh, "ortho6", 32)
    views = pc.render_views(mesh, "ortho6", 32, shading="smooth")
    np.testing.assert_array_equal(views.rgb, flat.rgb)
    assert flat.notes == ()
    assert len(views.notes) == 1
    assert "normals" in views.notes[0]
    assert "--crease-angle" in views.notes[0]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"shading": "gouraud"}, "--shading"),
        ({"crease_angle": 40.0}, "--crease-angle"),
        ({"shading": "smooth", "crease_angle": 181.0}, "--crease-angle"),
        ({"shading": "smooth", "crease_angle": -1.0}, "--crease-angle"),
        ({"shading": "smooth", "crease_angle": float("nan")}, "--crease-angle"),
    ],
)
def test_invalid_settings_are_refused(settings, where):
    mesh = pc.Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    with pytest.raises(UsageError) as raised:
        pc.render_views(mesh, "ortho6", 32, **settings)
    assert raised.value.where == where


def test_clouds_have_no_smooth_shading():
    with pytest.raises(UsageError) as raised:
        pc.render_views(pc.Cloud(np.eye(3)), "ortho6", 32, shading="smooth")
    assert raised.value.where == "--shading"


def test_settings_that_are_not_used_are_not_stored():
    """So that stores made before these settings existed keep their hash."""
    rig = find_rig("ortho6")
    flat = RenderConfig(rig)
    assert not {"shading", "crease_angle"} & flat.attributes().keys()
    assert RenderConfig(rig, shading="flat", crease_angle=None).attributes() == flat.attributes()
    for config in (RenderConfig(rig, shading="smooth"), RenderConfig(rig, **SMOOTH), flat):
        assert RenderConfig.from_attributes(config.attributes()) == config
    whole, real = RenderConfig(rig, shading="smooth", crease_angle=40), RenderConfig(rig, **SMOOTH)
    assert str(whole.attributes()) == str(real.attributes())


@pytest.mark.parametrize(
    ("normals", "says"),
    [
        (np.ones((1, 3, 3)), "3 vectors whose length is neither 1 nor 0"),
        (np.full((1, 3, 3), np.nan), "1 normals are not finite"),
        (np.zeros((3, 3)), "shape [1, 3, 3], not [3, 3]"),
        (np.zeros((2, 3, 3)), "shape [1, 3, 3], not [2, 3, 3]"),
        ([[["a"] * 3] * 3], "must be numbers"),
    ],
)
def test_invalid_normals_of_a_mesh_are_refused(normals, says):
    with pytest.raises(ShapeError) as raised:
        pc.Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], corner_normals=normals)
    assert says in raised.value.what
    assert raised.value.where == "corner_normals="


def test_normals_of_trimesh_are_kept_on_request_and_placed_with_the_scene(tmp_path):
    """The same as from a GLB file that trimesh writes."""
    rng = np.random.default_rng(3)
    ball = trimesh.creation.icosphere(1)
    normals = ball.vertices + 0.2 * rng.normal(size=ball.vertices.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    part = trimesh.Trimesh(ball.vertices, ball.faces, vertex_normals=normals, process=False)
    matrix = trimesh.transformations.rotation_matrix(0.7, (1, 2, 3)) @ np.diag([-1, 1, 3, 1])
    scene = trimesh.Scene()
    scene.add_geometry(part, node_name="one", transform=matrix)
    assert pc.Mesh.from_trimesh(scene).corner_normals is None
    mesh = pc.Mesh.from_trimesh(scene, normals=True)
    assert "corner_normals" in repr(mesh)
    expected = normals @ np.linalg.inv(matrix[:3, :3])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.corner_normals, expected[ball.faces[:, ::-1]], atol=1e-6)
    data = scene.export(file_type="glb", include_normals=True)
    read = read_glb(tmp_path / "mesh.glb", data, normals=True)
    images = [
        pc.render_views(each, "ortho6", 64, shading="smooth").rgb.astype(int)
        for each in (mesh, read)
    ]
    assert np.abs(images[0] - images[1]).max() <= 1


def test_normals_survive_when_colors_of_parts_are_joined():
    red, plain = trimesh.creation.box(), trimesh.creation.icosphere(1)
    red.visual.face_colors = [255, 0, 0, 255]
    plain.visual.vertex_colors = [0, 255, 0, 255]
    scene = trimesh.Scene([red, plain])
    mesh = pc.Mesh.from_trimesh(scene, normals=True)
    given = [part.vertex_normals[part.faces] for part in (red, plain)]
    np.testing.assert_allclose(mesh.corner_normals, np.concatenate(given), atol=1e-6)
    assert normalize(mesh, "z")[0].corner_normals is not None
