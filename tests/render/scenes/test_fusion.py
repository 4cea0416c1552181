"""Fusing frames: points lie on surfaces, one per voxel, with the labels that pixels show."""

import numpy as np

from pointcmt.render.scenes.frames import quantized, resized
from pointcmt.render.scenes.fusion import View, back_project, fuse
from pointcmt.scenes import Image
from tests.render.scenes import box_room

VOXEL = 0.05


def views(count=8, **settings):
    return [
        View(frame.K, frame.camera_to_world, frame.read())
        for frame in box_room.frames(count, **settings)
    ]


def test_pixels_are_back_projected_onto_the_surfaces():
    for view in views(3):
        places, known = back_project(view)
        assert known.all()
        assert box_room.on_a_surface(places.reshape(-1, 3)).max() < 1e-6


def test_there_is_one_point_per_voxel_that_pixels_show():
    shown = views()
    points = fuse(shown, VOXEL)
    pixels = np.concatenate([back_project(view)[0].reshape(-1, 3) for view in shown])
    voxels, counts = np.unique(np.floor(pixels / VOXEL), axis=0, return_counts=True)
    assert len(points) == np.sum(counts >= 2)
    assert len(points) < len(voxels)  # single pixels are dropped
    means = {
        tuple(voxel): pixels[np.all(np.floor(pixels / VOXEL) == voxel, axis=1)].mean(axis=0)
        for voxel in voxels[counts >= 2][:20]
    }
    found = {tuple(np.floor(point / VOXEL)): point for point in points.points}
    for voxel, mean in means.items():
        assert np.allclose(found[voxel], mean, rtol=0, atol=1e-9)


def test_labels_colors_and_normals_are_those_of_the_surface():
    points = fuse(views(), VOXEL)
    flat = np.abs(points.points[:, 2]) < 1e-6
    block = (points.points[:, :2] > box_room.BLOCK[0, :2] - 1e-6).all(axis=1) & (
        points.points[:, :2] < box_room.BLOCK[1, :2] + 1e-6
    ).all(axis=1)
    floor = flat & ~block
    assert floor.sum() > 300
    assert (points.semantic[floor] == 0).all()
    assert (points.instance[floor] == -1).all()
    assert (points.color[floor] == box_room.LABELS.palette[0]).all()
    raised = points.points + np.array([0, 0, 0.3])
    floor &= box_room.on_a_surface(raised) > 0.29  # away from its edges
    known = np.linalg.norm(points.normals[floor], axis=1) > 0
    assert known.mean() > 0.9
    assert np.allclose(points.normals[floor][known], [0, 0, 1], atol=1e-3)
    top = block & (np.abs(points.points[:, 2] - box_room.BLOCK[1, 2]) < 1e-6)
    assert (points.semantic[top] == 3).all()
    assert (points.instance[top] == 7).all()


def test_of_several_labels_in_a_voxel_the_most_frequent_counts():
    depth = np.ones((1, 5), np.float32)
    color = np.zeros((1, 5, 3), np.uint8)
    labels = np.array([[2, 1, 1, 2, 2]], np.int16), np.array([[5, 9, 9, 5, 5]], np.int32)
    view = View(np.diag([1e4, 1e4, 1]), np.eye(4), Image(color, depth, *labels))
    points = fuse([view], 1.0)
    assert (points.semantic.tolist(), points.instance.tolist()) == ([2], [5])
    tied = Image(color[:, 1:], depth[:, 1:], labels[0][:, 1:], labels[1][:, 1:])
    points = fuse([View(np.diag([1e4, 1e4, 1]), np.eye(4), tied)], 1.0)
    assert (points.semantic.tolist(), points.instance.tolist()) == ([1], [9])


def test_frames_without_labels_or_depth():
    points = fuse(views(2, labels=False), VOXEL)
    assert points.semantic is None
    blank = Image(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32))
    assert len(fuse([View(np.eye(3), np.eye(4), blank)], VOXEL)) == 0
    assert len(fuse([], VOXEL)) == 0


def test_a_resized_frame_shows_the_same_places():
    frame = box_room.frames(1)[0]
    large = box_room.image(frame.camera_to_world)
    small, K = resized(large, frame.K, 30, 40)
    assert np.allclose(K[:2] * 2, frame.K[:2])
    places, _ = back_project(View(K, frame.camera_to_world, small))
    # The nearest pixel is at most half a large pixel away: half of z / f.
    assert box_room.on_a_surface(places.reshape(-1, 3)).max() < 0.5 * 4 / 60
    assert small.color.shape == (30, 40, 3)
    exact = box_room.image(frame.camera_to_world, 30, 40, intrinsics=K)
    assert (small.semantic == exact.semantic).mean() > 0.97
    assert resized(large, frame.K, 60, 80)[0] is large


def test_stored_depth_is_exact_to_half_a_millimeter_and_keeps_what_is_missing():
    depth = np.array([[0, 0.0001, 1.2345678, 65.534, 65.6, 70]], np.float32)
    assert quantized(depth).tolist() == [[0, 1, 1235, 65534, 0, 0]]
