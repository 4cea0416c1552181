"""NPY and NPZ files of clouds."""

import io
import os
import zipfile

import numpy as np
import pytest

from pointcmt.errors import Reason
from tests.render.load.random_cloud import (
    BYTES,
    LABELS,
    NORMALS,
    POINTS,
    UNIT,
    M,
    assert_cloud,
    load,
    refusal,
)


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
