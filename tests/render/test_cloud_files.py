"""Clouds as people and tools write them: columns, headers, separators, PCD, NPZ, NaN, outliers."""

import csv
import io
import os
import re
import struct
import zipfile

import numpy as np
import open3d as o3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.readers import pcd as pcd_reader

RNG = np.random.default_rng(7)
M = 60
POINTS = RNG.normal(size=(M, 3)).astype(np.float32).astype(np.float64)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
BYTES = RNG.integers(0, 256, (M, 3)).astype(np.float64)
UNIT = BYTES / 255
LABELS = RNG.integers(0, 5, (M, 1)).astype(np.float64)
INTENSITY = RNG.random((M, 1))


def load(path, dataset="clouds"):
    record = ShapeRecord("x", "chair", "train", path.name)
    return CloudLoader(dataset, path.parent).load(record)[0]


def refusal(path):
    with pytest.raises(ShapeRefused) as refused:
        load(path)
    return refused.value


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*columns, by=" "):
    table = np.column_stack(columns)
    return "".join(by.join(map(repr, row)) + "\n" for row in table.tolist())


def assert_cloud(cloud, normals=None, colors=None, points=POINTS):
    """The cloud has exactly these arrays, and no others."""
    np.testing.assert_array_equal(cloud.points, points)
    expected = np.zeros_like(points) if normals is None else normals
    np.testing.assert_array_equal(cloud.normals, expected)
    if colors is None:
        assert cloud.colors is None
    else:
        np.testing.assert_allclose(cloud.colors, colors, atol=1e-7)
    assert cloud.part is None


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


# PCD


def packed(colors):
    """Colors from 0 to 255 in the bits of float32, as the Point Cloud Library writes them."""
    red, green, blue = colors.astype(np.uint32).T
    return (red << 16 | green << 8 | blue).view(np.float32)[:, None]


def lzf(data):
    """LZF data: runs of literals, and copies where three bytes repeat (greedy, by a table)."""
    out, literals, seen, at = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literals), 32):
            run = literals[start : start + 32]
            out.extend([len(run) - 1, *run])
        literals.clear()

    while at < len(data):
        key, length = data[at : at + 3], 0
        back = at - seen[key] - 1 if key in seen else 1 << 13
        seen[key] = at
        if len(key) == 3 and back < 1 << 13:
            while length < 264 and at + length < len(data):
                if data[at + length] != data[at + length - back - 1]:
                    break
                length += 1
        if length < 3:
            literals.append(data[at])
            at += 1
            continue
        flush()
        short = length - 2
        if short < 7:
            out.extend([short << 5 | back >> 8, back & 255])
        else:
            out.extend([7 << 5 | back >> 8, short - 7, back & 255])
        at += length
    flush()
    return bytes(out)


def write_pcd(path, fields, encoding, **changes):
    """fields: names → array [M,n]. changes: lines of the header by keyword, None = without it."""
    arrays = [a[:, i : i + 1] for names, a in fields.items() for i in range(len(names.split()))]
    names = " ".join(fields).split()
    if any(a.shape[1] > 1 and len(n.split()) == 1 for n, a in fields.items()):
        arrays, names = list(fields.values()), list(fields)
    kinds = {"f": "F", "i": "I", "u": "U"}
    header = {
        "VERSION": "0.7",
        "FIELDS": " ".join(names),
        "SIZE": " ".join(str(a.dtype.itemsize) for a in arrays),
        "TYPE": " ".join(kinds[a.dtype.kind] for a in arrays),
        "COUNT": " ".join(str(a.shape[1]) for a in arrays),
        "WIDTH": len(arrays[0]),
        "HEIGHT": 1,
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": len(arrays[0]),
        "DATA": encoding,
        **changes,
    }
    text = "# .PCD v0.7\n" + "".join(f"{k} {v}\n" for k, v in header.items() if v is not None)
    if encoding == "ascii":
        rows = zip(*[a.tolist() for a in arrays], strict=True)
        body = "".join(" ".join(repr(v) for c in row for v in c) + "\n" for row in rows).encode()
    elif encoding == "binary":
        body = b"".join(b"".join(a[i].tobytes() for a in arrays) for i in range(len(arrays[0])))
    else:
        plain = b"".join(a.tobytes() for a in arrays)
        squeezed = lzf(plain)
        body = struct.pack("<II", len(squeezed), len(plain)) + squeezed
    path.write_bytes(text.encode() + body)
    return path


