"""PCD files in every encoding."""

import io
import struct

import numpy as np
import open3d as o3d
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers import pcd as pcd_reader
from tests.render.load.pcd_files import FIELDS, lzf, packed, write_pcd
from tests.render.load.random_cloud import (
    BYTES,
    INTENSITY,
    NORMALS,
    POINTS,
    RNG,
    UNIT,
    M,
    assert_cloud,
    load,
    refusal,
    written,
)

ENCODINGS = ("ascii", "binary", "binary_compressed")


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
