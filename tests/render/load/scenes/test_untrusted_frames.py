"""Untrusted folders of frames: links, foreign files, damaged and huge images, and digests."""

import json
import os
import struct
import zlib

import numpy as np
import pytest

from pointcmt.datasets.sources.frames import list_frames
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.frames import load_frames
from pointcmt.render.load.scenes.images import MAX_PIXELS, decode_color, decode_depth
from tests.render.load.scenes import recordings as r
from tests.render.load.scenes.test_frames import check, load, refusal

pytestmark = pytest.mark.timeout(120)


def read_all(root):
    """Load a scene and read all of its frames; return why that was refused."""
    with pytest.raises(ShapeRefused) as refused:
        [frame.read() for frame in load(root).frames]
    return refused.value


@pytest.mark.parametrize("name", ["/etc/hostname", "../../secret.png", "../secret.png"])
def test_names_that_lead_out_of_the_root_are_refused(tmp_path, name):
    """Also with links allowed: the file says so, not the user."""

    def change(table):
        table["frames"][0]["depth_file_path"] = name

    root = r.write_transforms(tmp_path / "data/room", change)
    (tmp_path / "data/secret.png").write_bytes(b"secret")
    (record,) = list_frames("frames", root).shapes
    for follow_links in (False, True):
        with pytest.raises(ShapeRefused) as refused:
            load_frames(record, root, follow_links)
        assert refused.value.reason == Reason.UNREADABLE_FILE
        assert "outside the root" in refused.value.detail


def test_names_may_lead_to_a_neighbor_inside_the_root(tmp_path):
    def change(table):
        for frame in table["frames"]:
            frame["file_path"] = f"../images/{frame['file_path']}"

    root = r.write_transforms(tmp_path / "data/room", change)
    (tmp_path / "data/images").mkdir()
    (root / "color").rename(tmp_path / "data/images/color")
    check(load(tmp_path / "data"))


def test_links_out_of_the_root_are_read_only_on_request(tmp_path):
    root = r.write_exported(tmp_path / "data/room")
    for name in ("color/000001.png", "pose/000001.txt"):
        outside = tmp_path / f"outside{name[-4:]}"
        (root / name).rename(outside)
        (root / name).symlink_to(outside)
        (record,) = list_frames("frames", root).shapes
        with pytest.raises(ShapeRefused, match="outside the root"):
            load_frames(record, root)
        check(load_frames(record, root, follow_links=True))
        (root / name).unlink()
        outside.rename(root / name)


def test_records_of_other_stores_cannot_lead_out(tmp_path):
    r.write_redwood(tmp_path / "room")
    (tmp_path / "root").mkdir()
    for source in ("../room", str(tmp_path / "room")):
        with pytest.raises(ShapeRefused, match="outside"):
            load_frames(ShapeRecord("a", None, "train", source), tmp_path / "root")
    with pytest.raises(ShapeRefused) as refused:
        load_frames(ShapeRecord("a", None, "train", "gone"), tmp_path / "root")
    assert refused.value.reason == Reason.MISSING_FILE


@pytest.mark.parametrize("name", ["depth/000001.png", "color/000001.png", "pose/000001.txt"])
def test_special_files_are_refused_without_blocking(tmp_path, name):
    root = r.write_exported(tmp_path / "room")
    (root / name).unlink()
    os.mkfifo(root / name)
    assert read_all(root).reason == Reason.UNREADABLE_FILE
    (root / name).unlink()
    (root / name).symlink_to("/dev/zero")
    assert read_all(root).reason == Reason.UNREADABLE_FILE


@pytest.mark.parametrize("name", ["depth/000002.png", "color/000002.png"])
@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_damaged_images_are_refused_by_name(tmp_path, name, content):
    root = r.write_exported(tmp_path / "room")
    path = root / name
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    refused = read_all(root)
    assert refused.reason == Reason.BAD_SYNTAX
    assert name in refused.detail


def test_depth_must_have_16_bits_and_one_size(tmp_path):
    root = r.write_exported(tmp_path / "room")
    for pixels in (np.ones((48, 64), np.uint8), np.ones((48, 64, 3), np.uint8)):
        (root / "depth/000002.png").write_bytes(r.png(pixels))
        assert "16 bits" in read_all(root).detail
    (root / "depth/000002.png").write_bytes(r.png(np.ones((24, 32), np.uint16)))
    assert read_all(root).reason == Reason.COUNT_MISMATCH


def bomb(width, height, color):
    """A PNG file of a few bytes that declares any number of pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8 if color else 16, 2 if color else 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [1 << 13, 1 << 15, 1 << 20])
def test_images_of_too_many_pixels_are_not_decoded(side):
    assert side * side > MAX_PIXELS
    for decode, color in ((decode_color, True), (decode_depth, False)):
        with pytest.raises(ShapeRefused) as refused:
            decode(bomb(side, side, color), "bomb.png")
        assert refused.value.reason in (Reason.TOO_LARGE, Reason.BAD_SYNTAX)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("trajectory.log", "0 0 1\n1 0 0 0\n", Reason.TRUNCATED),
        ("trajectory.log", "", Reason.EMPTY_FILE),
        ("trajectory.log", "0 0 1\n1 0 0 zero\n", Reason.BAD_SYNTAX),
        ("trajectory.log", "version https://git-lfs.github.com/spec/v1\n", Reason.LFS_POINTER),
        ("camera_intrinsic.json", "{", Reason.BAD_SYNTAX),
        ("camera_intrinsic.json", "[" * 500 + "]" * 500, Reason.BAD_SYNTAX),
        ("camera_intrinsic.json", '{"intrinsic_matrix": [1]}', Reason.BAD_SYNTAX),
        ("scene.json", "<!doctype html>", Reason.HTML_PAGE),
    ],
)
def test_damaged_texts_are_refused_with_a_reason(tmp_path, name, content, reason):
    root = r.write_redwood(tmp_path / "room")
    (root / name).write_text(content)
    refused = refusal(root)
    assert refused.reason == reason


def test_two_images_of_the_same_number_are_refused(tmp_path):
    root = r.write_redwood(tmp_path / "room")
    (root / "depth/1.png").write_bytes(b"")
    assert "same frame number" in refusal(root).detail


def test_the_digest_changes_with_poses_intrinsics_and_images(tmp_path):
    root = r.write_exported(tmp_path / "room")
    first = load(root).sha256
    assert len(first) == 64
    assert load(root).sha256 == first
    seen = {first}
    for name in ("pose/000001.txt", "intrinsics_depth.txt", "intrinsics_color.txt"):
        path = root / name
        path.write_text(path.read_text() + "\n")
        seen.add(load(root).sha256)
    (root / "color/000002.png").write_bytes(r.png(np.zeros((48, 64, 3), np.uint8)))
    seen.add(load(root).sha256)
    (root / "scene.json").write_text(json.dumps({"up": "z"}))
    seen.add(load(root).sha256)
    assert len(seen) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_the_scenes_fault(tmp_path):
    root = r.write_redwood(tmp_path / "room")
    (root / "depth").chmod(0)
    try:
        assert read_all(root).reason == Reason.UNREADABLE_FILE
    finally:
        (root / "depth").chmod(0o755)