ENCODINGS = ("ascii", "binary", "binary_compressed")
FIELDS = {
    "x y z": POINTS.astype("<f4"),
    "_": np.zeros((M, 1), "<u1"),
    "normal_x normal_y normal_z": NORMALS.astype("<f4"),
    "rgb": packed(BYTES),
    "label": LABELS.astype("<u4"),
}


@pytest.mark.parametrize("options", [{"write_ascii": True}, {}, {"compressed": True}])
@pytest.mark.parametrize("api", ["legacy", "tensor"])
def test_pcd_files_of_open3d_are_read_exactly(tmp_path, options, api):
    """Open3D's own writers, which compress by liblzf."""
    path = str(tmp_path / "a.pcd")
    legacy = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(POINTS))
    legacy.normals = o3d.utility.Vector3dVector(NORMALS)
    legacy.colors = o3d.utility.Vector3dVector(UNIT)
    if api == "legacy":
        assert o3d.io.write_point_cloud(path, legacy, **options)
    else:
        cloud = o3d.t.geometry.PointCloud.from_legacy(legacy)
        assert o3d.t.io.write_point_cloud(path, cloud, **options)
    cloud = load(tmp_path / "a.pcd")
    exact = 0 if "write_ascii" not in options else 1e-6
    np.testing.assert_allclose(cloud.points, POINTS, atol=exact)
    np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)
    np.testing.assert_array_equal(np.rint(cloud.colors * 255), BYTES)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_pcd(tmp_path, encoding):
    cloud = load(write_pcd(tmp_path / "a.pcd", FIELDS, encoding))
    assert_cloud(cloud, NORMALS.astype(np.float32), UNIT)
    assert cloud.notes == ("columns not used: label",)
    doubles = {"z y x": POINTS[:, ::-1].copy(), "intensity": INTENSITY}
    changes = {"VIEWPOINT": "1 0 0 1 0 0 0", "WIDTH": 6, "HEIGHT": 10, "COUNT": None}
    cloud = load(write_pcd(tmp_path / "b.pcd", doubles, encoding, **changes))
    assert_cloud(cloud)
    assert cloud.notes == (
        "the viewpoint of the sensor is not applied",
        "columns not used: intensity",
    )
    whole = {"x": np.arange(-M, M, 2, "<i2")[:, None], "y": np.full((M, 1), 200, "<u1")}
    whole["z"] = np.arange(M, dtype="<i8")[:, None]
    cloud = load(write_pcd(tmp_path / "c.pcd", whole, encoding))
    assert cloud.points.tolist() == [[2 * i - M, 200, i] for i in range(M)]
    histogram = RNG.random((M, 33)).astype("<f4")  # a descriptor, as FPFH
    xyz = {axis: POINTS[:, i : i + 1] for i, axis in enumerate("xyz")}
    cloud = load(write_pcd(tmp_path / "d.pcd", {"fpfh": histogram, **xyz}, encoding))
    assert_cloud(cloud)
    assert cloud.notes == ("fields not used: fpfh",)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_packed_colors_of_any_type(tmp_path, encoding):
    bits = packed(BYTES).view("<u4") | np.uint32(255 << 24)  # opaque: a NaN as float
    for name, colors in (("rgba", bits), ("rgb", bits.view("<i4"))):
        fields = {"x y z": POINTS.astype("<f4"), name: colors}
        assert_cloud(load(write_pcd(tmp_path / f"{name}.pcd", fields, encoding)), None, UNIT)


