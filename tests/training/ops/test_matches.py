"""Ground-truth matches: against an analytic map on a box, and against numpy on toy shapes."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter

from pointcmt.cameras import Camera, pixel_centers
from pointcmt.correspondences import match_pixels
from pointcmt.training.ops.matches import DepthViews, Matches, match_views
from tests.render.scenes import box_room
from tests.stores import render_box
from tests.test_correspondences import box_truth, distance_to_visible_faces

SIZE, HALF = 128, 1 / np.sqrt(3)
FINE = 4  # pixels of an image that tells what is hidden, per pixel of a frame
PIXEL = 3.6 / (0.5 * SIZE / np.tan(np.radians(20)))  # world units, at the far side of the box


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A cube, seen by 12 cameras around it; depth as a store holds it, in 16 bits."""
    folder = tmp_path_factory.mktemp("box")
    (folder / "meshes").mkdir()
    return render_box(folder / "S", folder / "meshes", rig="circle12", size=SIZE)


def views(store, shapes, which):
    """The views of a store as tensors, and the cameras and depths they are made of."""
    depth, camera = store.depth(shapes, which), store.camera(shapes, which)
    arrays = (depth, camera.K, camera.world_to_camera)
    return DepthViews(*(torch.from_numpy(a) for a in arrays)), camera, depth


def pairs_of(store, shapes, first, second, size):
    one, two = views(store, shapes, first), views(store, shapes, second)
    return match_views(one[0], two[0], (size, size)), one, two


def test_matches_on_a_rendered_box_agree_with_the_analytic_map(box):
    first, second = np.array([0, 0, 0, 4, 11]), np.array([1, 2, 3, 3, 0])
    found, one, two = pairs_of(box, np.zeros(5, int), first, second, SIZE)
    occluded = 0
    for pair in range(5):
        cameras = one[1][pair], two[1][pair]
        truth, shows, points = box_truth(*cameras, HALF)
        valid = found.valid[pair].numpy()
        away = np.linalg.norm(found.uv[pair].numpy() - truth, axis=-1)
        assert away[valid].max() < 0.5
        # Never farther from visible faces than the width of a pixel.
        hidden = points[valid & ~shows]
        assert distance_to_visible_faces(hidden, cameras[1], HALF).max(initial=0) < 1.5 * PIXEL
        assert valid[shows].mean() > 0.95
        occluded += (~shows & (one[2][pair] > 0)).sum()
    assert occluded > 1000
    assert not (found.valid & (torch.from_numpy(one[2]) == 0)).any()
    assert (found.uv[~found.valid] == 0).all()


def frame_of_the_room(pose, scale):
    """The depth [60·s, 80·s] that a camera in the box room sees, in closed form, and the camera."""
    K, (height, width) = np.diag([scale, scale, 1]) @ box_room.K, (60 * scale, 80 * scale)
    depth = box_room.image(pose, height, width, intrinsics=K).depth
    return depth, Camera(K, np.linalg.inv(pose), width, height)


def as_stored(depth, camera):
    """A frame with its depth in millimeters."""
    arrays = (np.rint(depth * 1000) / 1000, camera.K, camera.world_to_camera)
    return DepthViews(*(torch.from_numpy(array)[None] for array in arrays))


