"""What frames see of points: by depth within its tolerance, and by rays exactly."""

import numpy as np
import pytest

from pointcmt.render.scenes.visibility import Surface, seen_by_depth, tolerance
from pointcmt.shapes import Mesh
from tests.render.scenes import box_room


def places(count=4000, seed=0):
    """Points on the walls of the room and on the block."""
    rng = np.random.default_rng(seed)
    points = []
    for low, high in (box_room.ROOM, box_room.BLOCK):
        some = rng.uniform(low, high, (count, 3))
        axis, side = rng.integers(0, 3, count), rng.integers(0, 2, count)
        some[np.arange(count), axis] = np.where(side == 1, high[axis], low[axis])
        points.append(some)
    return np.concatenate(points).astype(np.float32)


def truth(points, view):
    """Whether a camera in the room sees points: inside the image, and the block is not between."""
    pose = np.linalg.inv(view)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    uv = local @ box_room.K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = uv[:, 0] / uv[:, 2], uv[:, 1] / uv[:, 2]
    inside = (local[:, 2] > 0.1) & (u >= 0) & (u < 80) & (v >= 0) & (v < 60)
    aimed = points - view[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        enter = (np.where(aimed > 0, box_room.BLOCK[0], box_room.BLOCK[1]) - view[:3, 3]) / aimed
        leave = (np.where(aimed > 0, box_room.BLOCK[1], box_room.BLOCK[0]) - view[:3, 3]) / aimed
    enter, leave = enter.max(axis=1), leave.min(axis=1)
    behind = (enter <= leave) & (enter > 0) & ((1 - enter) * local[:, 2] > 1e-4)
    return inside & ~behind, local[:, 2], (1 - enter) * local[:, 2]


def block_mesh():
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    vertices = box_room.BLOCK[0] + corners * (box_room.BLOCK[1] - box_room.BLOCK[0])
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    return Mesh(vertices, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


@pytest.mark.parametrize("number", range(4))
def test_rays_agree_with_the_exact_answer_outside_the_tolerance(number):
    frame, points = box_room.frames()[2 * number], places()
    expected, z, covered = truth(points, frame.camera_to_world)
    surface = Surface(block_mesh(), np.eye(4))
    pose = np.linalg.inv(frame.camera_to_world)
    seen = surface.seen(points, frame.K, pose, (60, 80))
    clear = expected | (z <= 0.1) | (covered > tolerance(z))
    assert (seen[clear] == expected[clear]).all()
    assert expected.sum() > 500
    assert (~expected & (covered > tolerance(z))).sum() > 100


@pytest.mark.parametrize("number", range(4))
def test_depth_calls_few_visible_points_hidden_and_few_hidden_ones_visible(number):
    frame, points = box_room.frames()[2 * number], places()
    expected, z, _ = truth(points, frame.camera_to_world)
    pose = np.linalg.inv(frame.camera_to_world)
    seen = seen_by_depth(points, frame.K, pose, frame.read().depth)
    outside = z <= 0.1
    assert not seen[outside].any()
    assert (seen & ~expected).sum() < 0.1 * (~expected).sum()
    # Coarse pixels (80 × 60) on slanted surfaces: their depth differs within a pixel.
    assert (expected & ~seen).sum() < 0.25 * expected.sum()


def one(depth, *points):
    """Whether a camera at the origin sees points; all pixels have one depth."""
    K = np.array([[50.0, 0, 5], [0, 50.0, 4], [0, 0, 1]])
    shown = np.full((8, 10), depth, np.float32)
    return seen_by_depth(np.array(points, np.float32), K, np.eye(4), shown).tolist()


def test_the_tolerance_is_two_centimeters_or_two_percent():
    assert one(0.5, [0, 0, 0.519], [0, 0, 0.481]) == [False, True]  # the second is in front of it
    assert one(0.5, [0, 0, 0.519]) == [True]
    assert one(0.5, [0, 0, 0.521]) == [False]
    assert one(4.0, [0, 0, 4.07]) == [True]
    assert one(4.0, [0, 0, 4.09]) == [False]
    assert one(4.0, [0, 0, 3.93]) == [True]


def test_nothing_is_seen_without_depth_behind_or_too_near():
    assert one(0, [0, 0, 1]) == [False]
    assert one(1, [0, 0, -1]) == [False]
    assert one(0.09, [0, 0, 0.09]) == [False]


def test_the_image_ends_at_its_border():
    inside, outside = 4.99 / 50, 5.01 / 50
    assert one(1, [inside, 0, 1], [-inside, 0, 1], [outside, 0, 1], [-outside, 0, 1]) == [
        True,
        True,
        False,
        False,
    ]


def test_a_nearer_point_in_the_same_pixel_hides_those_behind_it():
    assert one(2, [0, 0, 2.03], [0, 0, 2.035]) == [True, True]
    assert one(2, [0, 0, 1.965], [0, 0, 2.035]) == [True, False]
