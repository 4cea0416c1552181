"""Fixtures of the recipes' tests."""

import pytest

from pointcmt.training.networks.backbones import BACKBONES, DENSE
from tests.training.plain_dense import PlainDense


@pytest.fixture
def plain_dgcnn(monkeypatch):
    """`dgcnn` stands for something that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)
