"""Fixtures of the training tests."""

import sys
from dataclasses import replace

import pytest
import torch

from pointcmt.training.images.networks import NETWORKS
from tests.outside import install
from tests.stores import render_toy
from tests.training.image_folders import save_small
from tests.training.stores import Plan, write_store

SMALL_RESNET = {
    "layer_type": "basic",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "embedding_size": 16,
}


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """The same bits on any machine, and no fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_resnet():
    """`resnet-18` stands for a hundredth of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "resnet-18", replace(NETWORKS["resnet-18"], config=SMALL_RESNET))
        yield


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Settings of a Plan → store; each is written once."""
    made = {}

    def make(**settings):
        plan = Plan(**settings)
        if plan not in made:
            made[plan] = write_store(tmp_path_factory.mktemp("store"), plan)
        return made[plan]

    return make


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """24 toy shapes, rendered: 12 views of 32² around each, 256 points, all that pairs need."""
    return render_toy(tmp_path_factory.mktemp("rendered") / "S", limit=24, rig="circle12", shard=8)


@pytest.fixture(scope="session")
def store(make_store):
    return make_store()


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """A name of SMALL → its folder; each is written once."""
    made = {}

    def find(name):
        if name not in made:
            made[name] = save_small(name, tmp_path_factory.mktemp(name))
        return made[name]

    return find


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The outside package, installed for one test."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(install(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside_parts"]:
        del sys.modules[name]
