"""Shapes in Python are drawn, sampled and seen exactly as a store has them."""

import io
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

import pointcmt as pc
from pointcmt.datasets.sources import list_shapes, toy
from pointcmt.datasets.store.schema import quantize_depth
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.stores import render_listing, render_toy

LAYERS = ("normal", "albedo")


def assert_as_stored(views, store, index):
    np.testing.assert_array_equal(views.rgb, store.read("rgb", index))
    np.testing.assert_array_equal(views.face_index, store.read("face_index", index))
    depth = quantize_depth(views.depth, store.schema.depth_scale)
    np.testing.assert_array_equal(depth, store.read("depth", index))
    for layer, images in views.layers.items():
        np.testing.assert_array_equal(images, store.read(layer, index))
    np.testing.assert_array_equal(views.source_to_world, store.read("source_to_world", index))
    np.testing.assert_array_equal(
        views.camera.world_to_camera, store.read("world_to_camera", index)
    )
    np.testing.assert_array_equal(views.camera.K, store.read("K", index))


@pytest.mark.parametrize("backend", ["auto", "embree"])
def test_views_of_a_mesh_are_those_of_its_store(tmp_path, backend):
    store = render_toy(tmp_path / "S", limit=20, layers=LAYERS, backend=backend)
    for index in range(0, 20, 3):
        mesh, where = toy.build(store.shapes[index].id), store.read("source_to_world", index)
        views = pc.render_views(mesh, "ortho6", 32, up="z", backend=backend, layers=LAYERS)
        assert_as_stored(views, store, index)
        points = store.read("points", index).astype(np.float64)  # in the world: back to the source
        own = (points - where[:3, 3]) @ np.linalg.inv(where[:3, :3]).T
        seen = views.visible(own, store.read("point_face", index))
        # A point that went there and back may be rounded by one unit in the last place.
        assert np.mean(seen == store.visible(index)) > 0.999
        unit, _ = pc.normalize(mesh, up="z")
        again = pc.render_views(unit, "ortho6", 32, backend=backend)
        np.testing.assert_array_equal(again.rgb, views.rgb)
        seen = again.visible(points, store.read("point_face", index))
        np.testing.assert_array_equal(seen, store.visible(index))


def test_views_of_a_file_are_those_of_its_store(tmp_path):
    (tmp_path / "meshes").mkdir()
    trimesh.creation.annulus(0.3, 1, 0.4).export(tmp_path / "meshes/ring.glb")
    store = render_listing(list_shapes("folder", tmp_path / "meshes"), tmp_path / "S")
    assert_as_stored(
        pc.render_views(pc.load_mesh(tmp_path / "meshes/ring.glb"), "ortho6", 32), store, 0
    )


def test_views_of_a_cloud_are_those_of_its_store(tmp_path):
    (tmp_path / "clouds").mkdir()
    rng = np.random.default_rng(0)
    np.savetxt(tmp_path / "clouds/a.xyz", rng.normal(size=(500, 3)) * (1, 2, 3))
    store = render_listing(list_shapes("clouds", tmp_path / "clouds"), tmp_path / "S")
    cloud = pc.load_cloud(tmp_path / "clouds/a.xyz")
    views = pc.render_views(cloud, "ortho6", 32)
    assert_as_stored(views, store, 0)
    points, index = pc.sample_points(cloud, 256)
    np.testing.assert_array_equal(index, store.read("point_face", 0))
    np.testing.assert_array_equal(points, cloud.points[index])
    np.testing.assert_array_equal(views.visible(points, index), store.visible(0))


