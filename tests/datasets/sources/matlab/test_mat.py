"""MAT-files: the same values as scipy's reader; damaged and oversized files are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pointcmt.datasets.sources.matlab import mat
from pointcmt.datasets.sources.matlab.mat import Structs, parse_mat, read_mat
from pointcmt.errors import Reason, ShapeRefused
from tests.fake_sunrgbd import structs


def written(variables, **options):
    file = io.BytesIO()
    savemat(file, variables, **options)
    return file.getvalue()


RNG = np.random.default_rng(0)
ARRAYS = {
    "double": RNG.normal(size=(7, 3)),
    "single": RNG.normal(size=(2, 3, 4)).astype(np.float32),
    "bytes": RNG.integers(0, 256, (5, 2)).astype(np.uint8),
    "whole": np.array([[-(2**40), 2**40]]),
    "one": np.array([[3.5]]),
    "none": np.zeros((0, 0)),
    "no_rows": np.zeros((0, 3)),
}


@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_are_those_of_scipy(compressed):
    data = written(ARRAYS, do_compression=compressed)
    found, expected = parse_mat(data), loadmat(io.BytesIO(data))
    assert set(found) == set(ARRAYS)
    for name in ARRAYS:
        assert np.array_equal(found[name], expected[name]), name
        assert found[name].shape == expected[name].shape


@pytest.mark.parametrize("compressed", [True, False])
def test_texts_and_nested_structs(compressed):
    boxes = structs(
        [{"classname": "chair", "coeffs": [[1.0, 2, 3]]}, {"classname": "", "coeffs": []}]
    )
    frames = structs([{"path": "/n/fs/ä/1", "boxes": boxes, "K": np.eye(3)}] * 3)
    found = parse_mat(written({"meta": frames, "text": "abc"}, do_compression=compressed))
    assert found["text"] == "abc"
    meta = found["meta"]
    assert isinstance(meta, Structs)
    assert (len(meta), meta.fields) == (3, ("path", "boxes", "K"))
    assert meta.get(2, "path") == "/n/fs/ä/1"
    assert np.array_equal(meta.get(1, "K"), np.eye(3))
    inner = meta.get(0, "boxes")
    assert inner.get(0, "classname") == "chair"
    assert inner.get(0, "coeffs").tolist() == [[1, 2, 3]]
    assert inner.get(1, "coeffs").size == 0
    with pytest.raises(ShapeRefused, match="no field 'size'"):
        inner.get(0, "size")


def test_big_endian_files_are_read():
    """As MATLAB wrote on other processors: one array [1,2] of doubles, named "a"."""
    body = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 2)
    body += struct.pack(">HH4s", 1, 1, b"a") + struct.pack(">IIdd", 9, 16, 1.5, -2)
    data = b" " * 124 + b"\1\0MI" + struct.pack(">II", 14, len(body)) + body
    assert loadmat(io.BytesIO(data))["a"].tolist() == [[1.5, -2]]
    assert parse_mat(data)["a"].tolist() == [[1.5, -2]]


def test_cells_are_refused_only_if_they_are_asked_for():
    cell = np.empty((1, 1), object)
    cell[0, 0] = "x"
    found = parse_mat(written({"meta": structs([{"cell": cell, "text": "t"}])}))["meta"]
    assert found.get(0, "text") == "t"
    with pytest.raises(ShapeRefused, match="class 1"):
        found.get(0, "cell")


def reason(data):
    with pytest.raises(ShapeRefused) as raised:
        everything(parse_mat(data))
    return raised.value.reason


def everything(value):
    """Decode all values."""
    if isinstance(value, dict):
        return [everything(v) for v in value.values()]
    if isinstance(value, Structs):
        return [everything(value.get(i, f)) for i in range(len(value)) for f in value.fields]
    return value


@pytest.mark.parametrize("compressed", [True, False])
def test_every_damaged_file_is_refused_or_read_without_another_error(compressed):
    data = written({"meta": structs([{"a": "x", "b": np.eye(2)}] * 2)}, do_compression=compressed)
    for end in range(len(data)):
        if end <= 128 or compressed or (end - 128) % 8:
            try:
                everything(parse_mat(data[:end]))
            except ShapeRefused:
                continue
            assert end == 128  # no variables
    for at in range(128, len(data)):
        for value in (0, 1, 14, 128, 255):
            try:
                everything(parse_mat(data[:at] + bytes([value]) + data[at + 1 :]))
            except ShapeRefused:
                continue


def test_files_of_other_formats_have_a_reason():
    assert reason(b"") == Reason.UNKNOWN_FORMAT
    assert reason(b"hello" * 100) == Reason.UNKNOWN_FORMAT
    hdf5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF\r\n\x1a\n" * 8
    assert reason(hdf5) == Reason.UNKNOWN_FORMAT
    with pytest.raises(ShapeRefused, match=r"7\.3.*-v7"):
        parse_mat(hdf5)


def declared(shape, content, own=6):
    """A file whose only array declares a shape; content: the element after its name."""
    body = struct.pack("<IIII", 6, 8, own, 0)
    body += struct.pack("<II", 5, 4 * len(shape)) + struct.pack(f"<{len(shape)}i", *shape)
    body += struct.pack("<HH4s", 1, 1, b"a") + content
    return b" " * 124 + b"\0\1IM" + struct.pack("<II", 14, len(body)) + body


def test_declared_sizes_are_not_allocated():
    huge = (2**31 - 1, 2**31 - 1)
    assert reason(declared(huge, struct.pack("<IId", 9, 8, 1))) == Reason.COUNT_MISMATCH
    fields = struct.pack("<HHI", 5, 4, 8) + struct.pack("<II8s", 1, 8, b"f")
    assert reason(declared(huge, fields, own=2)) == Reason.TRUNCATED
    no_fields = struct.pack("<HHI", 5, 4, 8) + struct.pack("<II", 1, 0)
    assert len(parse_mat(declared(huge, no_fields, own=2))["a"]) == 0
    assert reason(declared((1, 1), struct.pack("<II", 9, 2**32 - 8))) == Reason.TRUNCATED


def test_decompression_is_bounded(monkeypatch):
    monkeypatch.setattr(mat, "MAX_DECODED", 1 << 20)
    bomb = zlib.compress(bytes(64 << 20))
    data = b" " * 124 + b"\0\1IM" + struct.pack("<II", 15, len(bomb)) + bomb
    assert len(data) < 1 << 17
    assert reason(data) == Reason.TOO_LARGE


def test_files_are_regular_and_of_bounded_size(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    path.write_bytes(written({"a": np.eye(2)}))
    assert np.array_equal(read_mat(path)["a"], np.eye(2))
    monkeypatch.setattr(mat, "MAX_FILE", 100)
    for name, wanted in (
        ("a.mat", "too_large"),
        ("b.mat", "missing_file"),
        (".", "unreadable_file"),
    ):
        with pytest.raises(ShapeRefused) as raised:
            read_mat(tmp_path / name)
        assert raised.value.reason == wanted
