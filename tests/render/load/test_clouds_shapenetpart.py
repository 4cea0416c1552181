"""Clouds of ShapeNetPart with their parts, in both of its text layouts."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.clouds import CloudLoader
from tests.clouds import SHAPES, text_of, write_shapenetpart_pts
from tests.render.load.cloud_files import load, refusal, written

CHAIR = SHAPES["03001627", "ccc", "train"]


def test_parts_are_numbered_within_their_class(tmp_path):
    points, normals, parts = CHAIR
    cloud = load(written(tmp_path / "a.txt", text_of(*CHAIR)), "shapenetpart")
    np.testing.assert_array_equal(cloud.points, points)
    np.testing.assert_array_equal(cloud.normals, normals)
    np.testing.assert_array_equal(cloud.part, parts - 12)  # a chair's parts are 12 to 15
    np.testing.assert_array_equal(cloud.part, np.floor(points[:, 0]))


@pytest.mark.parametrize("wrong", [11, 16, -1, 12.5, 255])
def test_parts_of_another_class_are_refused(tmp_path, wrong):
    points, normals, parts = CHAIR
    parts = parts.astype(float)
    parts[7] = wrong
    path = written(tmp_path / "a.txt", text_of(points, normals, parts))
    refused = refusal(path, "shapenetpart")
    assert refused.reason is Reason.BAD_INDEX
    assert refused.detail == (
        f"point 7 (from 0) has the part label {wrong:g}; those of chair are 12 to 15"
    )
    assert refusal(path, "shapenetpart", class_name=None).reason is Reason.BAD_INDEX


def test_shapes_without_parts_are_refused(tmp_path):
    path = written(tmp_path / "a.txt", text_of(*CHAIR[:2]))
    refused = refusal(path, "shapenetpart")
    assert refused.reason is Reason.BAD_SYNTAX
    assert "supported: 7: points, normals, part" in refused.detail


# ShapeNetPart's older text layout

PTS = ShapeRecord("03001627/ccc", "chair", "train", "03001627/points/ccc.pts")


@pytest.fixture
def older(tmp_path):
    """One chair, and the files of its points and of its parts."""
    root = write_shapenetpart_pts(tmp_path / "root", {("03001627", "ccc", "train"): CHAIR})
    synset = root / "03001627"
    return root, synset / "points/ccc.pts", synset / "points_label/ccc.seg"


def replace_file(path, content):
    """content: None for no file."""
    if content is None:
        path.unlink()
    else:
        written(path, content)


def refused_older(root, record=PTS):
    with pytest.raises(ShapeRefused) as refused:
        CloudLoader("shapenetpart", root).load(record)
    return refused.value


def test_parts_in_a_separate_file_are_numbered_within_their_class(older):
    points, _, parts = CHAIR
    cloud, _ = CloudLoader("shapenetpart", older[0]).load(PTS)
    np.testing.assert_array_equal(cloud.points, points)
    assert not cloud.normals.any()
    np.testing.assert_array_equal(cloud.part, parts - 12)  # a chair's parts are 12 to 15
    assert older[2].read_text().split() == [str(part - 11) for part in parts.tolist()]


def test_the_digest_covers_points_and_parts(older):
    def digest():
        return CloudLoader("shapenetpart", older[0]).load(PTS)[1]

    digests = [digest()]
    for path in older[1:]:
        content = path.read_bytes()
        lines = content.splitlines(keepends=True)
        path.write_bytes(b"".join([lines[4], *lines[1:4], lines[0], *lines[5:]]) + b"\n")
        digests.append(digest())
        path.write_bytes(content)
    assert digest() == digests[0]
    assert len(set(digests)) == 3


CHAIR_SEG = [str(part - 11) for part in CHAIR[2].tolist()]


def seg(at, word):
    """The chair's parts with another value for one point."""
    return "".join(f"{w}\n" for w in [*CHAIR_SEG[:at], word, *CHAIR_SEG[at + 1 :]])


