"""Text files of clouds as people and tools write them: columns, headers, separators, NaN."""

import csv
import re

import numpy as np
import pytest

from pointcmt.errors import Reason
from tests.render.load.pcd_files import packed, write_pcd
from tests.render.load.random_cloud import (
    BYTES,
    INTENSITY,
    LABELS,
    NORMALS,
    POINTS,
    RNG,
    UNIT,
    M,
    assert_cloud,
    lines,
    load,
    refusal,
    written,
)

# Columns without names

RULES = {  # columns → (normals, colors, what the note says of them)
    "3": ((POINTS,), None, None, ""),
    "4 intensity": ((POINTS, INTENSITY), None, None, "x y z, intensity (not used)"),
    "4 label": ((POINTS, LABELS), None, None, "x y z, label (not used)"),
    "5": ((POINTS, INTENSITY, LABELS), None, None, "intensity (not used), label (not used)"),
    "6 normals": ((POINTS, NORMALS), NORMALS, None, "x y z, normal"),
    "6 colors to 255": ((POINTS, BYTES), None, UNIT, "x y z, r g b"),
    "6 colors to 1": ((POINTS, UNIT), None, UNIT, "x y z, r g b"),
    "6 neither": ((POINTS, 1000 * POINTS), None, None, "(not used)"),
    "7 label": ((POINTS, BYTES, LABELS), None, UNIT, "x y z, r g b, label (not used)"),
    "7 normals": ((POINTS, NORMALS, LABELS), NORMALS, None, "x y z, normal, label (not used)"),
    "7 intensity": (
        (POINTS, INTENSITY, BYTES), None, UNIT, "x y z, intensity (not used), r g b",
    ),
    "9 normals last": ((POINTS, BYTES, NORMALS), NORMALS, UNIT, "x y z, r g b, normal"),
    "9 colors last": ((POINTS, NORMALS, UNIT), NORMALS, UNIT, "x y z, normal, r g b"),
    "10": ((POINTS, NORMALS, BYTES, LABELS), NORMALS, UNIT, "normal, r g b, label (not used)"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".xyz", ".txt", ".asc", ".csv", ".npy", ".npz"])
@pytest.mark.parametrize("rule", RULES)
def test_columns_without_names_are_understood_by_their_number_and_values(tmp_path, rule, suffix):
    columns, normals, colors, says = RULES[rule]
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, np.column_stack(columns))
    elif suffix == ".npz":
        np.savez(path, points=np.column_stack(columns))
    else:
        path.write_text(lines(*columns, by="," if suffix == ".csv" else " "))
    cloud = load(path)
    assert_cloud(cloud, normals, colors)
    if says:
        (note,) = cloud.notes
        assert note.startswith("columns have no names and were taken as x y z, ")
        assert says in note
    else:
        assert cloud.notes == ()


def test_a_suffix_may_say_what_the_columns_are(tmp_path):
    axes = np.tile(np.eye(3), (M // 3, 1))  # pure colors and normals along the axes alike
    for suffix, normals, colors in ((".xyzrgb", None, axes), (".xyzn", axes, None)):
        cloud = load(written(tmp_path / f"a{suffix}", lines(POINTS, axes)))
        assert_cloud(cloud, normals, colors)
    scan = load(written(tmp_path / "a.pts", f"{M}\n" + lines(POINTS, LABELS, BYTES)))
    assert_cloud(scan, None, UNIT)
    assert scan.notes == ("intensities ignored",)
    colored = load(written(tmp_path / "b.pts", lines(POINTS, BYTES)))
    assert_cloud(colored, None, UNIT)


def test_values_of_a_few_broken_rows_do_not_change_what_the_columns_are(tmp_path):
    normals = NORMALS.copy()
    normals[3], normals[5] = 0, np.nan
    cloud = load(written(tmp_path / "a.xyz", lines(POINTS, normals)))
    normals[5] = 0
    assert_cloud(cloud, normals)
    assert cloud.notes[1:] == ("1 normals are not finite: estimated instead",)


# Names

NAMED = ["z", "Label", "x", "NX", "ny", "nz", "R", "g", "b", "y"]
MIXED = [POINTS[:, 2:], LABELS, POINTS[:, :1], NORMALS, BYTES, POINTS[:, 1:2]]


@pytest.mark.parametrize("by", [",", ";", " ", "\t", ", "])
@pytest.mark.parametrize("before", ["", "# ", "//", "# scanned by us\n//"])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".xyz"])
def test_names_in_a_header_win_over_the_order_of_columns(tmp_path, by, before, suffix):
    text = before + by.join(NAMED) + "\n" + lines(*MIXED, by=by)
    cloud = load(written(tmp_path / f"a{suffix}", text))
    assert_cloud(cloud, NORMALS, UNIT)
    assert cloud.notes == ("columns not used: Label",)


