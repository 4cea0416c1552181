"""Images of classes in scannet_frames_25k: each pixel gets the class of the surface it shows."""

import numpy as np
import pytest

from pointcmt.cameras import Camera, pixel_centers
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.scannet import load_scannet
from tests.render.load.scenes import recordings as r
from tests.render.load.scenes.fake_scannet import COLOR_K, COLOR_SIZE
from tests.render.load.scenes.rooms import HIGH, LOW, pose, seen

NAME = "scannet_frames_25k/scene0001_00"
WALL, FLOOR, CEILING = 1, 2, 22  # NYU40 ids; the benchmark has no ceiling
CLASS = {WALL: 0, FLOOR: 1, CEILING: -1}


def ids_of(points):
    """The NYU40 id of the plane that each point is on."""
    height = points[..., 2]
    up, down = np.abs(height - HIGH[2]) < 1e-2, np.abs(height - LOW[2]) < 1e-2
    return np.where(up, CEILING, np.where(down, FLOOR, WALL))


def write_frames(root, scale=1, kind=np.uint8):
    """Frames of the room with labels, which are `scale` times as large as the color images."""
    folder = r.write_exported(root / NAME, color_K=COLOR_K, color_size=COLOR_SIZE)
    K, size = np.diag([scale, scale, 1]) @ COLOR_K, tuple(scale * side for side in COLOR_SIZE)
    (folder / "label").mkdir()
    for number in range(4):
        ids = ids_of(seen(pose(number), K, size)[1])
        (folder / f"label/{number:06}.png").write_bytes(r.png(ids.astype(kind)))
    return folder


def load(root):
    return load_scannet(ShapeRecord("scene0001_00", None, "train", NAME), root)


@pytest.mark.parametrize(("scale", "kind"), [(1, np.uint8), (2, np.uint16)])
def test_pixels_have_the_class_of_the_surface_that_they_show(tmp_path, scale, kind):
    write_frames(tmp_path, scale, kind)
    counts = np.zeros(3, int)
    for frame in load(tmp_path).frames:
        image = frame.read()
        H, W = image.depth.shape
        world_to_camera = np.linalg.inv(frame.camera_to_world)
        camera = Camera(frame.K, world_to_camera, W, H)
        points = camera.unproject(pixel_centers(W, H).reshape(-1, 2), image.depth.ravel())
        ids = ids_of(points).reshape(H, W)
        uv, _ = Camera(COLOR_K, world_to_camera, *COLOR_SIZE).project(points)
        outside = ((uv < 0) | (uv >= COLOR_SIZE)).any(axis=-1).reshape(H, W)
        expected = np.where(outside, -1, np.vectorize(CLASS.get)(ids))
        around = np.lib.stride_tricks.sliding_window_view(np.pad(expected, 1, "edge"), (3, 3))
        clear = around.min(axis=(2, 3)) == around.max(axis=(2, 3))  # not at an edge of the room
        assert clear.mean() > 0.8
        np.testing.assert_array_equal(image.semantic[clear], expected[clear])
        assert image.instance is None
        counts += np.bincount(expected[clear] + 1, minlength=3)
    assert (counts > 100).all()


def test_frames_without_an_image_of_labels_are_counted(tmp_path):
    (write_frames(tmp_path) / "label/000002.png").unlink()
    scene = load(tmp_path)
    assert "1 frames have no image of labels" in scene.notes
    assert [frame.read().semantic is None for frame in scene.frames] == [False, False, True, False]


def test_ids_that_the_benchmark_does_not_have_are_ignored(tmp_path):
    ids = np.zeros(COLOR_SIZE[::-1], np.uint16)
    ids[:, ::3], ids[:, 1::3] = 13, 65535
    (write_frames(tmp_path) / "label/000000.png").write_bytes(r.png(ids))
    assert (load(tmp_path).frames[0].read().semantic == -1).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no image", Reason.BAD_SYNTAX),
        (r.png(np.zeros((120, 160, 3), np.uint8)), Reason.BAD_SYNTAX),
        (r.png(np.zeros((120, 120), np.uint8)), Reason.COUNT_MISMATCH),
    ],
)
def test_damaged_images_of_labels_are_refused(tmp_path, data, reason):
    (write_frames(tmp_path) / "label/000000.png").write_bytes(data)
    with pytest.raises(ShapeRefused) as refused:
        load(tmp_path).frames[0].read()
    assert refused.value.reason == reason
    assert "000000.png" in refused.value.detail


def test_labels_of_another_release_of_the_images_are_another_scene(tmp_path):
    folder = write_frames(tmp_path)
    before = load(tmp_path).sha256
    (folder / "label/000001.png").write_bytes(r.png(np.ones((120, 160), np.uint8)))
    assert load(tmp_path).sha256 != before
