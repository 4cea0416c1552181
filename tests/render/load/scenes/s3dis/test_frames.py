"""Frames of 2D-3D-S: poses, depth and area 5 agree with the points of the room."""

import json
import pickle

import numpy as np
import pytest

from pointcmt.datasets.sources.s3dis import list_s3dis
from pointcmt.errors import ShapeRefused
from pointcmt.render.load.scenes.s3dis.rooms import load_s3dis
from tests.fake_s3dis import ALIGNED, DOWN, SIZE, UUID, write_frame, write_s3dis

ROOM = "Area_1/office_1"
OTHER = "fedcba9876543210fedcba9876543210"
HEIGHT = 2.0  # of the cameras above the floor, which fills their images


def camera(x, y):
    """The pose of a camera that looks down on the floor, which is at z = 0.5."""
    pose = DOWN.copy()
    pose[:3, 3] = x, y, 0.5 + HEIGHT
    return pose


def floor_depth():
    return np.full((SIZE, SIZE), HEIGHT * 512)


def load(root, room=ROOM):
    [record] = [shape for shape in list_s3dis("s3dis", root).shapes if shape.id == room]
    return load_s3dis(record, root)


def seen(frame):
    """The points [M,3] that a frame sees, in the source's coordinates."""
    depth = frame.read().depth
    rows, columns = np.nonzero(depth)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    own = np.linalg.inv(frame.K) @ pixels * depth[rows, columns]
    return (frame.camera_to_world[:3, :3] @ own).T + frame.camera_to_world[:3, 3]


def test_pixels_lie_on_the_floor_of_the_room(tmp_path):
    write_s3dis(tmp_path, [ROOM, "Area_1/office_11"], scanned=True)
    write_frame(tmp_path, "area_1", "office_1", 7, camera(5, -1), floor_depth())
    write_frame(tmp_path, "area_1", "office_11", 8, camera(5, -1), floor_depth())
    [frame] = load(tmp_path).frames
    points = seen(frame)
    assert len(points) == SIZE**2
    assert np.abs(points[:, 2] - 0.5).max() < 1e-6
    assert np.allclose(points[:, :2].mean(axis=0), [5, -1])  # half-pixel centers: no shift
    image = frame.read()
    assert (image.color[..., 0] == 7).all()
    assert image.color[0, :, 1].tolist() == list(range(SIZE))


def test_missing_depth_is_zero(tmp_path):
    write_s3dis(tmp_path, [ROOM], scanned=True)
    depth = floor_depth()
    depth[0, 0], depth[0, 1], depth[1, 0] = 65535, 65534, 0
    write_frame(tmp_path, "area_1", "office_1", 1, camera(5, -1), depth)
    read = load(tmp_path).frames[0].read().depth
    assert (read[0, 0], read[1, 0]) == (0, 0)
    assert read[0, 1] == pytest.approx(65534 / 512)
    assert read[5, 5] == HEIGHT