def test_matches_of_frames_agree_with_the_closed_form_of_a_room():
    """Frames of 160 × 120 pixels, with hidden surfaces; the truth is where rays meet boxes."""
    occluded = 0
    poses = [frame.camera_to_world for frame in box_room.frames(8)[::2]]
    frames = [frame_of_the_room(pose, 2) for pose in poses]
    fines = [frame_of_the_room(pose, 2 * FINE)[0] for pose in poses]
    around = [maximum_filter(fine, 2 * FINE + 1) for fine in fines]  # farthest within a pixel
    for first, second in itertools.permutations(range(4), 2):
        one, two, fine = frames[first], frames[second], fines[second]
        found = match_views(as_stored(*one), as_stored(*two), (120, 160))
        assert found.image.tolist() == [160, 120]
        centers = pixel_centers(160, 120).reshape(-1, 2)
        uv, z = two[1].project(one[1].unproject(centers, one[0].reshape(-1)))
        inside = np.flatnonzero(((uv > 0) & (uv < [160, 120])).all(axis=1) & (z > 0))
        column, row = np.floor(FINE * uv[inside]).astype(int).T
        shows = inside[np.abs(z[inside] - fine[row, column]) < 0.01]
        hidden = inside[z[inside] - around[second][row, column] > 0.15]
        valid = found.valid[0].flatten().numpy()
        error = np.linalg.norm(found.uv[0].flatten(0, 1).numpy() - uv, axis=1)
        assert error[valid].max() < 0.5
        assert not valid[hidden].any()
        assert valid[shows].mean() > 0.95
        occluded += len(hidden)
    assert occluded > 1000


def test_matching_forward_then_backward_returns_to_the_start(box):
    first, second = np.array([0]), np.array([1])
    there, one, two = pairs_of(box, np.zeros(1, int), first, second, SIZE)
    back = match_views(two[0], one[0], (SIZE, SIZE))
    rows, columns = np.nonzero(there.valid[0].numpy())
    landed = there.uv[0][rows, columns]
    column, row = landed.floor().long().unbind(-1)
    seen = back.valid[0, row, column]
    assert seen.float().mean() > 0.95
    inside = landed - back.pixel[row, column]  # position within the pixel
    returned = (back.uv[0, row, column] - there.pixel[rows, columns])[seen]
    assert inside[seen].abs().max() <= 0.5
    assert returned.abs().median() < 0.5
    assert returned.abs().max() < 1.5  # half a pixel there is at most so much here


def test_a_view_matches_itself(box):
    found, one, _ = pairs_of(box, np.zeros(2, int), np.array([3, 7]), np.array([3, 7]), SIZE)
    covered = torch.from_numpy(one[2]) > 0
    assert torch.equal(found.valid, covered)
    pixel = found.pixel.expand_as(found.uv)
    torch.testing.assert_close(found.uv[covered], pixel[covered], rtol=0, atol=1e-9)


def test_the_batched_version_equals_correspondences_on_toy_shapes(toy_store):
    shapes, pairs = range(0, 40, 3), list(itertools.permutations(range(6), 2))
    matched = 0
    for shape in shapes:
        rows = np.full(len(pairs), shape)
        found, one, two = pairs_of(toy_store, rows, *np.transpose(pairs), 32)
        for number in range(len(pairs)):
            depths = one[2][number], two[2][number]
            uv, valid = match_pixels(depths, (one[1][number], two[1][number]))
            np.testing.assert_array_equal(found.valid[number], valid)
            np.testing.assert_allclose(found.uv[number][valid], uv[valid], rtol=0, atol=1e-9)
            matched += valid.sum()
    assert matched > 10_000


def test_a_coarser_grid_is_a_subset_of_the_pixels(box):
    fine, one, two = pairs_of(box, np.zeros(1, int), np.array([0]), np.array([1]), SIZE)
    for size in (16, 24):
        coarse: Matches = match_views(one[0], two[0], (size, size))
        at = coarse.pixel.floor().long()
        cells = (torch.arange(size) + 0.5) * SIZE / size
        assert ((coarse.pixel[0, :, 0] - cells).abs() <= 0.5).all()
        assert torch.equal(coarse.valid, fine.valid[:, at[..., 1], at[..., 0]])
        assert torch.equal(coarse.uv, fine.uv[:, at[..., 1], at[..., 0]])


def test_background_has_no_matches_and_no_gradient(box):
    _, one, two = pairs_of(box, np.zeros(1, int), np.array([0]), np.array([1]), SIZE)
    empty = two[0]._replace(depth=torch.zeros_like(two[0].depth))
    for first, second in ((one[0], empty), (empty, one[0])):
        found = match_views(first, second, (16, 16))
        assert not found.valid.any()
        assert found.uv.isfinite().all()
