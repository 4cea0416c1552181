"""Fixtures of the training tests."""

import sys
from dataclasses import replace

import pytest
import torch

from pointcmt.training.images.networks import NETWORKS
from tests.outside import install
from tests.scene_stores import CONFIG, render_rooms
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
    """Use one thread, for the same bits on any machine and no contention for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_resnet():
    """Replace `resnet-18` by a network of a hundredth of its size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "resnet-18", replace(NETWORKS["resnet-18"], config=SMALL_RESNET))
        yield


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """A function: settings of a Plan → store. Each store is written once."""
    made = {}

    def make(**settings):
        plan = Plan(**settings)
        if plan not in made:
            made[plan] = write_store(tmp_path_factory.mktemp("store"), plan)
        return made[plan]

    return make


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """24 rendered toy shapes: 12 views of 32² around each, 256 points, correspondences."""
    return render_toy(tmp_path_factory.mktemp("rendered") / "S", limit=24, rig="circle12", shard=8)


@pytest.fixture(scope="session")
def store(make_store):
    return make_store()


@pytest.fixture(scope="session")
def rooms(tmp_path_factory):
    """Six box rooms, the first of them for the test."""
    config = replace(CONFIG, frames=6, voxel=0.1)
    return render_rooms(tmp_path_factory.mktemp("rooms") / "S", count=6, config=config)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """A function: a name of SMALL → its folder. Each folder is written once."""
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
