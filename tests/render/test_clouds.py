"""Clouds of every format: read exactly, or refused with the reason that fits."""

import io
import os
import shutil
from dataclasses import replace

import h5py
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
from tests.clouds import SHAPES, banded_cloud, text_of, write_hdf5, write_shapenetpart_pts

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 3)).astype(np.float32).astype(np.float64)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


def load(path, dataset="clouds", class_name="chair", row=None):
    source = path.name if row is None else f"{path.name}#{row}"
    record = ShapeRecord("x", class_name, "train", source)
    return CloudLoader(dataset, path.parent).load(record)[0]


def refusal(path, *arguments, **more):
    with pytest.raises(ShapeRefused) as refused:
        load(path, *arguments, **more)
    return refused.value


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def ply(columns, table, faces=""):
    properties = "".join(f"property {name}\n" for name in columns)
    lines = "".join(" ".join(map(str, row)) + "\n" for row in np.asarray(table).tolist())
    count = f"element vertex {len(table)}\n"
    return f"ply\nformat ascii 1.0\n{count}{properties}{faces}end_header\n{lines}"


XYZ = ("float x", "float y", "float z")
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
def test_normals_are_read_where_they_are_given(tmp_path, name, content):
    cloud = load(written(tmp_path / name, content))
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.normals, NORMALS)


def test_colours_are_read_where_the_format_says_that_they_are_colours(tmp_path):
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


def test_a_mesh_is_no_cloud_and_a_cloud_no_mesh(tmp_path):
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
def test_what_is_wrong_with_a_file_is_named(tmp_path, name, content, reason, says):
    refused = refusal(written(tmp_path / name, content))
    assert refused.reason is reason
    assert says in refused.detail


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "a.npy", np.array([[Trap()] * 3], object), allow_pickle=True)
    assert refusal(tmp_path / "a.npy").reason is Reason.BAD_SYNTAX
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_declares_too_much_allocates_nothing(tmp_path):
    content = npy(POINTS).replace(b"(40, 3)", b"(9999999999999, 3)")
    content = content.replace(b" " * 11 + b"\n", b"\n", 1)  # the header keeps its length
    assert refusal(written(tmp_path / "a.npy", content)).reason is Reason.TRUNCATED


@pytest.mark.parametrize("value", [1e200, -1e300, 1e-320])
def test_huge_and_tiny_numbers_make_no_noise(tmp_path, value):
    normals = NORMALS.copy()
    normals[3] = value
    cloud = load(written(tmp_path / "a.xyz", text_of(POINTS * 1e100, normals)))
    made, _ = normalize_cloud(cloud, "y")
    done = complete_normals(made)
    np.testing.assert_allclose(np.linalg.norm(done.normals, axis=1), 1, atol=1e-12)
    noise = np.full((2, 3), 0x7F800001, np.uint32).view(np.float32)  # signalling NaNs
    assert refusal(written(tmp_path / "a.npy", npy(noise))).reason is Reason.NOT_FINITE
    write_hdf5(tmp_path / "a.h5", data=noise[None])
    assert refusal(tmp_path / "a.h5", row=0).reason is Reason.NOT_FINITE


def test_too_many_points(tmp_path, monkeypatch):
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


# ShapeNetPart's parts

CHAIR = SHAPES["03001627", "ccc", "train"]


def test_parts_become_those_of_the_class(tmp_path):
    points, normals, parts = CHAIR
    cloud = load(written(tmp_path / "a.txt", text_of(*CHAIR)), "shapenetpart")
    np.testing.assert_array_equal(cloud.points, points)
    np.testing.assert_array_equal(cloud.normals, normals)
    np.testing.assert_array_equal(cloud.part, parts - 12)  # a chair's parts are 12 to 15
    np.testing.assert_array_equal(cloud.part, np.floor(points[:, 0]))


@pytest.mark.parametrize("wrong", [11, 16, -1, 12.5, 255])
def test_parts_that_the_class_does_not_have_are_refused(tmp_path, wrong):
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


def test_shapes_without_parts_are_no_shapenetpart(tmp_path):
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


def test_parts_in_a_file_of_their_own_become_those_of_the_class(older):
    points, _, parts = CHAIR
    cloud, _ = CloudLoader("shapenetpart", older[0]).load(PTS)
    np.testing.assert_array_equal(cloud.points, points)
    assert not cloud.normals.any()
    np.testing.assert_array_equal(cloud.part, parts - 12)  # a chair's parts are 12 to 15
    assert older[2].read_text().split() == [str(part - 11) for part in parts.tolist()]


def test_the_digest_follows_both_files(older):
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
    """The chair's parts with another word for one point."""
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
def test_what_is_wrong_with_a_file_of_parts_is_named(older, content, reason, says):
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
def test_what_is_wrong_with_a_file_of_points_is_named(older, content, reason, says):
    replace_file(older[1], content)
    refused = refused_older(older[0])
    assert refused.reason is reason
    assert says in refused.detail


def test_parts_of_an_unknown_class_are_refused(older):
    refused = refused_older(older[0], replace(PTS, class_name=None))
    assert refused.reason is Reason.BAD_INDEX


def test_no_link_to_parts_leads_out_of_the_data_set(older, tmp_path):
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


# HDF5

ROWS = [banded_cloud("03001627", seed=seed) for seed in range(3)]
DATA = np.stack([points for points, _, _ in ROWS])
PID = np.stack([parts for _, _, parts in ROWS]).astype(np.uint8)