def test_sampled_points_lie_on_their_faces_in_the_meshs_own_coordinates():
    mesh = toy.build("chair/0000")
    far = pc.Mesh(mesh.vertices * 50 + (1e4, -2e4, 5), mesh.faces)
    points, faces = pc.sample_points(far, 500, seed=3)
    a, b, c = (far.vertices[far.faces[faces, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert np.abs(((points - a) * normal).sum(axis=1)).max() < 1e-9 * 2e4
    inside = [
        np.einsum("ni,ni->n", np.cross(q - p, points - p), normal)
        for p, q in ((a, b), (b, c), (c, a))
    ]
    assert np.min(inside) > -1e-6
    again, _ = pc.sample_points(far, 500, seed=3)
    np.testing.assert_array_equal(points, again)
    other, _ = pc.sample_points(far, 500, seed=4)
    assert not np.array_equal(points, other)
    generated, _ = pc.sample_points(far, 500, seed=np.random.default_rng(3))
    np.testing.assert_array_equal(points, generated)


def test_visible_points_project_onto_the_pixels_that_show_them():
    mesh = toy.build("mug/0001")
    views = pc.render_views(mesh, "dodeca20", 64, up="z")
    points, faces = pc.sample_points(mesh, 300)
    seen = views.visible(points, faces)
    assert 0.1 < seen.mean() < 0.9
    _, depth = views.camera.project(views.to_world(points))
    assert (depth[seen] > 0).all()
    none = views.visible(np.zeros((0, 3)), np.zeros(0, int))
    assert none.shape == (20, 0)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda mesh: pc.render_views(mesh, up="w"), "unknown up axis 'w'"),
        (lambda mesh: pc.render_views(mesh, size=2), "  where: size="),
        (lambda mesh: pc.render_views(mesh, "dodeca21"), "  where: rig="),
        (lambda mesh: pc.render_views(mesh, lights="world"), "did you mean 'light'"),
        (lambda mesh: pc.render_views(mesh, background="beige"), "  where: background="),
        (lambda mesh: pc.render_views(mesh, splat=2.0), "  where: splat="),
        (lambda mesh: pc.render_views(mesh, normalize=False), "extends to 5 from the origin"),
        (lambda mesh: pc.sample_points(mesh, 0), "  where: count="),
        (lambda mesh: pc.render_views(mesh, "fibonacci1024", 4096), "views of 4096² pixels take 4"),
        (lambda mesh: pc.normalize(pc.Mesh(mesh.vertices * 0, mesh.faces)), "all points coincide"),
        (
            lambda mesh: pc.render_views(mesh, "ortho6", 32).visible([[0, 0, 0]], [1]),
            "1 to 1; valid: 0 to 0",
        ),
        (
            lambda mesh: pc.render_views(mesh, "ortho6", 32).visible([[0, 0, 0]], [0, 0]),
            "shape [1]",
        ),
        (lambda mesh: pc.load_mesh("nowhere.off"), "  where: nowhere.off"),
        (lambda mesh: pc.load_cloud("nowhere.xyz"), "  where: nowhere.xyz"),
        (
            lambda mesh: pc.Mesh.from_trimesh("chair.glb"),
            "expected a trimesh.Trimesh or trimesh.Scene, not a str",
        ),
    ],
)
def test_what_cannot_be_is_said_in_words_of_python(use, says):
    mesh = pc.Mesh([[0, 0, 0], [5, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    with pytest.raises(pc.PointcmtError) as raised:
        use(mesh)
    assert says in str(raised.value)
    assert "--" not in str(raised.value)


def test_a_mesh_that_is_in_the_unit_sphere_is_drawn_where_it_is():
    mesh = pc.Mesh([[0, 0, 0], [0.5, 0, 0], [0, 0, 0.5]], [[0, 1, 2]])
    views = pc.render_views(mesh, "ortho6", 64, normalize=False)
    np.testing.assert_array_equal(views.source_to_world, np.eye(4))
    shown = np.argwhere(views.face_index[0] == 0)
    assert (shown >= (15, 31)).all()  # up and to the right of the middle
    assert (shown <= (32, 48)).all()


# trimesh


def painted(size=16):
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))


def unwrapped(mesh, material):
    """A trimesh with texture coordinates for each vertex."""
    uv = mesh.vertices[:, :2] * 0.7 + 0.1
    visual = TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, visual=visual, process=False)


def both(scene):
    """The pictures of a scene as trimesh reads it from GLB, and as our reader does."""
    data = scene.export(file_type="glb")
    loaded = trimesh.load(io.BytesIO(data), file_type="glb")
    meshes = pc.Mesh.from_trimesh(loaded), read_glb(Path("nowhere/mesh.glb"), data)
    return [pc.render_views(mesh, "dodeca20", 64) for mesh in meshes]


def same_pictures(left, right, most=0):
    """Whatever order trimesh gives a scene's parts in; colors differ by `most` at most."""
    np.testing.assert_array_equal(left.depth, right.depth)
    assert np.abs(left.rgb.astype(int) - right.rgb).max() <= most


def test_a_textured_glb_looks_as_our_own_reader_has_it():
    image = painted()
    scene = trimesh.Scene(
        unwrapped(trimesh.creation.icosphere(2), PBRMaterial(baseColorTexture=image))
    )
    left, right = both(scene)
    same_pictures(left, right)
    np.testing.assert_array_equal(left.face_index, right.face_index)
    assert len(np.unique(left.rgb.reshape(-1, 3), axis=0)) > 500


