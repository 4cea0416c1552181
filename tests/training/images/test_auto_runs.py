"""images.backbone=auto in runs: online and cached, resumed, never with stale features."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from pointcmt.datasets.store.features import list_features, open_features
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError
from pointcmt.training.images.levels import build_levels, cache_levels
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from tests.training.equal_runs import metrics
from tests.training.image_folders import IMAGES, change
from tests.training.plain_dense import PlainDense
from tests.training.stores import small_config


def settings(folder, *overrides, epochs=1):
    images = ("images.backbone=auto", f"images.weights={folder}")
    return small_config("mvnet", *images, *overrides, epochs=epochs)


@pytest.fixture
def plain(monkeypatch):
    """Replace `dgcnn` by a network that takes a millisecond."""
    monkeypatch.setitem(DENSE, "dgcnn", PlainDense)
    monkeypatch.setitem(BACKBONES, "dgcnn", PlainDense)


@pytest.mark.usefixtures("plain")
def test_online_and_cached_features_give_the_same_training(rendered, folder_of, tmp_path, messages):
    folder = folder_of("dinov3_vit")
    for cache in ("false", "true"):
        train(rendered, settings(folder, f"images.cache={cache}"), tmp_path / cache, device="cpu")
    assert "ImageNet's mean" not in messages()
    (online,), (cached,) = metrics(tmp_path / "false"), metrics(tmp_path / "true")
    assert online["transfer"] == pytest.approx(cached["transfer"], rel=1e-3)
    assert online["transfer"] != cached["transfer"]
    facts = [open_features(rendered, key).facts for key in list_features(rendered)]
    (mine,) = (each for each in facts if each["backbone"] == "dinov3_vit")
    assert mine["levels"] == [[32, 4, 4], [32, 4, 4]]


@pytest.mark.usefixtures("plain")
def test_a_run_resumes_only_with_the_same_network(rendered, copy_of, tmp_path, messages):
    folder = copy_of("regnet")
    (folder / "preprocessor_config.json").unlink()
    run = tmp_path / "run"
    train(rendered, settings(folder, epochs=2), run, device="cpu", until=1)
    assert "has no image normalization settings" in messages()
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))

    def refused(other):
        with pytest.raises(
            StoreError, match=r"images\.weights: \w{64} in the run, \w{64} requested"
        ):
            train(rendered, settings(other, epochs=2), run, device="cpu")
        shutil.rmtree(other)
        return Path(shutil.copytree(folder, other))

    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "preprocessor_config.json").write_text(json.dumps(IMAGES))
    changed = refused(changed)
    changed = refused(change(changed, hidden_act="gelu"))
    stored = load_file(changed / "model.safetensors")
    save_file({k: t * 1.5 for k, t in stored.items()}, changed / "model.safetensors")
    refused(changed)
    assert train(rendered, settings(moved, epochs=2), run, device="cpu").epochs == 2


def test_the_cache_depends_on_the_network_and_its_statistics(make_store, copy_of, tmp_path):
    """The same tensors give other features with another activation or other pixels."""
    store = ViewStore.open(shutil.copytree(make_store().path, tmp_path / "S"))
    others = len(list_features(store))  # features of earlier tests
    folder = copy_of("vit")

    def cache():
        network = build_levels("auto", str(folder), [1.0], 0, stored=(32, 32))
        cpu = torch.device("cpu")
        cache_levels(network, store, np.arange(2), cpu, Accelerator(cpu=True))
        return len(list_features(store)) - others

    assert [cache(), cache()] == [1, 1]
    change(folder, hidden_act="relu")
    assert cache() == 2
    change(folder, "preprocessor_config.json", image_mean=[0.1, 0.1, 0.1])
    assert cache() == 3
