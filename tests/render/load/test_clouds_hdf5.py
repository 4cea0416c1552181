"""Clouds in rows of HDF5 files: read exactly, or refused with the reason that fits."""

import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.clouds import CloudLoader
from tests.clouds import banded_cloud, write_hdf5
from tests.render.load.cloud_files import load, refusal, written

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


def test_the_digest_of_a_row_covers_its_points_and_parts(tmp_path):
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
def test_broken_rows_are_refused_with_a_reason(tmp_path, arrays, row, reason):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    assert refusal(tmp_path / "a.h5", "shapenetpart", row=row).reason is reason


def test_arrays_in_other_files_are_not_read(tmp_path):
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


def test_a_file_that_decodes_to_too_much_is_refused_before_reading(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        shape = (4, 1 << 30, 3)  # only fill values, so the file stays small
        file.create_dataset("data", shape, "f4", chunks=(1, 1024, 3))
        file.create_dataset("label", data=[0] * 4)
    assert refusal(tmp_path / "a.h5", row=0).reason is Reason.TOO_LARGE


def test_files_that_are_not_hdf5_are_refused(tmp_path):
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
