"""Damaged files of clouds are read or refused, and none outside the root is read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.clouds import CloudLoader
from tests.render.load.pcd_files import FIELDS, write_pcd
from tests.render.load.random_cloud import BYTES, POINTS, UNIT, lines, load

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
