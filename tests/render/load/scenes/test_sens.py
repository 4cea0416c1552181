"""ScanNet's .sens files: codecs, cameras, untracked frames, and every kind of damage."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.scannet import load_scannet
from pointcmt.render.load.scenes.sens import read_sens
from tests.render.load.scenes import rooms
from tests.render.load.scenes.fake_scannet import COLOR_K, COLOR_SIZE, sens
from tests.render.load.scenes.rooms import back_projected, color_of, off_walls

SCAN = ShapeRecord("scene0001_00", None, "train", "scans/scene0001_00")
POSES = [rooms.pose(index) for index in range(4)]
SAME = np.eye(4)
HEADER = 4 + 8 + 15 + 256 + 8 + 16 + 4 + 8  # bytes of the files written here


def load(root, content):
    folder = root / SCAN.source
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scene0001_00.sens").write_bytes(content)
    return load_scannet(SCAN, root)


def refusal(root, content):
    with pytest.raises(ShapeRefused) as refused:
        [frame.read() for frame in load(root, content).frames]
    return refused.value


def seen_by_color(points, frame, from_depth, K=COLOR_K, size=COLOR_SIZE):
    """Whether the color camera sees points [M,3], not counting the border."""
    local = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(frame.camera_to_world).T
    uv = local @ from_depth.T[:, :3] @ K.T
    uv = uv[:, :2] / uv[:, 2:]
    return ((uv > 3) & (uv < np.array(size) - 3)).all(axis=1)


def check(scene, from_depth=SAME, tolerance=6):
    """Depth is on the walls, and has the walls' colors where the color camera sees them."""
    for frame in scene.frames:
        points, colors = back_projected(frame.read(), frame)
        assert off_walls(points).max() < 0.001
        inside = seen_by_color(points, frame, from_depth)
        assert inside.mean() > 0.6
        assert abs(colors.astype(int) - color_of(points))[inside].max() <= tolerance


@pytest.mark.parametrize("color_codec", [0, 1, 2])
@pytest.mark.parametrize("depth_codec", [0, 1])
def test_every_codec_gives_the_same_room(tmp_path, color_codec, depth_codec):
    scene = load(tmp_path, sens(POSES, color_codec, depth_codec))
    assert [frame.number for frame in scene.frames] == [0, 1, 2, 3]
    np.testing.assert_allclose(scene.frames[0].K, rooms.K, atol=1e-5)  # S5: half a pixel added
    check(scene)


def test_the_unit_of_depth_is_read(tmp_path):
    check(load(tmp_path, sens(POSES, shift=5000.0)))


def test_untracked_frames_are_left_out_and_counted(tmp_path):
    bad = np.full((4, 4), -np.inf)
    scene = load(tmp_path, sens([bad, POSES[1], np.full((4, 4), np.nan), POSES[3]]))
    assert [frame.number for frame in scene.frames] == [1, 3]
    assert any("2 of 4 frames left out" in note for note in scene.notes)
    check(scene)
    assert refusal(tmp_path, sens([bad] * 3)).reason == Reason.NOT_FINITE


def test_scans_whose_color_has_the_size_and_lens_of_depth_are_read(tmp_path):
    """As scene0704 and scene0705 have it: sizes are read, not assumed."""
    scene = load(tmp_path, sens(POSES, color_K=rooms.K, color_size=rooms.SIZE, color_codec=1))
    for index, frame in enumerate(scene.frames):
        np.testing.assert_array_equal(frame.read().color, rooms.show(index).color)


def shifted(x, yaw=0.0):
    pose = np.eye(4)
    pose[0, 3] = x
    pose[[0, 0, 2, 2], [0, 2, 0, 2]] = [np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)]
    return pose


def test_cameras_that_are_apart_are_brought_together(tmp_path):
    """Color 6 cm beside depth: the shift depends on the distance of each pixel."""
    rig = {"extrinsic_color": shifted(0.06, 0.05), "extrinsic_depth": shifted(-0.01)}
    poses = [pose @ np.linalg.inv(rig["extrinsic_depth"]) for pose in POSES]
    scene = load(tmp_path, sens(poses, **rig))
    check(scene, np.linalg.inv(rig["extrinsic_color"]) @ rig["extrinsic_depth"])


