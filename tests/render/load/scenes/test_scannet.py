"""ScanNet scans: labels and boxes by the benchmarks' rules, and every known trap of the files."""

import json
import os

import numpy as np
import pytest

from pointcmt.datasets.sources.scannet import LABELS
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.scannet import load_scannet
from tests.render.load.scenes import fake_scannet as f
from tests.render.load.scenes import recordings as r
from tests.render.load.scenes.rooms import back_projected, off_walls

VERTICES, FACES, OWNER = f.room_mesh()
NUMBERS = np.array([number for number, *_ in f.OBJECTS] + [-1])[OWNER]
CLASSES = np.array([f.CLASS[name] for _, name, *_ in f.OBJECTS] + [-1])[OWNER]


def load(root, name="scene0001_00", place="scans"):
    return load_scannet(ShapeRecord(name, None, "train", f"{place}/{name}"), root)


def refusal(root):
    with pytest.raises(ShapeRefused) as refused:
        load(root)
    return refused.value


def groups_of(folder):
    return json.loads((folder / "scene0001_00.aggregation.json").read_text())["segGroups"]


def test_vertices_keep_their_order_and_get_the_labels_of_their_objects(tmp_path):
    f.write_scan(tmp_path, frames=False)
    scene = load(tmp_path)
    points = scene.points
    np.testing.assert_allclose(points.points, f.into_file(VERTICES), atol=1e-6)
    np.testing.assert_array_equal(points.color, f.colors(len(VERTICES))[:, :3])
    np.testing.assert_array_equal(points.semantic, CLASSES)
    np.testing.assert_array_equal(points.instance, NUMBERS)
    np.testing.assert_array_equal(scene.mesh.faces, FACES)
    assert LABELS.semantic[4] == "chair"
    assert any("no frames" in note for note in scene.notes)


def test_normals_are_those_of_the_faces(tmp_path):
    f.write_scan(tmp_path, frames=False)
    normals = load(tmp_path).points.normals @ f.alignment()[:3, :3].T
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    flat = OWNER == 0
    np.testing.assert_allclose(abs(normals[flat]) - [0, 0, 1], 0, atol=1e-5)


def test_the_world_is_aligned_and_stands_on_the_floor(tmp_path):
    """The source's points stay unaligned, as the segmentation benchmark has them."""
    f.write_scan(tmp_path, frames=False)
    scene = load(tmp_path)
    moved = scene.points.points @ scene.source_to_world[:3, :3].T + scene.source_to_world[:3, 3]
    np.testing.assert_allclose(
        moved - VERTICES, (moved - VERTICES)[:1].repeat(len(moved), 0), atol=1e-5
    )
    assert abs(moved[:, 2].min()) < 0.02
    np.testing.assert_allclose(moved.max(axis=0)[:2] + moved.min(axis=0)[:2], 0, atol=0.05)


def test_boxes_are_axis_aligned_in_the_world(tmp_path):
    """Each is around its object's vertices; the floor has none."""
    f.write_scan(tmp_path, frames=False)
    scene = load(tmp_path)
    boxes, to_world = scene.boxes, scene.source_to_world
    found = {int(number): index for index, number in enumerate(boxes.instance)}
    assert found.keys() == {3, 12, 0}
    shift = to_world[:3, 3] - f.alignment()[:3, 3]
    for number, name, low, high in f.OBJECTS[1:]:
        box = boxes.boxes[found[number]]
        center = to_world[:3, :3] @ box[:3] + to_world[:3, 3]
        np.testing.assert_allclose(center, (np.array(low) + high) / 2 + shift, atol=1e-5)
        np.testing.assert_allclose(box[3:6], np.array(high) - low, atol=1e-5)
        turn = np.arctan2(to_world[1, 0], to_world[0, 0])
        assert box[6] + turn == pytest.approx(0, abs=1e-6)
        assert LABELS.boxes[boxes.label[found[number]]] == LABELS.semantic[f.CLASS[name]]


def test_frames_and_points_agree(tmp_path):
    """The poses are in the coordinates of the vertices."""
    f.write_scan(tmp_path)
    scene = load(tmp_path)
    assert len(scene.frames) == 4
    for frame in scene.frames:
        points, _ = back_projected(frame.read(), frame, f.alignment())
        assert off_walls(points).max() < 0.001


def test_scans_of_the_test_set_have_neither_labels_nor_alignment(tmp_path):
    """Their unaligned points are the world's but for a translation."""
    f.write_scan(tmp_path, "scene0707_00", "scans_test", labeled=False)
    scene = load(tmp_path, "scene0707_00", "scans_test")
    assert not scene.has_labels
    assert len(scene.boxes) == 0
    np.testing.assert_array_equal(scene.source_to_world[:3, :3], np.eye(3))
    assert len(scene.frames) == 4


