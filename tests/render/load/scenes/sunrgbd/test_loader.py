"""Frames of SUN RGB-D from the release and from VoteNet's extraction."""

import io
import pickle
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from pointcmt.datasets.sources.sunrgbd import VARIANTS, list_sunrgbd
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.sunrgbd.loader import load_sunrgbd
from tests.fake_sunrgbd import CHAIR, META, FakeFrame, some_depth, write_extraction, write_release

BED = ("bed", (-1.0, 3.0, -0.5), (-0.8, 1.0, 0.3), (-1.0, 1.0))
DESK = ("dress", (0.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0))
FRAME = FakeFrame(boxes=(CHAIR, DESK, BED))
EXTRACTED = "sunrgbd_trainval"


def load(root, row=0, dataset="sunrgbd"):
    record = list_sunrgbd(dataset, root).shapes[row]
    return load_sunrgbd(record, root, VARIANTS[dataset])


def refused(root, row=0):
    with pytest.raises(ShapeRefused) as raised:
        load(root, row)
    return raised.value


def by_position(points):
    """Points with their colors, sorted: the toolbox goes column by column, we row by row."""
    table = np.hstack([points.points.round(6), points.color])
    return table[np.lexsort(table.T)]


def test_points_are_those_of_the_toolbox(tmp_path):
    scene, table = load(write_release(tmp_path, [FRAME])), FRAME.table()
    assert len(scene.points) == len(table) == np.count_nonzero(FRAME.millimeters)
    order = np.lexsort(scene.points.points.T), np.lexsort(table[:, :3].T)
    assert np.abs(scene.points.points[order[0]] - table[order[1], :3]).max() < 1e-6
    assert np.array_equal(scene.points.color[order[0]], np.rint(table[order[1], 3:] * 255))


def test_pixels_of_the_frame_project_to_the_points(tmp_path):
    scene = load(write_release(tmp_path, [FRAME]))
    [frame] = scene.frames
    image = frame.read()
    own = (scene.points.points - frame.camera_to_world[:3, 3]) @ frame.camera_to_world[:3, :3]
    uv = own @ frame.K.T
    columns, rows = (uv[:, :2] / uv[:, 2:]).T - 0.5
    assert np.abs(columns - np.rint(columns)).max() < 1e-6
    seen = image.depth[np.rint(rows).astype(int), np.rint(columns).astype(int)]
    assert np.abs(own[:, 2] - seen).max() < 1e-5
    assert np.array_equal(image.color, FRAME.colors())


def test_the_bits_of_the_depth_are_rotated_and_depth_is_capped(tmp_path):
    depth = some_depth()
    depth[0, :6] = [1, 8000, 8001, 8191, 8192, 65535]
    image = load(write_release(tmp_path, [FakeFrame(millimeters=depth)])).frames[0].read()
    assert np.allclose(image.depth, np.minimum(depth / 1000, 8))
    assert image.depth[0, 0] == pytest.approx(0.001)


def test_both_layouts_give_the_same_scene(tmp_path):
    released = load(write_release(tmp_path / "a", [FRAME]))
    extracted = load(write_extraction(tmp_path / "b", {1: FRAME}))
    assert np.allclose(by_position(released.points), by_position(extracted.points), atol=2e-6)
    one, other = (scene.frames[0] for scene in (released, extracted))
    assert np.allclose(one.K, other.K, atol=1e-6)
    assert np.allclose(one.camera_to_world, other.camera_to_world, atol=1e-6)
    assert np.allclose(one.read().depth, other.read().depth, atol=2e-5)
    assert np.array_equal(one.read().color, other.read().color)
    assert np.allclose(released.boxes.boxes, extracted.boxes.boxes, atol=1e-6)
    assert np.array_equal(released.boxes.label, extracted.boxes.label)
    assert np.allclose(released.source_to_world, extracted.source_to_world, atol=1e-4)


def test_boxes_are_in_the_coordinates_of_the_points(tmp_path):
    boxes = load(write_release(tmp_path, [FRAME])).boxes
    assert boxes.label.tolist() == [3, 0]
    expected = [
        [0.5, 2, -0.6, 0.8, 0.6, 1, np.pi / 2],
        [-1, 3, -0.5, 2, 1.6, 0.6, 3 * np.pi / 4],
    ]
    assert np.allclose(boxes.boxes, expected, atol=1e-6)


def test_a_frame_may_have_no_boxes(tmp_path):
    frames = [FakeFrame(boxes=()), FRAME]
    assert len(load(write_release(tmp_path / "a", frames)).boxes) == 0
    assert len(load(write_extraction(tmp_path / "b", dict(enumerate(frames, 1)))).boxes) == 0