def test_frames_of_area_5b_are_moved_to_the_coordinates_of_5a(tmp_path):
    """A point (x, y, z) of 5b is (y - 4.09703582, 6.22617759 - x, z) in 5a and in S3DIS."""
    write_s3dis(tmp_path, ["Area_5/office_1"], scanned=True)
    here = camera(5, -1)
    to_5b = np.array([[0, -1, 0, 6.22617759], [1, 0, 0, 4.09703582], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_frame(tmp_path, "area_5a", "office_1", 1, here, floor_depth())
    write_frame(tmp_path, "area_5b", "office_1", 2, to_5b @ here, floor_depth(), uuid=OTHER)
    first, second = load(tmp_path, "Area_5/office_1").frames
    assert np.allclose(first.camera_to_world, second.camera_to_world)
    assert not np.allclose(to_5b @ here, here)


def test_frames_are_sorted_by_camera_and_number_and_numbered(tmp_path):
    write_s3dis(tmp_path, [ROOM], scanned=True)
    for number, uuid in ((10, UUID), (9, UUID), (1, OTHER)):
        write_frame(tmp_path, "area_1", "office_1", number, camera(5, -1), floor_depth(), uuid)
    frames = load(tmp_path).frames
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert [int(frame.read().color[0, 0, 0]) for frame in frames] == [9, 10, 1]


def test_frames_without_image_or_valid_pose_are_left_out_and_counted(tmp_path):
    write_s3dis(tmp_path, [ROOM], scanned=True)
    for number in range(8):
        write_frame(tmp_path, "area_1", "office_1", number, camera(5, -1), floor_depth())
    data = tmp_path / "area_1/data"
    stem = f"camera_{UUID}_office_1_frame_%d_domain_%s"
    (data / "rgb" / (stem % (0, "rgb.png"))).unlink()
    (data / "depth" / (stem % (1, "depth.png"))).unlink()
    rt = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    for number, pose in enumerate(
        [
            {},
            {"camera_k_matrix": 5, "camera_rt_matrix": rt},
            {"camera_k_matrix": np.eye(3).tolist(), "camera_rt_matrix": np.zeros((3, 4)).tolist()},
            {"camera_k_matrix": np.eye(3).tolist(), "camera_rt_matrix": [[1, 2], [3]]},
        ],
        start=2,
    ):
        write_frame(tmp_path, "area_1", "office_1", number, camera(5, -1), floor_depth())
        (data / "pose" / (stem % (number, "pose.json"))).write_text(json.dumps(pose))
    (data / "pose" / (stem % (6, "pose.json"))).write_text('{"camera_k_matrix": [[NaN')
    scene = load(tmp_path)
    assert [frame.number for frame in scene.frames] == [7]
    assert "2 of 8 frames were left out: they lack an image" in scene.notes
    assert "5 of 8 frames were left out: they lack a valid pose" in scene.notes


def test_the_aligned_version_has_no_frames_because_their_poses_do_not_fit(tmp_path):
    write_s3dis(tmp_path / ALIGNED, [ROOM])
    write_frame(tmp_path / "2d3ds", "area_1", "office_1", 1, camera(5, -1), floor_depth())
    scene = load(tmp_path)
    assert scene.frames == ()
    assert any("1 frames were left out: their poses are those of" in note for note in scene.notes)


def test_damaged_images_are_refused_when_they_are_read(tmp_path):
    write_s3dis(tmp_path, [ROOM], scanned=True)
    write_frame(tmp_path, "area_1", "office_1", 1, camera(5, -1), floor_depth())
    [frame] = load(tmp_path).frames
    frame = pickle.loads(pickle.dumps(frame))  # a worker process may read it
    path = next((tmp_path / "area_1/data/depth").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShapeRefused, match="depth"):
        frame.read()
    write_frame(tmp_path, "area_1", "office_1", 1, camera(5, -1), np.ones((SIZE, SIZE + 1)))
    rgb = next((tmp_path / "area_1/data/rgb").iterdir())
    write_frame(tmp_path / "square", "area_1", "office_1", 1, camera(5, -1), floor_depth())
    rgb.write_bytes(next((tmp_path / "square/area_1/data/rgb").iterdir()).read_bytes())
    with pytest.raises(ShapeRefused, match="pixels"):
        frame.read()
    path.write_bytes(rgb.read_bytes())
    with pytest.raises(ShapeRefused, match="channel of 16 bits"):
        frame.read()


def test_images_outside_the_root_are_not_read(tmp_path):
    root = tmp_path / "root"
    write_s3dis(root, [ROOM], scanned=True)
    write_frame(root, "area_1", "office_1", 1, camera(5, -1), floor_depth())
    rgb = next((root / "area_1/data/rgb").iterdir())
    rgb.rename(tmp_path / "outside.png")
    rgb.symlink_to(tmp_path / "outside.png")
    with pytest.raises(ShapeRefused, match="outside the root"):
        load(root).frames[0].read()