def test_a_tinted_texture_and_base_colors_are_linear_light():
    """trimesh keeps a base color in 8 bits: colors may be off by what that loses."""
    factor = [128, 255, 64, 255]
    tinted = PBRMaterial(baseColorTexture=painted(), baseColorFactor=factor)
    plain = PBRMaterial(baseColorFactor=[200, 100, 150, 255])
    ball, box = trimesh.creation.icosphere(2), trimesh.creation.box()
    box.visual = TextureVisuals(material=plain)
    scene = trimesh.Scene()
    scene.add_geometry(unwrapped(ball, tinted))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix((2, 0, 1)))
    same_pictures(*both(scene), most=2)


def test_a_scene_is_joined_as_its_graph_places_it():
    scene, box = trimesh.Scene(), trimesh.creation.box()
    turn = trimesh.transformations.rotation_matrix(0.7, (1, 2, 3), (0.5, 0, 0))
    mirror = np.diag([-1.0, 1, 2, 1])
    scene.add_geometry(box, geom_name="box", node_name="one", transform=turn)
    scene.add_geometry(box, geom_name="box2", node_name="two", transform=mirror @ turn @ turn)
    scene.add_geometry(trimesh.load_path([[0, 0, 0], [1, 1, 1]]))  # not a surface
    mesh = pc.Mesh.from_trimesh(scene)
    assert len(mesh.faces) == 24
    expected = scene.to_mesh() if hasattr(scene, "to_mesh") else scene.dump(concatenate=True)
    np.testing.assert_allclose(
        mesh.vertices[mesh.faces].mean((0, 1)), expected.triangles.mean((0, 1))
    )
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    volume = np.einsum("ni,ni->n", a, np.cross(b, c)) / 6  # of closed surfaces turned outwards
    assert volume[:12].sum() == pytest.approx(1)
    assert volume[12:].sum() == pytest.approx(2)
    same_pictures(*both(scene))


def test_vertex_and_face_colors_are_kept():
    box = trimesh.creation.box()
    rng = np.random.default_rng(0)
    faces, vertices = (
        rng.integers(0, 256, (12, 4), np.uint8),
        rng.integers(0, 256, (8, 4), np.uint8),
    )
    painted_faces = trimesh.Trimesh(box.vertices, box.faces, face_colors=faces, process=False)
    mesh = pc.Mesh.from_trimesh(painted_faces)
    np.testing.assert_allclose(mesh.face_colors * 255, faces[:, :3], atol=1e-4)
    painted_vertices = trimesh.Trimesh(
        box.vertices, box.faces, vertex_colors=vertices, process=False
    )
    mesh = pc.Mesh.from_trimesh(painted_vertices)
    np.testing.assert_allclose(mesh.vertex_colors * 255, vertices[:, :3], atol=1e-4)


def test_parts_that_are_colored_in_different_ways_keep_their_colors():
    parts = [trimesh.creation.box() for _ in range(4)]
    parts[0].visual.vertex_colors = np.full((8, 4), [255, 0, 0, 255], np.uint8)
    parts[1].visual.face_colors = np.full((12, 4), [0, 255, 0, 255], np.uint8)
    parts[2].visual = TextureVisuals(material=SimpleMaterial(diffuse=[0, 0, 255, 255]))
    image = Image.fromarray(np.full((2, 2, 3), [255, 255, 0], np.uint8))
    parts[3] = unwrapped(parts[3], SimpleMaterial(image=image))
    for first in (0, 1):  # with colors per vertex, and without
        scene = trimesh.Scene()
        for number, part in enumerate(parts[first:]):
            move = trimesh.transformations.translation_matrix((3.0 * number, 0, 0))
            scene.add_geometry(part, transform=move)
        mesh = pc.Mesh.from_trimesh(scene)
        views = pc.render_views(mesh, "ortho6", 128, up="z", layers=["albedo"])
        shown = views.face_index >= 0
        albedo, part = views.layers["albedo"][shown], views.face_index[shown] // 12
        expected = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])[first:]
        assert set(part) == set(range(len(expected)))
        np.testing.assert_array_equal(albedo, expected[part])


def test_alpha_shows_the_color_behind_it_only_where_it_is_not_opaque():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 0] = 255  # red, and nothing of it shows
    look = {"baseColorTexture": Image.fromarray(rgba), "baseColorFactor": [255, 255, 255, 255]}
    opaque, blended = (
        pc.Mesh.from_trimesh(unwrapped(trimesh.creation.box(), PBRMaterial(alphaMode=mode, **look)))
        for mode in ("OPAQUE", "BLEND")
    )
    assert opaque.materials[0].texture[0, 0].tolist() == [255, 0, 0]
    assert blended.materials[0].texture[0, 0].tolist() == [255, 255, 255]
