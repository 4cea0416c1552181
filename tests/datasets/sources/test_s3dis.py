"""S3DIS: rooms, areas as splits, and what is told about an incomplete copy."""

import pytest

from pointcmt.datasets.sources.s3dis import LABELS, ROOM_TYPES, ROOMS, list_s3dis
from pointcmt.errors import UsageError
from tests.fake_s3dis import ALIGNED, SCANNED, whole_release, write_s3dis

ROOMS_HERE = ["Area_1/conferenceRoom_1", "Area_1/office_2", "Area_5/WC_1", "Area_6/copyRoom_1"]


def test_rooms_have_their_type_as_class_and_area_5_is_the_test_split(tmp_path):
    listing = list_s3dis("s3dis", write_s3dis(tmp_path, ROOMS_HERE))
    assert [(s.id, s.class_name, s.split, s.source) for s in listing.shapes] == [
        ("Area_1/conferenceRoom_1", "conferenceRoom", "train", "Area_1/conferenceRoom_1"),
        ("Area_1/office_2", "office", "train", "Area_1/office_2"),
        ("Area_5/WC_1", "WC", "test", "Area_5/WC_1"),
        ("Area_6/copyRoom_1", "copyRoom", "train", "Area_6/copyRoom_1"),
    ]
    assert listing.class_names == ROOM_TYPES
    assert len(ROOM_TYPES) == 11
    assert (listing.kind, listing.up) == ("scene", "z")


@pytest.mark.parametrize("area", ROOMS)
def test_each_area_can_be_the_test_split(area, tmp_path):
    listing = list_s3dis(f"s3dis-area{area}", whole_release(tmp_path))
    assert listing.counts() == listing.official
    assert listing.counts() == {"train": 272 - ROOMS[area], "test": ROOMS[area]}
    assert {s.id.split("/")[0] for s in listing.shapes if s.split == "test"} == {f"Area_{area}"}


def test_the_whole_release_needs_no_notes(tmp_path):
    listing = list_s3dis("s3dis", whole_release(tmp_path))
    assert len(listing.shapes) == 272
    assert listing.notes == ()


def test_missing_rooms_and_areas_are_told(tmp_path):
    whole_release(tmp_path)
    (tmp_path / "Area_2/office_40/Annotations").rmdir()
    (tmp_path / "Area_2/office_40").rmdir()
    (tmp_path / "Area_3").rename(tmp_path / "elsewhere")
    [note] = list_s3dis("s3dis", tmp_path).notes
    assert note == "Area_2 has 39 rooms instead of 40; Area_3 has 0 rooms instead of 23"


def test_files_beside_rooms_and_other_folders_are_no_rooms(tmp_path):
    write_s3dis(tmp_path, ROOMS_HERE, scanned=True)
    (tmp_path / "Area_1/my notes").mkdir()
    listing = list_s3dis("s3dis", tmp_path)
    assert len(listing.shapes) == len(ROOMS_HERE)
    assert "1 folders are not rooms, such as Area_1/my notes: ignored" in listing.notes


def test_a_room_of_another_type_has_no_class(tmp_path):
    listing = list_s3dis("s3dis", write_s3dis(tmp_path, ["Area_1/kitchen_1"]))
    assert listing.shapes[0].class_name is None


def test_the_folder_above_is_accepted_and_two_versions_are_told(tmp_path):
    write_s3dis(tmp_path / SCANNED, ROOMS_HERE[:1], scanned=True)
    [shape] = list_s3dis("s3dis", tmp_path).shapes
    assert shape.source == f"{SCANNED}/Area_1/conferenceRoom_1"
    assert shape.id == "Area_1/conferenceRoom_1"
    write_s3dis(tmp_path / ALIGNED, ROOMS_HERE[:1])
    listing = list_s3dis("s3dis", tmp_path)
    assert listing.shapes == (shape,)
    assert any(ALIGNED in note and "not read" in note for note in listing.notes)


def test_another_folder_is_refused_with_how_to_obtain_the_data(tmp_path):
    (tmp_path / "Area_one").mkdir()
    with pytest.raises(UsageError, match="Area_1") as raised:
        list_s3dis("s3dis", tmp_path)
    assert "Aligned_Version.zip" in raised.value.fix
    (tmp_path / "Area_1").mkdir()
    with pytest.raises(UsageError, match="rooms"):
        list_s3dis("s3dis", tmp_path)


def test_classes_have_the_order_of_pointnet_and_a_color_each():
    names = "ceiling floor wall beam column window door table chair sofa bookcase board clutter"
    assert LABELS.semantic == tuple(names.split())
    assert len(set(LABELS.palette)) == 13