OF_CHAIRS = "those of chair are 1 to 4"


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        (None, Reason.MISSING_FILE, "file ccc.seg not found"),
        ("", Reason.EMPTY_FILE, "0 bytes"),
        ("# nothing\n", Reason.EMPTY_FILE, "no"),
        (seg(0, ""), Reason.COUNT_MISMATCH, "120 points, but 119 part labels"),
        (seg(0, "1\n1"), Reason.COUNT_MISMATCH, "120 points, but 121 part labels"),
        (seg(7, "0"), Reason.BAD_INDEX, f"point 7 (from 0) has the part label 0; {OF_CHAIRS}"),
        (seg(7, "5"), Reason.BAD_INDEX, f"point 7 (from 0) has the part label 5; {OF_CHAIRS}"),
        (seg(7, "-1"), Reason.BAD_INDEX, "part label -1"),
        (seg(7, "257"), Reason.BAD_INDEX, "part label 257"),
        (seg(7, "1.5"), Reason.BAD_INDEX, "part label 1.5"),
        (seg(7, "nan"), Reason.BAD_INDEX, "part label nan"),
        (seg(7, "inf"), Reason.BAD_INDEX, "part label inf"),
        (seg(7, "wing"), Reason.BAD_SYNTAX, "line 8: 'wing' is not a number"),
        (seg(7, "1 2"), Reason.BAD_SYNTAX, "line 8: has 2 numbers"),
        (text_of(CHAIR[0]), Reason.BAD_SYNTAX, "3 numbers per line, not one"),
        (b"1\n\0\n", Reason.UNKNOWN_FORMAT, "binary data, not SEG text"),
        ("<html>", Reason.HTML_PAGE, "HTML page"),
    ],
)
def test_broken_files_of_parts_are_refused_with_a_reason(older, content, reason, says):
    replace_file(older[2], content)
    refused = refused_older(older[0])
    assert refused.reason is reason
    assert refused.detail.startswith("its part labels: ")
    assert says in refused.detail


@pytest.mark.parametrize(
    ("content", "reason", "says"),
    [
        (None, Reason.MISSING_FILE, "file ccc.pts not found"),
        ("", Reason.EMPTY_FILE, ""),
        (f"120\n{text_of(CHAIR[0])}", Reason.BAD_SYNTAX, "line 2: has 3 numbers"),
        (text_of(*CHAIR), Reason.BAD_SYNTAX, "7 numbers per point; supported: 3: points"),
        ("0 0 0\n" + text_of(CHAIR[0]), Reason.COUNT_MISMATCH, "121 points, but 120 part labels"),
        (text_of(CHAIR[0]).strip().rpartition(" ")[0], Reason.TRUNCATED, "has 2 numbers"),
    ],
)
def test_broken_files_of_points_are_refused_with_a_reason(older, content, reason, says):
    replace_file(older[1], content)
    refused = refused_older(older[0])
    assert refused.reason is reason
    assert says in refused.detail


def test_parts_of_an_unknown_class_are_refused(older):
    refused = refused_older(older[0], replace(PTS, class_name=None))
    assert refused.reason is Reason.BAD_INDEX


def test_links_to_parts_outside_of_the_data_set_are_refused(older, tmp_path):
    root, _, path = older
    good = CloudLoader("shapenetpart", root).load(PTS)[1]
    outside = path.rename(tmp_path / "secret.seg")
    path.symlink_to(outside)
    refused = refused_older(root)
    assert refused.reason is Reason.UNREADABLE_FILE
    assert "ccc.seg is outside the dataset" in refused.detail
    path.unlink()
    path.symlink_to(path)  # a ring
    assert refused_older(root).reason is Reason.UNREADABLE_FILE
    path.unlink()
    os.mkfifo(path)
    assert refused_older(root).reason is Reason.UNREADABLE_FILE
    path.unlink()
    outside.rename(root / "kept.seg")
    path.symlink_to("../../kept.seg")  # within it
    (tmp_path / "linked").symlink_to(root)  # and a link to it as a whole
    assert CloudLoader("shapenetpart", tmp_path / "linked").load(PTS)[1] == good
    written(tmp_path / "root/a.pts", text_of(CHAIR[0]))  # a plan may name any source
    (tmp_path / "points_label").mkdir()
    shutil.copy(root / "kept.seg", tmp_path / "points_label/a.seg")
    refused = refused_older(root, replace(PTS, source="a.pts"))
    assert (refused.reason, "a.seg" in refused.detail) == (Reason.MISSING_FILE, True)