def test_a_table_that_pandas_writes_is_read_exactly(tmp_path):
    import pandas as pd

    names = ["x", "y", "z", "red", "green", "blue"]
    frame = pd.DataFrame(np.hstack([POINTS, BYTES]), columns=names)
    frame["kind"] = "a chair"
    frame = frame.astype(dict.fromkeys(names[3:], int))
    frame[["kind", *names]].to_csv(tmp_path / "a.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    frame = frame.drop(columns="kind")
    frame.loc[4, "y"] = np.nan  # an empty cell
    frame.to_csv(tmp_path / "b.csv")  # with an index
    frame.to_csv(tmp_path / "c.csv", sep=";", decimal=",", index=False)
    kept = np.delete(np.arange(M), 4)
    for name in ("b.csv", "c.csv"):
        cloud = load(tmp_path / name)
        assert_cloud(cloud, None, UNIT[kept], POINTS[kept])
        assert "1 of 60 points are not finite" in cloud.notes[-1]
    assert load(tmp_path / "c.csv").notes[0] == "commas between digits taken as decimal points"
    cloud = load(tmp_path / "a.csv")  # words are fine in a column that nothing needs
    assert_cloud(cloud, None, UNIT)
    assert cloud.notes == ("columns not used: kind",)


def test_cells_of_csv_files_may_be_empty_or_hold_blanks(tmp_path):
    rows = POINTS.astype(object)
    stamp = np.full((M, 1), "2024-01-01 00:00:00", object)
    whole = ["time,x,y,z", *(",".join(map(str, row)) for row in np.hstack([stamp, rows]).tolist())]
    assert_cloud(load(written(tmp_path / "a.csv", "\n".join(whole))))
    prose = [line.replace("2024-01-01", "a long text about this point at") for line in whole]
    assert_cloud(load(written(tmp_path / "a.csv", "\n".join(prose))))
    closed = [line + "," for line in whole]
    for header in (whole[0], closed[0]):  # every line of points ends with a separator
        text = "\r\n".join([header, *closed[1:]])
        assert_cloud(load(written(tmp_path / "b.csv", text)))
    for line, kept in ((1, slice(1, None)), (M, slice(0, M - 1))):  # the last cell of one is empty
        lines_ = [*whole]
        lines_[line] = lines_[line].rpartition(",")[0] + ","
        cloud = load(written(tmp_path / "c.csv", "\n".join(lines_)))
        np.testing.assert_array_equal(cloud.points, POINTS[kept])
    bare = [line.partition(",")[2] for line in whole[1:]]
    assert_cloud(load(written(tmp_path / "d.csv", ",\n".join(bare) + ",\n")))


def test_a_word_in_a_column_that_is_needed_is_refused(tmp_path):
    refused = refusal(written(tmp_path / "a.csv", "x,y,z\n1,2,3\n4,five,6\n7,8,9\n"))
    assert (refused.reason, refused.detail) == (
        Reason.BAD_SYNTAX,
        "line 3: 'five' is not a number",
    )


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("//X Y Z\n", ()),
        (f"//X Y Z\n{M}\n", ()),  # as CloudCompare writes it
        (f"{M}\n", ()),
        (f"# {M} points\n\n  \n", ()),
        ("a b c\n", ("names of columns not understood: a, b, c",)),
        ("A chair, scanned on 1 May\n", ("line before the points ignored: A chair, scanned on",)),
        ('"x","y","z"\n', ()),
        ("\ufeffX;Y;Z\r\n", ()),
        ("x [m], y [m], z [m]\n", ()),
        ("x/y/z\n", ()),
        ("Points:0,Points:1,Points:2\n", ()),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".asc", ".xyz", ".csv", ".pts"])
def test_lines_before_the_points(tmp_path, text, notes, suffix):
    cloud = load(written(tmp_path / f"a{suffix}", text + lines(POINTS)))
    assert_cloud(cloud)
    assert len(cloud.notes) == len(notes)
    assert all(found.startswith(note) for found, note in zip(cloud.notes, notes, strict=True))


@pytest.mark.parametrize("by", [" ", ",", ";", "/", "\t", ", ", " ; "])
def test_separators(tmp_path, by):
    assert_cloud(load(written(tmp_path / "a.txt", lines(POINTS, by=by))))
    trailing = lines(POINTS, by=by).replace("\n", f"{by}\n")
    assert_cloud(load(written(tmp_path / "b.txt", trailing)))


def test_comments_anywhere(tmp_path):
    text = lines(POINTS).splitlines()
    text[3] += " # here"
    text[4] += " // there"
    text[5:5] = ["# a line", "// another", "", "   "]
    for end in ("\n", "\r\n", "\r"):
        assert_cloud(load(written(tmp_path / "a.xyz", end.join(text))))
    utf16 = "\n".join(["x;y;z", *text]).encode("utf-16")
    assert_cloud(load(written(tmp_path / "b.txt", utf16)))