@pytest.mark.parametrize(
    ("encoding", "changes", "reason", "says"),
    [
        ("ascii", {"DATA": "text"}, Reason.BAD_SYNTAX, "DATA text is unknown"),
        ("ascii", {"DATA": None}, Reason.TRUNCATED, "within its header"),
        ("ascii", {"POINTS": 61}, Reason.COUNT_MISMATCH, "61 points, but WIDTH × HEIGHT is 60"),
        (
            "ascii",
            {"POINTS": 59, "WIDTH": 59},
            Reason.COUNT_MISMATCH,
            "59 points, but there are 60",
        ),
        ("ascii", {"POINTS": 61, "WIDTH": 61}, Reason.TRUNCATED, "61 points, but there are 60"),
        ("ascii", {"POINTS": 0, "WIDTH": 0}, Reason.EMPTY_FILE, "0 points"),
        ("ascii", {"POINTS": -1, "WIDTH": -1}, Reason.BAD_SYNTAX, "no number of points"),
        ("ascii", {"POINTS": "x"}, Reason.BAD_SYNTAX, "invalid header"),
        ("ascii", {"SIZE": "4 4"}, Reason.BAD_SYNTAX, "different lengths"),
        ("ascii", {"SIZE": "4 4 3"}, Reason.BAD_SYNTAX, "type F, size 3"),
        ("ascii", {"TYPE": "F F X"}, Reason.BAD_SYNTAX, "type X"),
        ("ascii", {"COUNT": "1 1 0"}, Reason.BAD_SYNTAX, "count 0"),
        ("ascii", {"COUNT": "1 1 99999999999"}, Reason.BAD_SYNTAX, "count 99999999999"),
        ("ascii", {"FIELDS": "x y w"}, Reason.BAD_SYNTAX, "no fields x, y, z"),
        ("ascii", {"FIELDS": None}, Reason.UNKNOWN_FORMAT, "no PCD header"),
        ("binary", {"POINTS": 61, "WIDTH": 61}, Reason.TRUNCATED, "61 points need 732 bytes"),
        ("binary", {"POINTS": 30, "WIDTH": 30}, Reason.COUNT_MISMATCH, "360 extra bytes"),
        ("binary", {"POINTS": 10**15, "WIDTH": 10**15}, Reason.TOO_LARGE, "more than the maximum"),
        ("binary_compressed", {"POINTS": 61, "WIDTH": 61}, Reason.COUNT_MISMATCH, "not 720"),
    ],
)
def test_what_is_wrong_with_a_pcd_header_is_named(tmp_path, encoding, changes, reason, says):
    path = write_pcd(tmp_path / "a.pcd", {"x y z": POINTS.astype("<f4")}, encoding, **changes)
    refused = refusal(path)
    assert refused.reason is reason
    assert says in refused.detail


