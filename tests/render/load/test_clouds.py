"""Clouds of every file format: read exactly, or refused with the reason that fits."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.geometry import normalize_cloud
from pointcmt.render.load.clouds import CloudLoader
from pointcmt.render.load.normals import complete_normals
from pointcmt.render.load.readers import points as readers
from tests.clouds import text_of, write_hdf5
from tests.render.load.cloud_files import (
    NORMALS,
    POINTS,
    RNG,
    XYZ,
    load,
    npy,
    ply,
    refusal,
    written,
)

CONTENTS = {
    "a.xyz": text_of(POINTS),
    "a.txt": text_of(POINTS).replace(" ", ","),
    "b.txt": "# x y z\r\n" + text_of(POINTS).replace("\n", "\r\n"),
    "a.pts": f"{len(POINTS)}\n" + text_of(POINTS),
    "b.pts": text_of(POINTS),
    "a.npy": npy(POINTS),
    "b.npy": npy(np.asfortranarray(POINTS.astype(">f4"))),
    "c.npy": npy(POINTS).replace(b"(40, 3), }  ", b"(40L, 3L), }"),  # as Python 2 wrote it
    "a.ply": ply(XYZ, POINTS),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_points_are_read_exactly_from_every_format(tmp_path, name):
    cloud = load(written(tmp_path / name, CONTENTS[name]))
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert not cloud.normals.any()
    assert cloud.colors is None
    assert cloud.part is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", text_of(POINTS, NORMALS)),
        ("a.txt", text_of(POINTS, NORMALS).replace(" ", ",")),
        ("a.npy", npy(np.concatenate([POINTS, NORMALS], axis=1))),
        (
            "a.ply",
            ply((*XYZ, *(f"double n{axis}" for axis in "xyz")), np.hstack([POINTS, NORMALS])),
        ),
    ],
)
def test_normals_in_the_file_are_read(tmp_path, name, content):
    cloud = load(written(tmp_path / name, content))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.normals, NORMALS)


def test_colors_are_read_only_from_formats_that_declare_them(tmp_path):
    colors = RNG.integers(0, 256, (40, 3))
    lines = zip(POINTS.tolist(), colors.tolist(), strict=True)
    rows = [[*point, 17, *color] for point, color in lines]
    pts = "40\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows)
    scan = load(written(tmp_path / "a.pts", pts))
    assert scan.notes == ("intensities ignored",)
    names = (*XYZ, "uchar intensity", "uchar red", "uchar green", "uchar blue")
    stored = load(written(tmp_path / "a.ply", ply(names, np.array(rows, object))))
    for cloud in (scan, stored):
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(np.rint(cloud.colors * 255), colors)


def test_files_of_meshes_are_refused_as_clouds(tmp_path):
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    mesh = ply(XYZ, POINTS, faces) + "3 0 1 2\n"
    refused = refusal(written(tmp_path / "mesh.ply", mesh))
    assert (refused.reason, "--dataset folder" in refused.detail) == (Reason.UNKNOWN_FORMAT, True)
    for name in ("mesh.off", "mesh.obj", "a.las", "a"):
        assert refusal(written(tmp_path / name, "1 2 3\n")).reason is Reason.UNKNOWN_FORMAT


@pytest.mark.parametrize(
    ("name", "content", "reason", "says"),
    [
        ("a.xyz", "1 2 3\n4 5\n6 7 8\n", Reason.BAD_SYNTAX, "line 2: has 2 numbers"),
        ("a.xyz", "1 2 3\n4 5 6 7\n", Reason.BAD_SYNTAX, "line 2: has 4 numbers"),
        ("a.xyz", "1 2 3\n4 5", Reason.TRUNCATED, "line 2: has 2 numbers"),
        ("a.xyz", "1 2 3\n4 5 -", Reason.TRUNCATED, "line 2: '-' is not a number"),
        ("a.xyz", "1 2 3\n4 x 6\n7 8 9\n", Reason.BAD_SYNTAX, "line 2: 'x' is not a number"),
        ("a.xyz", "x 2 3\n1 2 3\n", Reason.BAD_SYNTAX, "line 1: 'x' is not a number"),
        ("a.xyz", "1 " * 40 + "\n", Reason.BAD_SYNTAX, "40 numbers"),
        ("a.xyz", "1,,3\n", Reason.BAD_SYNTAX, "2 numbers per point"),
        ("a.xyz", "1 inf 3\n4 nan 6\n", Reason.NOT_FINITE, "none of the 2 points is finite"),
        ("a.xyz", "# nothing\n", Reason.EMPTY_FILE, "no points"),
        ("a.xyz", "", Reason.EMPTY_FILE, ""),
        ("a.xyz", b"1 2 3\0\n", Reason.UNKNOWN_FORMAT, "binary"),
        ("a.pts", "3\n1 2 3\n4 5 6\n", Reason.TRUNCATED, "declares 3 points, but there are 2"),
        ("a.pts", "1\n1 2 3\n4 5 6\n", Reason.COUNT_MISMATCH, "declares 1"),
        ("a.pts", "nan\n1 2 3\n", Reason.COUNT_MISMATCH, "declares 0"),
        ("a.pts", "7\n", Reason.EMPTY_FILE, "no points"),
        ("a.pts", "1 2 3 9 300 0 0\n", Reason.BAD_SYNTAX, "0 to 255"),
        ("a.npy", npy(POINTS)[:-8], Reason.TRUNCATED, "bytes"),
        ("a.npy", npy(POINTS) + b"x", Reason.COUNT_MISMATCH, "bytes"),
        ("a.npy", npy(POINTS)[:20], Reason.BAD_SYNTAX, "header"),
        ("a.npy", npy(POINTS).replace(b"3)", b"3 "), Reason.BAD_SYNTAX, "header"),
        ("a.npy", npy(POINTS[:0]), Reason.EMPTY_FILE, "no points"),
        ("a.npy", npy(POINTS[0]), Reason.BAD_SYNTAX, "not a table"),
        ("a.npy", npy(POINTS.astype(complex)), Reason.BAD_SYNTAX, "not a table"),
        ("a.npy", npy(POINTS.astype("S4")), Reason.BAD_SYNTAX, "not a table"),
        ("a.npy", text_of(POINTS), Reason.UNKNOWN_FORMAT, "not a .npy"),
        ("a.ply", ply(XYZ, POINTS[:0]), Reason.EMPTY_FILE, "no points"),
        ("a.ply", ply(XYZ[:2], POINTS[:, :2]), Reason.BAD_SYNTAX, "no x, y, z"),
    ],
)
def test_broken_files_are_refused_with_a_reason(tmp_path, name, content, reason, says):
    refused = refusal(written(tmp_path / name, content))
    assert refused.reason is reason
    assert says in refused.detail


def test_npy_files_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([[Trap()] * 3], object), allow_pickle=True)
    assert refusal(tmp_path / "a.npy").reason is Reason.BAD_SYNTAX
    assert not (tmp_path / "sprung").exists()


def test_oversized_npy_headers_allocate_nothing(tmp_path):
    content = npy(POINTS).replace(b"(40, 3)", b"(9999999999999, 3)")
    content = content.replace(b" " * 11 + b"\n", b"\n", 1)  # the header keeps its length
    assert refusal(written(tmp_path / "a.npy", content)).reason is Reason.TRUNCATED


@pytest.mark.parametrize("value", [1e200, -1e300, 1e-320])
def test_huge_and_tiny_numbers_cause_no_warnings(tmp_path, value):
    normals = NORMALS.copy()
    normals[3] = value
    cloud = load(written(tmp_path / "a.xyz", text_of(POINTS * 1e100, normals)))
    made, _ = normalize_cloud(cloud, "y")
    done = complete_normals(made)
    np.testing.assert_allclose(np.linalg.norm(done.normals, axis=1), 1, atol=1e-12)
    noise = np.full((2, 3), 0x7F800001, np.uint32).view(np.float32)  # signaling NaNs
    assert refusal(written(tmp_path / "a.npy", npy(noise))).reason is Reason.NOT_FINITE
    write_hdf5(tmp_path / "a.h5", data=noise[None])
    assert refusal(tmp_path / "a.h5", row=0).reason is Reason.NOT_FINITE


def test_too_many_points_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_POINTS", 10)
    monkeypatch.setattr("pointcmt.render.load.clouds.MAX_POINTS", 10)
    for name in CONTENTS:
        refused = refusal(written(tmp_path / name, CONTENTS[name]))
        assert refused.reason is Reason.TOO_LARGE, name


@pytest.mark.parametrize("name", CONTENTS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, data):
    content = CONTENTS[name]
    content = bytearray(content if isinstance(content, bytes) else content.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        patch = data.draw(st.binary(max_size=4) | st.sampled_from([b"-1 ", b"nan", b"\n", b","]))
        removed = data.draw(st.integers(0, 4) | st.just(len(content)))
        content[at : at + removed] = patch
    path = written(tmp_path_factory.getbasetemp() / f"damaged-{name}", bytes(content))
    try:
        load(path)
    except ShapeRefused as refused:
        assert refused.reason is not Reason.INTERNAL_ERROR  # noqa: PT017


def test_a_source_outside_of_the_data_set_is_not_read(tmp_path):
    (tmp_path / "root").mkdir()
    written(tmp_path / "secret.xyz", text_of(POINTS))
    write_hdf5(tmp_path / "secret.h5", data=POINTS[None], label=[0])
    loader = CloudLoader("clouds", tmp_path / "root")
    names = ("../secret.xyz", str(tmp_path / "secret.xyz"), "../secret.h5#0", "a/../../secret.h5#0")
    for source in names:
        with pytest.raises(ShapeRefused) as refused:
            loader.load(ShapeRecord("x", None, "train", source))
        assert "is outside the dataset" in refused.value.detail


def test_real_clouds_are_read_exactly(real_data):
    root = real_data / "modelnet40_normal_resampled"
    paths = sorted(root.glob("*/*.txt"))
    assert len(paths) > 100
    for path in paths[::12]:
        cloud = load(path)
        expected = [list(map(float, line.split(","))) for line in path.read_text().splitlines()]
        table = np.array(expected)
        np.testing.assert_array_equal(np.hstack([cloud.points, cloud.normals]), table)
