"""Fixtures of the recipes' tests."""

from dataclasses import replace
from functools import partial

import pytest

from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
from tests.scene_stores import CONFIG, render_rooms
from tests.training.networks.test_sparse_backbones import SMALL
from tests.training.plain_dense import PlainDense


@pytest.fixture
def plain_dgcnn(monkeypatch):
    """Replace `dgcnn` by a network that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)


@pytest.fixture(scope="module")
def small_unet():
    """Replace the tiny U-Net by a hundredth of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DENSE, "sparse-unet-tiny", partial(DenseSparseUNet, config=SMALL))
        patch.setitem(BACKBONES, "sparse-unet-tiny", partial(SparseUNetEncoder, config=SMALL))
        yield


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Six rooms of 6 to 8 frames of 60 × 80 pixels, the first room for the test."""
    out = tmp_path_factory.mktemp("rooms") / "S"
    return render_rooms(out, count=6, config=replace(CONFIG, voxel=0.1))