def test_sizes_in_a_compressed_file_are_not_trusted(tmp_path):
    path = write_pcd(tmp_path / "a.pcd", {"x y z": POINTS.astype("<f4")}, "binary_compressed")
    content = path.read_bytes()
    at = content.index(b"binary_compressed\n") + len("binary_compressed\n")
    packed_size = int.from_bytes(content[at : at + 4], "little")
    cases = {
        content[: at + 5]: Reason.TRUNCATED,
        content[:-1]: Reason.TRUNCATED,
        content[:at] + struct.pack("<II", 2**32 - 1, 720) + content[at + 8 :]: Reason.TRUNCATED,
        content[:at] + struct.pack("<II", packed_size, 721) + content[at + 8 :]: (
            Reason.COUNT_MISMATCH
        ),
        content[:at] + struct.pack("<II", 3, 720) + content[at + 8 :]: Reason.TRUNCATED,
        content[: at + 8] + b"\xff" * packed_size: Reason.BAD_SYNTAX,
        content[: at + 8] + b"\x20\xff" * (packed_size // 2): None,
        content + bytes(100_000): None,
        content + b"x" * 10: None,
        content + b"x" * 100: Reason.COUNT_MISMATCH,
    }
    for data, reason in cases.items():
        written(path, data)
        if reason is None:
            try:
                load(path)
            except ShapeRefused as refused:
                assert refused.reason in (Reason.BAD_SYNTAX, Reason.TRUNCATED)  # noqa: PT017
        else:
            assert refusal(path).reason is reason
    huge = 10_000_000  # points in a few bytes
    header = content[: at - len("binary_compressed\n")].replace(b"60", str(huge).encode())
    body = b"binary_compressed\n" + struct.pack("<II", 100, 12 * huge) + bytes(100)
    assert refusal(written(path, header + body)).reason is Reason.TRUNCATED


@given(data=st.binary(max_size=400), size=st.integers(0, 600))
@settings(max_examples=300, deadline=None)
def test_decompression_stays_within_its_bounds(data, size):
    """With bytes around the output that must not change; a plain decoder gives the same."""
    room = np.full(size + 64, 77, np.uint8)
    written = pcd_reader._decompress(np.frombuffer(data, np.uint8), room[32 : 32 + size])
    assert (room[:32] == 77).all()
    assert (room[32 + size :] == 77).all()
    expected = plain_lzf(data, size)
    assert written == (-1 if expected is None else len(expected))
    if expected is not None:
        assert room[32 : 32 + written].tobytes() == expected


def plain_lzf(data, most):
    """LZF by its description; None for damaged data or more than `most` bytes."""
    out, stream = bytearray(), io.BytesIO(data)
    while control := stream.read(1):
        if control[0] < 32:
            run = stream.read(control[0] + 1)
            if len(run) < control[0] + 1:
                return None
            out += run
        else:
            length = control[0] >> 5
            more = stream.read(1) if length == 7 else b"\0"
            low = stream.read(1)
            if not more or not low:
                return None
            back = ((control[0] & 31) << 8 | low[0]) + 1
            if back > len(out):
                return None
            for _ in range(length + more[0] + 2):
                out.append(out[-back])
        if len(out) > most:
            return None
    return bytes(out)


@given(data=st.binary(max_size=3000))
@settings(max_examples=100, deadline=None)
def test_what_is_compressed_comes_back(data):
    data *= 3  # something to copy
    out = np.zeros(len(data), np.uint8)
    assert pcd_reader._decompress(np.frombuffer(lzf(data), np.uint8), out) == len(data)
    assert out.tobytes() == data


# NPY and NPZ


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "arrays",
    [
        {"points": POINTS},
        {"xyz": POINTS.astype(">f4")},
        {"POS": np.asfortranarray(POINTS)},
        {"whatever": POINTS},
        {"x": POINTS[:, 0], "y": POINTS[:, 1:2], "z": POINTS[:, 2]},
        {"points": POINTS, "colors": BYTES.astype(np.uint8), "normals": NORMALS},
        {"pos": POINTS, "rgb": UNIT, "labels": LABELS},
        {"points": POINTS, "color": BYTES, "normal": NORMALS, "label": LABELS.astype(int)},
        {"points": POINTS, "rgb": (UNIT * 65535).round().astype(np.uint16)},
        {"xyz": POINTS, "rgba": np.hstack([BYTES, BYTES[:, :1]]).astype(np.uint8)},
    ],
)
def test_arrays_of_an_npz_file_are_found_by_their_names(tmp_path, arrays, compressed):
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **arrays)
    colored = any(name in arrays for name in ("colors", "rgb", "color", "rgba"))
    normals = NORMALS if any(name.startswith("normal") for name in arrays) else None
    cloud = load(tmp_path / "a.npz")
    assert_cloud(cloud, normals, UNIT if colored else None)
    unused = [name for name in arrays if name.startswith("label")]
    assert cloud.notes == tuple(f"arrays not used: {name}" for name in unused)


def test_dark_colors_of_bytes_stay_dark(tmp_path):
    """Bytes of 0 and 1 are not colors from 0 to 1."""
    np.savez(tmp_path / "a.npz", points=POINTS, colors=(BYTES > 99).astype(np.uint8))
    assert load(tmp_path / "a.npz").colors.max() == pytest.approx(1 / 255)