@pytest.mark.parametrize("name", ["pid", "seg"])
def test_rows_are_read_with_their_parts(tmp_path, name):
    write_hdf5(tmp_path / "a.h5", data=DATA, label=[[4]] * 3, **{name: PID})
    for row, (points, _, parts) in enumerate(ROWS):
        cloud = load(tmp_path / "a.h5", "shapenetpart", row=row)
        np.testing.assert_array_equal(cloud.points, points)
        np.testing.assert_array_equal(cloud.part, parts - 12)
        plain = load(tmp_path / "a.h5", "scanobjectnn", row=row)
        np.testing.assert_array_equal(plain.points, points)
        assert plain.part is None


def test_the_digest_of_a_row_follows_what_is_read_of_it(tmp_path):
    record, loader = ShapeRecord("x", "chair", "train", "a.h5#1"), "shapenetpart"
    digests = []
    changed = [DATA.copy(), PID.copy()]
    changed[0][1, 5, 2] += 1
    changed[1][1, 5] ^= 1
    for data, pid in ((DATA, PID), (changed[0], PID), (DATA, changed[1]), (DATA, PID)):
        write_hdf5(tmp_path / "a.h5", data=data, label=[4] * 3, pid=pid)
        digests.append(CloudLoader(loader, tmp_path).load(record)[1])
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("arrays", "row", "reason"),
    [
        ({"data": DATA, "pid": PID}, 3, Reason.COUNT_MISMATCH),
        ({"points": DATA, "pid": PID}, 0, Reason.BAD_SYNTAX),
        ({"data": DATA}, 0, Reason.BAD_SYNTAX),
        ({"data": DATA, "pid": PID[:, :50]}, 0, Reason.COUNT_MISMATCH),
        ({"data": DATA[..., :2], "pid": PID}, 0, Reason.BAD_SYNTAX),
        ({"data": DATA[0], "pid": PID}, 0, Reason.BAD_SYNTAX),
        ({"data": DATA.astype("S3"), "pid": PID}, 0, Reason.BAD_SYNTAX),
        ({"data": DATA * np.nan, "pid": PID}, 0, Reason.NOT_FINITE),
        ({"data": DATA, "pid": PID + 40}, 0, Reason.BAD_INDEX),
        ({"data": DATA[:, :0], "pid": PID[:, :0]}, 0, Reason.EMPTY_FILE),
    ],
)
def test_what_is_wrong_with_a_row_is_named(tmp_path, arrays, row, reason):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    assert refusal(tmp_path / "a.h5", "shapenetpart", row=row).reason is reason


def test_arrays_that_lie_in_other_files_are_not_read(tmp_path):
    write_hdf5(tmp_path / "secret.h5", data=DATA)
    (tmp_path / "secret.bin").write_bytes(DATA.tobytes())

    def external(file):
        file["data"] = h5py.ExternalLink("secret.h5", "data")

    def soft(file):
        file["data"] = h5py.SoftLink("/elsewhere")

    def storage(file):
        where = [(str(tmp_path / "secret.bin"), 0, DATA.nbytes)]
        file.create_dataset("data", DATA.shape, "f4", external=where)

    def virtual(file):
        layout = h5py.VirtualLayout(DATA.shape, "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "data", DATA.shape)
        file.create_virtual_dataset("data", layout)

    for make, says in ((external, "link"), (soft, "link"), (storage, "other"), (virtual, "other")):
        path = tmp_path / f"{make.__name__}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        refused = refusal(path, row=0)
        assert refused.reason is Reason.BAD_SYNTAX
        assert says in refused.detail, make


def test_a_file_that_decodes_to_too_much_is_refused_unread(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape = (4, 1 << 30, 3)  # of fill values: the file itself stays small
        file.create_dataset("data", shape, "f4", chunks=(1, 1024, 3))
        file.create_dataset("label", data=[0] * 4)
    assert refusal(tmp_path / "a.h5", row=0).reason is Reason.TOO_LARGE


def test_files_that_are_no_hdf5(tmp_path):
    write_hdf5(tmp_path / "a.h5", data=DATA)
    content = (tmp_path / "a.h5").read_bytes()
    written(tmp_path / "cut.h5", content[: len(content) // 2])
    written(tmp_path / "text.h5", "hello")
    os.mkfifo(tmp_path / "pipe.h5")
    reasons = {
        "cut.h5": Reason.TRUNCATED,
        "text.h5": Reason.UNKNOWN_FORMAT,
        "pipe.h5": Reason.UNREADABLE_FILE,
        "none.h5": Reason.MISSING_FILE,
    }
    found = {name: refusal(tmp_path / name, row=0).reason for name in reasons}
    assert found == reasons


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)  # libhdf5 may crash on some
def test_damaged_hdf5_files_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.h5"
    write_hdf5(path, data=DATA, label=[4] * 3, pid=PID)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        load(path, "shapenetpart", row=1)
    except ShapeRefused as refused:
        assert refused.reason is not Reason.INTERNAL_ERROR  # noqa: PT017


# Real clouds


def test_real_clouds_are_read_exactly(real_data):
    root = real_data / "modelnet40_normal_resampled"
    paths = sorted(root.glob("*/*.txt"))
    assert len(paths) > 100
    for path in paths[::12]:
        cloud = load(path)
        expected = [list(map(float, line.split(","))) for line in path.read_text().splitlines()]
        table = np.array(expected)
        np.testing.assert_array_equal(np.hstack([cloud.points, cloud.normals]), table)
