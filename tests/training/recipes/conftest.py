"""Fixtures of the recipes' tests."""

from functools import partial

import pytest

from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
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
