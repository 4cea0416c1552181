"""Fixtures of the recipes' tests."""

import pytest

from pointcmt.training.networks.backbones import BACKBONES, DENSE
from tests.training.plain_dense import PlainDense


@pytest.fixture
def plain_dgcnn(monkeypatch):
    """Replace `dgcnn` by a network that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)