def test_structured_arrays_have_named_columns(tmp_path):
    kinds = [("red", "u1"), ("z", "<f4"), ("y", "<f4"), ("x", "<f8"), ("green", "u1"), ("t", "i8")]
    table = np.zeros(M, np.dtype([*kinds, ("blue", "u1")]))
    for i, name in enumerate("xyz"):
        table[name] = POINTS[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        table[name] = BYTES[:, i]
    np.save(tmp_path / "a.npy", table)
    cloud = load(tmp_path / "a.npy")
    assert_cloud(cloud, None, UNIT)
    assert cloud.notes == ("columns not used: t",)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def npz(path, **entries):
    """An .npz file of raw bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "reason", "says"),
    [
        (lambda p: p.write_bytes(b"hello"), Reason.UNKNOWN_FORMAT, "not an .npz file"),
        (lambda p: npz(p), Reason.BAD_SYNTAX, "0 arrays"),
        (lambda p: npz(p, a=npy(POINTS), b=npy(POINTS)), Reason.BAD_SYNTAX, "found: a, b"),
        (lambda p: npz(p, points=b"no"), Reason.UNKNOWN_FORMAT, "points.npy: not a .npy file"),
        (lambda p: npz(p, points=npy(POINTS)[:-8]), Reason.TRUNCATED, "points.npy"),
        (lambda p: npz(p, points=npy(POINTS[0])), Reason.BAD_SYNTAX, "not a table"),
        (lambda p: npz(p, points=npy(POINTS), rgb=npy(BYTES[1:])), Reason.COUNT_MISMATCH, "colors"),
        (lambda p: npz(p, points=npy(POINTS), rgb=npy(-BYTES)), Reason.BAD_SYNTAX, "range"),
        (lambda p: npz(p, points=npy(POINTS * np.nan)), Reason.NOT_FINITE, "none of the 60"),
        (lambda p: npz(p, points=npy(POINTS[:0])), Reason.EMPTY_FILE, "no points"),
        (lambda p: npz(p, x=npy(POINTS[:, 0]), y=npy(POINTS[:, 1])), Reason.BAD_SYNTAX, "no array"),
        (lambda p: npz(p, points=bytes(200 << 20)), Reason.TOO_LARGE, "times as many"),
    ],
)
def test_what_is_wrong_with_an_npz_file_is_named(tmp_path, make, reason, says):
    make(tmp_path / "a.npz")
    refused = refusal(tmp_path / "a.npz")
    assert refused.reason is reason
    assert says in refused.detail


def test_nothing_in_an_npz_file_is_unpickled(tmp_path):
    trap = np.array([[Trap(tmp_path / "sprung")] * 3], object)
    np.savez(tmp_path / "a.npz", points=trap)
    np.savez(tmp_path / "b.npz", points=POINTS, extra=trap)
    assert refusal(tmp_path / "a.npz").reason is Reason.BAD_SYNTAX
    assert_cloud(load(tmp_path / "b.npz"))
    assert not (tmp_path / "sprung").exists()


SEEDS = {
    "a.pcd": lambda p: write_pcd(p, FIELDS, "ascii"),
    "b.pcd": lambda p: write_pcd(p, FIELDS, "binary"),
    "c.pcd": lambda p: write_pcd(p, FIELDS, "binary_compressed"),
    "a.npz": lambda p: np.savez_compressed(p, points=POINTS, rgb=UNIT),
    "a.csv": lambda p: p.write_text("x,y,z,red,green,blue\n" + lines(POINTS, BYTES, by=",")),
    "a.txt": lambda p: p.write_text("//X Y Z\n60\n" + lines(POINTS, by=";")),
}


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, data):
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    SEEDS[name](path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(content), 400)) | st.integers(0, len(content)))
        patch = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"-1 ", b"nan", b"\n", b",", b"9" * 20, b"//"])
        )
        removed = data.draw(st.integers(0, 4) | st.just(len(content)))
        content[at : at + removed] = patch
    path.write_bytes(content)
    try:
        load(path)
    except ShapeRefused as refused:
        assert refused.reason is not Reason.INTERNAL_ERROR  # noqa: PT017


def test_clouds_outside_the_root_are_not_read(tmp_path):
    (tmp_path / "root").mkdir()
    for name, seed in SEEDS.items():
        seed(tmp_path / name)
        with pytest.raises(ShapeRefused) as refused:
            CloudLoader("clouds", tmp_path / "root").load(
                ShapeRecord("x", None, "train", f"../{name}")
            )
        assert "is outside the dataset" in refused.value.detail
