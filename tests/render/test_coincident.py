"""Faces that coincide: the side that is turned to the camera is drawn, by every back end."""

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.geometry import normalize, opposed_faces, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.jobs.backends import make_renderer
from pointcmt.shapes import Mesh
from tests.stores import BOX_CORNERS

QUADS = [  # of a box, counter-clockwise from outside; corners as in BOX_CORNERS
    (0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5),
]  # fmt: skip
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
BACKENDS = ("embree", "egl", "pyrender")


def triangles(other=False):
    """The box's faces; other: split along the other diagonal."""
    cut = 1 if other else 0
    turned = [quad[cut:] + quad[:cut] for quad in QUADS]
    return np.array([t for a, b, c, d in turned for t in ((a, b, c), (a, c, d))], np.int32)


def two_sided_box(first="outside", other=False, apart=False, digits=None):
    """A turned box whose outward faces are red and inward ones blue.

    first: which of them come first. other: the inward quads are split along the other diagonal.
    apart: each side has vertices of its own. digits: of decimals, as in a text file.
    """
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn[0] *= np.sign(np.linalg.det(turn))
    vertices = np.array(BOX_CORNERS, float) @ turn.T
    if digits is not None:
        vertices = vertices.round(digits)
    out, into = triangles(), triangles(other)[:, ::-1]
    if apart:
        vertices, into = np.concatenate([vertices, vertices]), into + 8
    sides = [(out, RED), (into, BLUE)]
    if first == "inside":
        sides.reverse()
    faces = np.concatenate([side for side, _ in sides])
    colors = np.concatenate([np.tile(color, (len(side), 1)) for side, color in sides])
    mesh = Mesh(vertices, faces, face_colors=colors)
    return normalize(mesh, "z")[0]


def draw(mesh, backend, **settings):
    config = RenderConfig(find_rig("dodeca20"), size=64, backend=backend, **settings)
    scene = RayCaster(mesh, cull=config.cull == "back")
    return make_renderer(backend).render(scene, config.rig.cameras(config.size), config)


def test_the_box_is_one():
    mesh = two_sided_box()
    outward = mesh.vertices[mesh.faces[:12]].mean(axis=1)
    normals = RayCaster(mesh).surface.normals
    assert np.all((normals[:12] * outward).sum(axis=1) > 0)
    assert np.all((normals[12:] * outward).sum(axis=1) < 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("first", ["outside", "inside"])
def test_a_box_with_two_sides_shows_the_outer_one(first, other, apart, backend):
    mesh = two_sided_box(first, other, apart)
    views = draw(mesh, backend)
    shown = mesh.face_colors[views.face_index[views.face_index >= 0]]
    assert np.mean(shown[:, 0]) >= (0.9995 if backend == "egl" else 1)  # it snaps corners
    assert mixed(views) <= 2e-4


def mixed(views):
    """The share of all pixels that are bluer than red, which red and white do not mix to."""
    return np.mean(views.rgb[..., 2] > views.rgb[..., 0])


@pytest.mark.parametrize("backend", ["embree", "egl"])
@pytest.mark.parametrize("other", [False, True])
def test_rounding_to_six_digits_does_not_mix_the_sides(other, backend):
    views = draw(two_sided_box("inside", other, apart=True, digits=6), backend)
    assert mixed(views) <= (5e-3 if backend == "egl" else 1e-3)  # which computes in float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_inside_an_open_box_the_inner_side_is_seen(backend):
    mesh = two_sided_box(other=True)
    lid = set(range(2)) | {12, 13}
    kept = [face for face in range(24) if face not in lid]
    open_box = Mesh(mesh.vertices, mesh.faces[kept], face_colors=mesh.face_colors[kept])
    views = draw(normalize(open_box, "z")[0], backend)
    shown = open_box.face_colors[views.face_index[views.face_index >= 0]]
    assert 0.05 < np.mean(shown == BLUE) - 1 / 3 < 0.6  # green is 0 in both


def test_faces_with_the_same_winding_are_drawn_once_as_the_first():
    mesh = two_sided_box()
    twice = Mesh(
        mesh.vertices, np.tile(mesh.faces, (2, 1)), face_colors=np.tile(mesh.face_colors, (2, 1))
    )
    views = draw(normalize(twice, "z")[0], "embree")
    assert views.face_index.max() < 12


def test_points_are_seen_from_both_sides_of_a_sheet_with_two():
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]], np.int32)
    mesh, _ = normalize(Mesh(corners, faces), "z")
    points, on = sample_points(mesh, 200, shape_seed(0, "sheet"))
    camera = find_rig("ortho6").cameras(64)
    for cull in (False, True):
        seen = visible_points(RayCaster(mesh, cull=cull), points.astype(np.float32), on, camera)
        np.testing.assert_array_equal(seen.mean(axis=1) > 0.99, [True, True] + 4 * [False])


def test_culling_leaves_out_what_is_turned_away():
    """Through the back of an open box one sees the far wall's inner side, if it has one."""
    mesh = two_sided_box()
    single = Mesh(mesh.vertices, mesh.faces[2:12], face_colors=mesh.face_colors[2:12])
    box, _ = normalize(single, "z")
    for backend in BACKENDS:
        whole, culled = draw(box, backend), draw(box, backend, cull="back")
        camera = find_rig("dodeca20").cameras(64)
        normals = RayCaster(box).surface.normals
        view, row, column = np.nonzero(culled.face_index >= 0)
        face = culled.face_index[view, row, column]
        toward = camera.center[view] - box.vertices[box.faces[face, 0]]
        assert np.all((normals[face] * toward).sum(axis=1) > 0)
        assert 0 < np.sum(culled.face_index >= 0) < np.sum(whole.face_index >= 0)


def test_culled_faces_hide_no_points_and_have_none_that_are_seen():
    mesh = two_sided_box()
    single = Mesh(mesh.vertices, mesh.faces[2:12])
    box, _ = normalize(single, "z")
    points, faces = sample_points(box, 500, shape_seed(0, "box"))
    camera = find_rig("dodeca20").cameras(64)
    seen = visible_points(RayCaster(box, cull=True), points.astype(np.float32), faces, camera)
    normals = RayCaster(box).surface.normals[faces]
    toward = ((camera.center[:, None] - points) * normals).sum(axis=2) > 0
    np.testing.assert_array_equal(seen, toward)  # a convex body hides nothing of its front


@pytest.mark.parametrize("other", [False, True])
def test_opposed_faces_are_found_whatever_their_diagonal(other):
    mesh = two_sided_box(other=other, apart=True, digits=6)
    normals = RayCaster(mesh).surface.normals
    one, two = opposed_faces(mesh, normals)
    np.testing.assert_array_equal(np.sort(np.concatenate([one, two])), np.arange(24))
    assert np.all(normals[one][:, None] @ normals[two].T < 0.5)  # none the same way in one plane
    single = Mesh(mesh.vertices, mesh.faces[:12])
    assert [len(faces) for faces in opposed_faces(single, normals[:12])] == [0, 0]