def test_each_version_has_its_own_boxes(tmp_path):
    write_release(tmp_path, [FakeFrame(boxes=(CHAIR,))], version=1)
    write_release(tmp_path, [FakeFrame(boxes=(BED, BED))], version=2)
    write_extraction(tmp_path / "x", {1: FakeFrame(boxes=(CHAIR,))}, version=1)
    write_extraction(tmp_path / "x", {1: FakeFrame(boxes=(BED, BED))}, version=2)
    for root in (tmp_path, tmp_path / "x"):
        assert len(load(root, dataset="sunrgbd").boxes) == 1
        assert len(load(root, dataset="sunrgbd-v2").boxes) == 2


def test_the_floor_is_at_zero_and_the_camera_above_the_origin(tmp_path):
    scene = load(write_release(tmp_path, [FRAME]))
    lift = scene.source_to_world.copy()
    heights = scene.points.points[:, 2] + lift[2, 3]
    assert np.mean(heights < 0) == pytest.approx(0.01, abs=0.005)
    lift[2, 3] = 0
    assert np.array_equal(lift, np.eye(4))


def test_the_digest_tells_every_change(tmp_path):
    digests = {load(write_release(tmp_path, [FRAME])).sha256}
    for change in (
        {"boxes": (BED,)},
        {"seed": 1},
        {"millimeters": some_depth(1)},
        {"tilt": np.eye(3)},
    ):
        digests.add(load(write_release(tmp_path, [FakeFrame(**change)])).sha256)
    assert len(digests) == 5


def test_one_broken_frame_does_not_harm_the_others(tmp_path):
    frames = [FakeFrame(folder=f"kv1/NYUdata/NYU000{n}") for n in range(1, 5)]
    root = write_release(tmp_path, frames)
    (root / "SUNRGBD" / frames[0].folder / "depth_bfx/0001.png").unlink()
    path = root / "SUNRGBD" / frames[1].folder / "image/0001.jpg"
    path.write_bytes(path.read_bytes()[:100])
    image = Image.fromarray(np.zeros((5, 5), np.uint16))
    image.save(root / "SUNRGBD" / frames[2].folder / "depth_bfx/0001.png")
    assert refused(root, 0).reason == Reason.MISSING_FILE
    assert refused(root, 1).reason == Reason.BAD_SYNTAX
    assert refused(root, 2).reason == Reason.COUNT_MISMATCH
    assert len(load(root, 3).points) > 0


def test_a_frame_without_depth_is_refused(tmp_path):
    frame = FakeFrame(millimeters=np.zeros_like(some_depth()))
    assert refused(write_release(tmp_path, [frame])).reason == Reason.EMPTY_FILE


def test_a_plan_must_agree_with_the_list(tmp_path):
    root = write_release(tmp_path, [FRAME, FakeFrame(folder="kv1/other")])
    first, second = list_sunrgbd("sunrgbd", root).shapes
    for name, value, reason in (
        ("source", second.source, Reason.SOURCE_CHANGED),
        ("id", "000009", Reason.MISSING_FILE),
        ("id", "one", Reason.MISSING_FILE),
        ("source", "../000001.mat", Reason.UNREADABLE_FILE),
    ):
        changed = type(first)(**{**vars(first), name: value})
        with pytest.raises(ShapeRefused) as raised:
            load_sunrgbd(changed, root)
        assert raised.value.reason == reason


@pytest.mark.parametrize("place", ["/etc/", "SUNRGBD/", "SUNRGBD/kv1/../../"])
def test_paths_of_the_list_stay_below_the_sensors_folders(place, tmp_path):
    """The frame is listed, and loading it gives the reason; the others are not affected."""
    root = write_release(tmp_path, [FRAME, FakeFrame(folder="kv1/1")])
    meta = loadmat(root / META[1])["SUNRGBDMeta"]
    meta["rgbpath"][0, 1] = f"/n/fs/sun3d/data/{place}1/image/0001.jpg"
    savemat(root / META[1], {"SUNRGBDMeta": meta})
    assert len(list_sunrgbd("sunrgbd", root).shapes) == 2
    assert refused(root, 1).reason in (Reason.BAD_SYNTAX, Reason.UNREADABLE_FILE)
    assert len(load(root).points) > 0


