"""Rooms of S3DIS: points, labels and instances, placement, and both versions of the release."""

import numpy as np
import pytest

from pointcmt.datasets.sources.s3dis import LABELS, list_s3dis
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.s3dis.rooms import load_s3dis
from tests.fake_s3dis import ALIGNED, SCANNED, room_points, write_room, write_s3dis

ROOM = "Area_1/office_1"


def load(root, room=ROOM, **options):
    [record] = [shape for shape in list_s3dis("s3dis", root).shapes if shape.id == room]
    return load_s3dis(record, root, **options)


def refused(root, room=ROOM):
    with pytest.raises(ShapeRefused) as raised:
        load(root, room)
    return raised.value


def world(scene):
    pose = scene.source_to_world
    return scene.points.points @ pose[:3, :3].T + pose[:3, 3]


def test_points_colors_and_labels_are_those_of_the_files_in_their_order(tmp_path):
    scene = load(write_s3dis(tmp_path, [ROOM]))
    parts = room_points()
    table = np.concatenate(list(parts.values()))
    assert np.array_equal(scene.points.points, table[:, :3])
    assert np.array_equal(scene.points.color, table[:, 3:].astype(np.uint8))
    counts = [len(part) for part in parts.values()]
    classes = [LABELS.semantic.index(c) for c in ("ceiling", "chair", "chair", "floor", "clutter")]
    assert np.array_equal(scene.points.semantic, np.repeat(classes, counts))
    assert np.array_equal(scene.points.instance, np.repeat(range(5), counts))
    assert scene.frames == ()


def test_stairs_become_clutter_and_that_is_noted(tmp_path):
    scene = load(write_s3dis(tmp_path, [ROOM]))
    assert scene.notes == ("40 points of the class 'stairs' were taken as clutter",)


def test_the_floor_is_at_zero_and_the_room_is_centered_without_scaling(tmp_path):
    scene = load(write_s3dis(tmp_path, [ROOM]))
    placed, own = world(scene), scene.points.points
    assert np.abs(placed[scene.points.semantic == 1, 2]).max() < 1e-9
    low, high = np.percentile(placed[:, :2], [1, 99], axis=0)
    assert np.allclose(low, -high)
    assert np.allclose(placed - own, (placed - own)[0])


@pytest.mark.parametrize("angle", [0, 90, 180, 270, 35])
def test_rooms_as_scanned_are_turned_back_by_their_angle(angle, tmp_path):
    """The turn is that of Pointcept: (2 - angle / 180) π about the room's middle."""
    parts = room_points()
    turn = np.radians(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    scanned = {
        name: np.hstack([table[:, :2] @ np.array([[cos, sin], [-sin, cos]]), table[:, 2:]])
        for name, table in parts.items()
    }
    write_s3dis(tmp_path / SCANNED, [ROOM], scanned=True, angles={ROOM: angle})
    write_room(tmp_path / SCANNED / "Area_1", "office_1", scanned, scanned=True)
    write_s3dis(tmp_path / ALIGNED, [ROOM])
    scene = load(tmp_path / SCANNED)
    assert np.abs(world(scene) - world(load(tmp_path / ALIGNED))).max() < 2e-3  # rounded to 1 mm
    table = np.concatenate(list(scanned.values()))
    assert np.abs(scene.points.points - table[:, :3]).max() < 5.1e-4  # the source's coordinates


def test_angles_do_not_turn_the_aligned_version(tmp_path):
    root = write_s3dis(tmp_path / ALIGNED, [ROOM])
    before = load(root)
    (root / "Area_1/Area_1_alignmentAngle.txt").write_text("office_1 90\n")
    scene = load(root)
    assert np.array_equal(scene.source_to_world, before.source_to_world)
    assert "Area_1_alignmentAngle.txt is not used: this is the aligned version" in scene.notes


@pytest.mark.parametrize("line", ["office_2 90", "office_1", "office_1 many", "office_1 nan"])
def test_a_room_without_an_angle_is_refused_where_others_have_one(line, tmp_path):
    write_s3dis(tmp_path, [ROOM], scanned=True)
    (tmp_path / "Area_1/Area_1_alignmentAngle.txt").write_text(f"{line}\n")
    assert refused(tmp_path).reason == Reason.BAD_SYNTAX
    assert "office_1" in refused(tmp_path).detail


def test_a_copy_of_an_annotation_is_left_out(tmp_path):
    """Area_5/office_36 has "wall_3 (1).txt"; its points would be there twice."""
    folder = write_room(write_s3dis(tmp_path, [ROOM]) / "Area_1", "office_1")
    expected = load(tmp_path).points
    (folder / "chair_1 (1).txt").write_bytes((folder / "chair_1.txt").read_bytes())
    (folder / "readme.txt").write_text("hello\n")
    (folder / "._chair_1.txt").write_bytes(b"\0\5\26\7")
    scene = load(tmp_path)
    assert np.array_equal(scene.points.points, expected.points)
    assert "chair_1 (1).txt was left out: a copy" in scene.notes
    assert "readme.txt was left out: not named <class>_<number>.txt" in scene.notes


def test_a_room_without_annotations_is_refused_and_others_are_not(tmp_path):
    write_s3dis(tmp_path, [ROOM, "Area_1/office_2"])
    for path in (tmp_path / ROOM / "Annotations").iterdir():
        path.unlink()
    assert refused(tmp_path).reason == Reason.MISSING_FILE
    assert len(load(tmp_path, "Area_1/office_2").points) == 850


def test_the_digest_tells_every_change(tmp_path):
    folder = write_room(write_s3dis(tmp_path, [ROOM]) / "Area_1", "office_1")
    first = load(tmp_path).sha256
    assert load(tmp_path).sha256 == first
    (folder / "chair_1.txt").rename(folder / "table_1.txt")
    second = load(tmp_path).sha256
    (tmp_path / "Area_1/Area_1_alignmentAngle.txt").write_text("office_1 90\n")
    assert len({first, second, load(tmp_path).sha256}) == 3


def test_links_out_of_the_root_are_read_only_if_asked_for(tmp_path):
    write_s3dis(tmp_path / "other", [ROOM])
    (tmp_path / "root/Area_1").mkdir(parents=True)
    (tmp_path / "root" / ROOM).symlink_to(tmp_path / "other" / ROOM)
    assert refused(tmp_path / "root").reason == Reason.UNREADABLE_FILE
    assert len(load(tmp_path / "root", follow_links=True).points) == 850


def test_plans_cannot_name_folders_outside_the_root(tmp_path):
    write_s3dis(tmp_path, [ROOM])
    [record] = list_s3dis("s3dis", tmp_path).shapes
    object.__setattr__(record, "source", "../Area_1/office_1")
    with pytest.raises(ShapeRefused, match="outside the dataset"):
        load_s3dis(record, tmp_path / "Area_1")
