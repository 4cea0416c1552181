"""Broken lines of S3DIS: lost bits are repaired and noted, anything else names file and line."""

import numpy as np
import pytest

from pointcmt.datasets.sources.s3dis import list_s3dis
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.s3dis.annotations import parse_annotation
from pointcmt.render.load.scenes.s3dis.rooms import load_s3dis
from tests.fake_s3dis import write_s3dis

GOOD = b"1.5 -2 3e-1 0 128 255\n"
# The broken lines of the release: three are in annotations, two in the files of whole rooms.
RELEASED = [
    (b"22.641 -10.3 2.6 185\x00187 182", [22.641, -10.3, 2.6, 185, 187, 182]),
    (b"19.302 -9.1\x160 1.785 146 137 106", [19.302, -9.16, 1.785, 146, 137, 106]),
    (b"-1.2 3.4 2.0 103.0\x100000 1.0 2.0", [-1.2, 3.4, 2, 103, 1, 2]),
    (b"-1.2 3.4 2.0 56.00\x10000 57.0 58.0", [-1.2, 3.4, 2, 56, 57, 58]),
    (b"-1.2 3.4 2.0 2\x111.000000 22.0 23.0", [-1.2, 3.4, 2, 211, 22, 23]),
]


def refused(data):
    with pytest.raises(ShapeRefused) as raised:
        parse_annotation(data, "wall_1.txt", [])
    return raised.value


@pytest.mark.parametrize(("line", "numbers"), RELEASED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lost_bits_of_the_release_are_repaired_and_noted(line, numbers, end):
    notes = []
    table = parse_annotation(GOOD + end + GOOD + line + end + GOOD, "wall_1.txt", notes)
    good = [1.5, -2, 0.3, 0, 128, 255]
    assert table.tolist() == [good, good, numbers, good]
    [note] = notes
    assert note.startswith("wall_1.txt, line 4: ")
    before, after = note.partition(": ")[2].split(" was read as ")
    assert before == repr(line)[1:]
    assert after == repr(" ".join(after.strip("'").split()))


def test_two_lost_bits_in_a_line_and_one_at_the_end_of_the_file():
    notes = []
    line = b"1.\x15 2\x003 4 5 \x16"
    assert parse_annotation(GOOD + line, "wall_1.txt", notes)[1].tolist() == [1.5, 2, 3, 4, 5, 6]
    assert len(notes) == 1


@pytest.mark.parametrize("line", [b"\r1.5 2 3 4 5 6", b"1 \r2 3 4 5 6"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n"])
def test_a_minus_that_became_a_line_end_is_repaired(line, end):
    """Otherwise a number at the beginning of a line would lose its sign without an error."""
    notes = []
    table = parse_annotation(GOOD + line + end + GOOD, "wall_1.txt", notes)
    assert table[1].min() < 0
    assert np.abs(table[1]).tolist() == [1.5 if line[0] == 13 else 1, 2, 3, 4, 5, 6]
    assert len(notes) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"19.302 -9.1 0 1.785 146 137 106",  # what superpoint_graph's S3DIS_fix.diff writes
        b"1 2 3 4 5",
        b"1 2 3 4 5 x",
        b"1 2 3 4 5 0x10",
        b"1 2 3 4 5 nan",
        b"1 2 inf 4 5 6",
        b"1 2 3 4 5 256",
        b"1 2 3 -1 5 6",
        b"1,2,3,4,5,6",
        b"1 2 3 4 5 6 # six",
        b"# 1 2 3 4 5 6",
        b"1 2 3 4 5 \\",
        b"1 2 3 4 5\x006\x007",
        b"1 2 3 4 5\x01 6",
        b"\x00\x00\x00",
        b"1 2 3 4 5 6\xff",
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_any_other_line_is_refused_with_its_file_and_number(line, before):
    problem = refused(GOOD * before + b"\r\n" + line + b"\n" + GOOD)
    assert problem.reason in (Reason.BAD_SYNTAX, Reason.TRUNCATED)
    assert problem.detail.startswith("wall_1.txt, line ")
    number = int(problem.detail.split("line ")[1].split(":")[0])
    assert number == before + 2


def test_a_file_cut_in_a_line_is_truncated():
    assert refused(GOOD + b"1 2 3 4").reason == Reason.TRUNCATED


def test_lost_blocks_are_not_repaired():
    """A block of zeros would become blanks, and the points in it would vanish."""
    problem = refused(GOOD + b"\0" * 4096 + b"\n" + GOOD)
    assert problem.reason == Reason.BAD_SYNTAX
    assert "line 2: 4096 broken bytes" in problem.detail


def test_numbers_are_read_exactly():
    rng = np.random.default_rng(0)
    table = np.hstack([rng.normal(0, 20, (500, 3)), rng.integers(0, 256, (500, 3))])
    text = "\n".join(" ".join(map(repr, row)) for row in table.tolist())
    assert np.array_equal(parse_annotation(text.encode(), "wall_1.txt", []), table)


def test_one_broken_room_does_not_harm_the_others(tmp_path):
    write_s3dis(tmp_path, ["Area_1/office_1", "Area_1/office_2", "Area_1/office_3"])
    path = tmp_path / "Area_1/office_2/Annotations/chair_2.txt"
    path.write_bytes(path.read_bytes() + b"1 2 3\n")
    one, two, three = list_s3dis("s3dis", tmp_path).shapes
    assert len(load_s3dis(one, tmp_path).points) == len(load_s3dis(three, tmp_path).points) == 850
    with pytest.raises(ShapeRefused, match=r"chair_2.txt, line 61: has 3 numbers"):
        load_s3dis(two, tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_FILE),
        (b"\0" * 5000, Reason.EMPTY_FILE),
        (b"version https://git-lfs.github.com/spec/v1\n", Reason.LFS_POINTER),
        (b"<!DOCTYPE html>\n", Reason.HTML_PAGE),
        (b"PK\3\4abc", Reason.UNKNOWN_FORMAT),
    ],
)
def test_files_that_are_something_else_have_a_reason(data, reason, tmp_path):
    write_s3dis(tmp_path, ["Area_1/office_1"])
    (tmp_path / "Area_1/office_1/Annotations/chair_2.txt").write_bytes(data)
    [record] = list_s3dis("s3dis", tmp_path).shapes
    with pytest.raises(ShapeRefused, match=r"chair_2\.txt") as raised:
        load_s3dis(record, tmp_path)
    assert raised.value.reason == reason