def test_images_outside_the_root_are_not_read(tmp_path):
    root = write_release(tmp_path / "root", [FRAME])
    path = root / "SUNRGBD" / FRAME.folder / "image/0001.jpg"
    path.rename(tmp_path / "outside.jpg")
    path.symlink_to(tmp_path / "outside.jpg")
    assert refused(root).reason == Reason.UNREADABLE_FILE


def test_frames_can_be_sent_to_other_processes(tmp_path):
    for root in (
        write_release(tmp_path / "a", [FRAME]),
        write_extraction(tmp_path / "b", {1: FRAME}),
    ):
        frame = pickle.loads(pickle.dumps(load(root).frames[0]))
        assert np.array_equal(frame.read().color, FRAME.colors())


def test_a_changed_list_is_read_again(tmp_path):
    assert len(load(write_release(tmp_path, [FRAME])).boxes) == 2
    assert len(load(write_release(tmp_path, [FakeFrame(boxes=())])).boxes) == 0


def test_a_list_without_a_field_is_refused(tmp_path):
    root = write_release(tmp_path, [FRAME])
    meta = np.empty((1, 1), [("rgbpath", object)])
    meta["rgbpath"][0, 0] = f"/n/fs/sun3d/data/SUNRGBD/{FRAME.folder}/image/0001.jpg"
    savemat(root / META[1], {"SUNRGBDMeta": meta})
    assert refused(root).reason == Reason.BAD_SYNTAX


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("calib", "1 0 0 0 1 0 0 0 1\n"),
        ("calib", "1 0 0 0 1 0 0 0 1\n30 0 0 0 31 0 17.25 12.5\n"),
        ("calib", "1 0 0 0 1 0 0 0 1\n30 0 0 0 31 0 17.25 12.5 x\n"),
        ("calib", "1 0 0 0 1 0 0 0 1\n30 0 0 0 31 0 17.25 12.5 1\n"),  # another Rtilt
        ("label_v1", "chair 1 2 3 4 0.5 2 -0.6 0.3 0.4 0.5 0\n"),
        ("label_v1", "chair 1 2 3 4 0.5 2 -0.6 0.3 0.4 0.5 0 one\n"),
    ],
)
def test_texts_of_the_extraction_are_checked(name, text, tmp_path):
    root = write_extraction(tmp_path, {1: FRAME})
    (root / EXTRACTED / name / "000001.txt").write_text(text)
    assert refused(root).reason == Reason.BAD_SYNTAX


def test_matrices_written_row_by_row_are_noticed(tmp_path):
    """The extraction writes them column by column; the points tell which it is."""
    root = write_extraction(tmp_path, {1: FRAME})
    lines = [" ".join(f"{v:f}" for v in m.ravel()) for m in (FRAME.tilt, FRAME.K)]
    (root / EXTRACTED / "calib/000001.txt").write_text("\n".join(lines))
    assert refused(root).reason == Reason.BAD_SYNTAX
    half = FakeFrame(tilt=FRAME.tilt.T)
    lines = [" ".join(f"{v:f}" for v in m.ravel("F")) for m in (half.tilt, FRAME.K)]
    (root / EXTRACTED / "calib/000001.txt").write_text("\n".join(lines))
    assert "do not fit its calibration" in refused(root).detail


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.zeros((0, 6)), Reason.EMPTY_FILE),
        (np.ones((4, 5)), Reason.BAD_SYNTAX),
        (np.full((4, 6), np.nan), Reason.NOT_FINITE),
        (np.array([[0, 1, 0, 0, 0, 255.0]]), Reason.BAD_SYNTAX),
        (np.array([[0, -1, 0, 0, 0, 0.0]]), Reason.BAD_SYNTAX),
        (np.array([[9, 1, 0, 0, 0, 0.0]]), Reason.BAD_SYNTAX),
    ],
)
def test_points_of_the_extraction_are_checked(table, reason, tmp_path):
    root = write_extraction(tmp_path, {1: FRAME})
    savemat(root / EXTRACTED / "depth/000001.mat", {"instance": table})
    assert refused(root).reason == reason


def test_files_that_the_extraction_lost_are_refused(tmp_path):
    for folder in ("depth", "image", "calib", "label_v1"):
        root = write_extraction(tmp_path / folder, {1: FRAME})
        next((root / EXTRACTED / folder).iterdir()).unlink()
        assert refused(root).reason == Reason.MISSING_FILE


def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    root = write_release(tmp_path, [FRAME])
    path = root / "SUNRGBD" / FRAME.folder / "depth_bfx/0001.png"
    file = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint16)).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    assert refused(root).reason == Reason.TOO_LARGE