@pytest.mark.parametrize("tilt", [np.diag([1.0, -1, -1, 1]), np.zeros((4, 4)), 2 * np.eye(4)])
def test_an_alignment_that_is_not_a_turn_about_z_is_not_used(tmp_path, tilt):
    folder = f.write_scan(tmp_path, frames=False)
    text = r.matrix_text(tilt).replace("\n", " ")
    (folder / "scene0001_00.txt").write_text(f"axisAlignment = {text}\n")
    scene = load(tmp_path)
    np.testing.assert_array_equal(scene.source_to_world[:3, :3], np.eye(3))
    assert any("axisAlignment" in note for note in scene.notes)


# Labels: traps of the published files


def test_a_name_missing_from_the_table_is_ignored_and_counted(tmp_path):
    f.write_scan(tmp_path, frames=False)
    f.write_table(tmp_path, [row for row in f.NAMES if row[0] != "coffee table"])
    scene = load(tmp_path)
    np.testing.assert_array_equal(scene.points.semantic, np.where(CLASSES == 6, -1, CLASSES))
    np.testing.assert_array_equal(scene.points.instance, NUMBERS)
    assert any("1 object names" in note and "coffee table" in note for note in scene.notes)
    assert 12 not in scene.boxes.instance


def test_of_a_name_listed_twice_the_first_row_counts(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    groups = groups_of(folder)
    groups[1]["label"] = "object"  # 40, then 5 = chair
    f.write_labels(folder, groups)
    np.testing.assert_array_equal(load(tmp_path).points.semantic == 4, False)


def test_names_may_hold_quotes(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    groups = groups_of(folder)
    groups[1]["label"] = 'cloth "blue"'
    f.write_labels(folder, groups)
    assert not any("object names" in note for note in load(tmp_path).notes)


def test_on_shared_segments_the_later_object_counts(tmp_path):
    """And only those: the segments of earlier objects of the same name do not grow."""
    folder = f.write_scan(tmp_path, frames=False)
    groups = groups_of(folder)
    extra = {"id": 9, "objectId": 40, "label": "office chair", "segments": [300, 900]}
    f.write_labels(folder, [*groups, extra])
    points = load(tmp_path).points
    shared = (OWNER == 2) & (np.arange(len(OWNER)) % 2 == 0) | (OWNER == -1)
    np.testing.assert_array_equal(points.instance, np.where(shared, 40, NUMBERS))
    np.testing.assert_array_equal(points.semantic, np.where(shared, 4, CLASSES))


def test_an_object_without_vertices_has_no_box(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    gone = {"id": 9, "objectId": 99, "label": "office chair", "segments": [123456]}
    hidden = {"id": 10, "objectId": 50, "label": "office chair", "segments": [200, 201]}
    f.write_labels(folder, [*groups_of(folder), gone, hidden])
    boxes = load(tmp_path).boxes
    assert sorted(boxes.instance) == [0, 12, 50]  # 50 replaces 3
    assert (boxes.boxes[:, 3:6] > 0.2).all()


def test_a_flat_object_has_no_box(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    groups = groups_of(folder)
    groups[0]["label"] = "office chair"  # the floor, without height
    f.write_labels(folder, groups)
    path = folder / "scene0001_00.txt"
    path.write_text("sceneType = Office\n")  # flat only in coordinates that are not turned
    (folder / "scene0001_00_vh_clean_2.ply").write_bytes(f.ply(VERTICES, FACES))
    scene = load(tmp_path)
    assert sorted(scene.boxes.instance) == [0, 3, 12]
    assert any("without extent" in note for note in scene.notes)


def test_labels_ply_is_used_without_segments_and_its_invalid_ids_are_ignored(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    for path in folder.glob("*.json"):
        path.unlink()
    ids = np.array([2, 5, 7, 39, 0])[OWNER]
    ids[:3], ids[3] = 50, 149
    path = folder / "scene0001_00_vh_clean_2.labels.ply"
    path.write_bytes(f.ply(f.into_file(VERTICES), FACES, [("label", ids)]))
    scene = load(tmp_path)
    wanted = CLASSES.copy()
    wanted[:4] = -1
    np.testing.assert_array_equal(scene.points.semantic, wanted)
    assert scene.points.instance is None
    assert any("4 vertices have invalid labels (50, 149)" in note for note in scene.notes)


def test_scans_of_detection_never_lose_vertices(tmp_path):
    """All of them are kept; nothing is drawn at random."""
    f.write_scan(tmp_path, frames=False)
    first, second = load(tmp_path), load(tmp_path)
    assert len(first.points) == len(VERTICES)
    np.testing.assert_array_equal(first.points.points, second.points.points)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("vh_clean_2.0.010000.segs.json", lambda t: t["segIndices"].pop(), Reason.COUNT_MISMATCH),
        ("vh_clean_2.0.010000.segs.json", lambda t: t.clear(), Reason.BAD_SYNTAX),
        ("vh_clean_2.0.010000.segs.json", lambda t: t["segIndices"].append(-1), Reason.BAD_SYNTAX),
        ("aggregation.json", lambda t: t.clear(), Reason.BAD_SYNTAX),
        ("aggregation.json", lambda t: t["segGroups"].append(3), Reason.BAD_SYNTAX),
        ("aggregation.json", lambda t: t["segGroups"][0].pop("objectId"), Reason.BAD_SYNTAX),
        ("aggregation.json", lambda t: t["segGroups"][0].update(objectId=2**40), Reason.BAD_SYNTAX),
    ],
)
def test_damaged_labels_are_refused(tmp_path, name, change, reason):
    folder = f.write_scan(tmp_path, frames=False)
    (path,) = folder.glob(f"*{name}")
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))
    assert refusal(tmp_path).reason == reason


def test_labels_that_cannot_be_read_without_the_table_are_refused(tmp_path):
    f.write_scan(tmp_path, frames=False)
    (tmp_path / "scannetv2-labels.combined.tsv").unlink()
    refused = refusal(tmp_path)
    assert refused.reason == Reason.MISSING_FILE
    assert "scannetv2-labels.combined.tsv" in refused.detail
    (tmp_path / "scannetv2-labels.combined.tsv").write_text("id\tname\n")
    assert refusal(tmp_path).reason == Reason.BAD_SYNTAX


# Frames


@pytest.mark.parametrize("place", ["scans", "scannet_frames_25k", "tasks/scannet_frames_25k"])
def test_exported_frames_are_used_without_a_sens_file(tmp_path, place):
    folder = f.write_scan(tmp_path, frames=False)
    bare = load(tmp_path).sha256
    poses = f.file_poses()
    r.write_exported(tmp_path / place / folder.name, poses=[*poses[:2], r.UNTRACKED, poses[3]])
    scene = load(tmp_path)
    assert [frame.number for frame in scene.frames] == [0, 1, 3]
    assert scene.sha256 != bare
    for frame in scene.frames:
        points, _ = back_projected(frame.read(), frame, f.alignment())
        assert off_walls(points).max() < 0.001


def test_frames_alone_are_a_scene_without_points(tmp_path):
    r.write_exported(tmp_path / "scannet_frames_25k/scene0001_00")
    scene = load(tmp_path, place="scannet_frames_25k")
    assert scene.points is None
    assert len(scene.frames) == 4


def test_the_occi_codec_is_refused_with_a_way_out(tmp_path):
    folder = f.write_scan(tmp_path)
    poses = f.file_poses()
    (folder / "scene0001_00.sens").write_bytes(f.sens(poses[:1], codecs=(2, 2)))
    refused = refusal(tmp_path)
    assert refused.reason == Reason.UNKNOWN_FORMAT
    assert "SensReader" in refused.detail
    (folder / "scene0001_00.sens").unlink()  # what the message says
    r.write_exported(folder, poses=poses)
    assert len(load(tmp_path).frames) == 4


@pytest.mark.parametrize("suffix", [".sens", ".txt", "_vh_clean_2.ply", ".aggregation.json"])
def test_links_out_of_the_root_and_special_files_are_refused(tmp_path, suffix):
    folder = f.write_scan(tmp_path / "root")
    path = folder / f"scene0001_00{suffix}"
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    refused = refusal(tmp_path / "root")
    assert refused.reason == Reason.UNREADABLE_FILE
    assert "--follow-links" in refused.detail
    record = ShapeRecord("scene0001_00", None, "train", "scans/scene0001_00")
    assert load_scannet(record, tmp_path / "root", follow_links=True).has_labels
    path.unlink()
    os.mkfifo(path)
    assert refusal(tmp_path / "root").reason == Reason.UNREADABLE_FILE


def test_a_damaged_mesh_is_refused_by_name(tmp_path):
    path = f.write_scan(tmp_path, frames=False) / "scene0001_00_vh_clean_2.ply"
    path.write_bytes(path.read_bytes()[:-50])
    refused = refusal(tmp_path)
    assert refused.reason == Reason.TRUNCATED
    assert path.name in refused.detail


def test_an_empty_scan_is_refused(tmp_path):
    (tmp_path / "scans/scene0001_00").mkdir(parents=True)
    assert refusal(tmp_path).reason == Reason.MISSING_FILE


def test_vertices_that_are_not_finite_are_refused(tmp_path):
    folder = f.write_scan(tmp_path, frames=False)
    vertices = VERTICES.copy()
    vertices[5] = np.nan
    (folder / "scene0001_00_vh_clean_2.ply").write_bytes(f.ply(vertices, FACES))
    assert refusal(tmp_path).reason == Reason.NOT_FINITE