def test_invalid_extrinsics_are_the_identity_with_a_note(tmp_path):
    content = bytearray(sens(POSES))
    at = 4 + 8 + 15 + 64
    content[at : at + 64] = bytes(64)
    scene = load(tmp_path, bytes(content))
    assert any("color camera's extrinsics" in note for note in scene.notes)
    check(scene)


def patched(at, form, *values):
    content = bytearray(sens(POSES[:2]))
    struct.pack_into(form, content, at, *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (patched(0, "<I", 3), Reason.UNKNOWN_FORMAT, "version 4"),
        (patched(4, "<Q", 1 << 40), Reason.BAD_SYNTAX, "name"),
        (patched(HEADER - 32, "<i", 2), Reason.UNKNOWN_FORMAT, "SensReader"),
        (patched(HEADER - 36, "<i", 7), Reason.UNKNOWN_FORMAT, "codecs"),
        (patched(HEADER - 28, "<2I", 1 << 30, 1 << 30), Reason.TOO_LARGE, "pixels"),
        (patched(HEADER - 20, "<2I", 0, 48), Reason.BAD_SYNTAX, "pixels"),
        (patched(HEADER - 12, "<f", 0.0), Reason.BAD_SYNTAX, "depth shift"),
        (patched(HEADER - 8, "<Q", 1 << 60), Reason.TOO_LARGE, "frames"),
        (patched(HEADER - 8, "<Q", 100_000), Reason.TRUNCATED, "download it again"),
        (patched(HEADER + 80, "<Q", 1 << 62), Reason.TRUNCATED, "frame 0"),
        (sens(POSES[:2])[:-5000], Reason.TRUNCATED, "frame 1"),
        (sens(POSES[:2])[:40], Reason.TRUNCATED, "ends within"),
        (b"", Reason.TRUNCATED, "0 bytes"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, content, reason, message):
    refused = refusal(tmp_path, content)
    assert refused.reason == reason
    assert message in refused.detail


def with_depth(payload):
    """A file of one frame whose depth payload is replaced."""
    content = sens(POSES[:1], color_codec=1)
    (color,) = struct.unpack_from("<Q", content, HEADER + 80)
    head = bytearray(content[: HEADER + 96 + color])
    struct.pack_into("<Q", head, HEADER + 88, len(payload))
    return bytes(head) + payload


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (zlib.compress(bytes(1 << 26)), Reason.COUNT_MISMATCH),  # a bomb: 64 MB in 64 KB
        (zlib.compress(bytes(100)), Reason.COUNT_MISMATCH),
        (zlib.compress(bytes(6144))[:-9], Reason.COUNT_MISMATCH),
        (b"no zlib", Reason.BAD_SYNTAX),
    ],
)
def test_depth_that_does_not_decode_to_the_declared_size_is_refused(tmp_path, payload, reason):
    assert refusal(tmp_path, with_depth(payload)).reason == reason


def test_a_bomb_is_not_unpacked(tmp_path):
    content = with_depth(zlib.compress(bytes(1 << 26)))
    (tmp_path / "bomb.sens").write_bytes(content)
    _, (shot,), _ = read_sens(tmp_path / "bomb.sens")
    tracemalloc.start()
    try:
        with pytest.raises(ShapeRefused):
            shot.read()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_an_index_of_a_large_file_reads_no_images(tmp_path):
    """A frame of 100 MB, most of it a hole in the file, is indexed at once."""
    path = tmp_path / "large.sens"
    content = bytearray(sens(POSES[:1]))
    struct.pack_into("<2Q", content, HEADER + 80, 100 << 20, 10 << 20)
    with path.open("wb") as file:
        file.write(content[: HEADER + 96])
        file.truncate(HEADER + 96 + (110 << 20))
    header, shots, digest = read_sens(path)
    assert (header.color_size, len(shots), len(digest)) == (COLOR_SIZE, 1, 64)


def test_the_digest_covers_poses_and_the_sizes_of_images(tmp_path):
    first = load(tmp_path, sens(POSES)).sha256
    assert load(tmp_path, sens(POSES)).sha256 == first
    assert load(tmp_path, sens([POSES[0], POSES[1], POSES[3], POSES[2]])).sha256 != first
    assert load(tmp_path, sens(POSES, depth_codec=0)).sha256 != first