@pytest.mark.parametrize("by", [";", " ", "\t", "; "])
def test_decimal_commas(tmp_path, by):
    text = lines(POINTS, by=by).replace(".", ",")
    cloud = load(written(tmp_path / "a.txt", text))
    assert_cloud(cloud)
    assert cloud.notes == ("commas between digits taken as decimal points",)


@pytest.mark.parametrize(
    ("name", "content", "reason", "says"),
    [
        ("a.csv", "x,y\n1,2\n", Reason.BAD_SYNTAX, "2 numbers per point"),
        ("a.csv", "x,y,z\n", Reason.EMPTY_FILE, "no points"),
        ("a.csv", "x,y,z\n1,2,3\n4,5\n", Reason.BAD_SYNTAX, "line 3: has 2 numbers"),
        ("a.csv", "x,y,z\n,,\n,1,2\n", Reason.NOT_FINITE, "none of the 2 points is finite"),
        ("a.csv", b"x,y,z\0\n1,2,3\n", Reason.UNKNOWN_FORMAT, "binary data, not CSV text"),
        ("a.csv", "<html><body>", Reason.HTML_PAGE, ""),
        ("a.txt", "x y z\n1 2 3\n4 5", Reason.TRUNCATED, "line 3"),
        ("a.txt", "3\n1 2 3\n", Reason.TRUNCATED, "declares 3 points, but there are 1"),
        ("a.txt", "words\n" * 200 + "1 2 3\n", Reason.BAD_SYNTAX, "'words' is not a number"),
        ("a.txt", "1 2 3 4 5 x\n" * 3, Reason.BAD_SYNTAX, "line 1: 'x' is not a number"),
        ("a.txt", "x y z r g b\n0 0 0 -1 0 0\n1 1 1 2 3 4\n", Reason.BAD_SYNTAX, "colors range"),
        ("a.txt", "nan nan nan\n" * 9, Reason.NOT_FINITE, "none of the 9 points is finite"),
        ("a.asc", "", Reason.EMPTY_FILE, ""),
        ("a.xyzrgb", "0 0 0 300 0 0\n1 1 1 0 0 0\n", Reason.BAD_SYNTAX, "from 0 to 300"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_text_file_is_named(tmp_path, name, content, reason, says):
    refused = refusal(written(tmp_path / name, content))
    assert refused.reason is reason
    assert says in refused.detail


# NaN and outliers


def test_rows_that_are_not_finite_are_left_out_and_counted(tmp_path):
    points = POINTS.copy()
    points[5, 1], points[9, 0], points[30] = np.nan, -np.inf, np.nan
    kept = np.delete(np.arange(M), [5, 9, 30])
    said = "3 of 60 points are not finite (NaN or infinite) and were left out, first 5 (from 0)"
    np.save(tmp_path / "a.npy", np.hstack([points, BYTES]))
    np.savez(tmp_path / "b.npz", xyz=points, rgb=BYTES.astype(np.uint8))
    written(tmp_path / "c.txt", lines(points, BYTES))
    write_pcd(tmp_path / "d.pcd", {"x y z": points.astype("<f4"), "rgb": packed(BYTES)}, "binary")
    table = np.hstack([points, BYTES])
    header = "ply\nformat ascii 1.0\nelement vertex 60\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    rows = "".join("{!r} {!r} {!r} {:.0f} {:.0f} {:.0f}\n".format(*r) for r in table.tolist())
    written(tmp_path / "e.ply", f"{header}end_header\n{rows}")
    for path in sorted(tmp_path.iterdir()):
        cloud = load(path)
        assert_cloud(cloud, None, UNIT[kept], POINTS[kept])
        assert said in cloud.notes, path


def test_outliers_are_noted_and_kept(tmp_path):
    sphere = np.vstack([NORMALS] * 20)
    spread = sphere * RNG.uniform(0.5, 3, (len(sphere), 1))
    assert load(written(tmp_path / "spread.xyz", lines(spread))).notes == ()
    for far, count in ((12, 1), (500, 1), (1e5, 20), (1e300, 1)):
        points = np.vstack([sphere, far * NORMALS[:count]])
        cloud = load(written(tmp_path / "a.xyz", lines(points)))
        np.testing.assert_array_equal(cloud.points, points)
        (note,) = cloud.notes
        assert note.startswith(f"outliers: {count} of {len(points)} points lie more than 5 times")
        times = float(re.search(r"point \d+, (\S+) times\)", note)[1])
        assert 0.5 * far < times < 2 * far
    few = np.vstack([NORMALS[:9], [[50, 0, 0]]])
    assert "outliers: 1 of 10" in load(written(tmp_path / "few.xyz", lines(few))).notes[0]
    same = np.vstack([np.zeros((99, 3)), [[1, 0, 0]]])
    assert load(written(tmp_path / "same.xyz", lines(same))).notes == ()
