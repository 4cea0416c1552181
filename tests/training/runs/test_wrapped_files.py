"""Published weights in every wrapper that training loops use, and what is said of the others."""

import argparse
import os
import shlex
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from pointcmt.errors import StoreError
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.runs.published.layouts import find_backbone
from pointcmt.training.runs.published_weights import find_backbone_of, load_published
from tests.commands import pointcmt
from tests.training import textbooks
from tests.training.networks.test_backbones import LARGER
from tests.training.runs.published_files import (
    CLASSES,
    POINTS,
    PublishedDGCNN,
    Yanx27,
    ours,
    reference,
)
from tests.training.stores import SMALL

KEYS = (
    *("net", "state_dict", "model", "model_state_dict", "model_state", "base_model", "params"),
    *("encoder", "network", "ema", "model_ema", "my_own_key"),
)
BESIDE = {
    "epoch": 3,
    "acc": np.float64(0.9),
    "best": torch.tensor(0.9),
    "history": np.arange(4.0),
    "args": argparse.Namespace(model="dgcnn", lr=0.1, points=[1024]),
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(3, 3)}}, "param_groups": [{"lr": 0.1}]},
    "rng": {"torch": torch.get_rng_state()},
}


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    return BACKBONES["pointnet"](CLASSES)


def assert_loads(path, source, name="pointnet"):
    model = ours(name).float()
    notes = load_published(path, model)
    wanted = source.state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in model.state_dict().items())
    return notes


@pytest.mark.parametrize("key", KEYS)
def test_weights_are_found_under_any_key_beside_anything(tmp_path, source, key):
    for number, content in enumerate((
        {key: source.state_dict()},
        {**BESIDE, key: source.state_dict()},
        {**BESIDE, "checkpoint": {"epoch": 1, key: {"state_dict": source.state_dict()}}},
        {**BESIDE, "model": {key: prefixed(source.state_dict(), "module.")}},
    )):  # fmt: skip
        torch.save(content, tmp_path / f"{number}.pth")
        assert assert_loads(tmp_path / f"{number}.pth", source) == ()


PARTS = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.")


@pytest.mark.parametrize("prefix", ["", *PARTS, *map("".join, product(PARTS[:4], repeat=2)),
                                    "_orig_mod.module.model.backbone."])  # fmt: skip
def test_prefixes_are_removed_however_often(tmp_path, source, prefix):
    torch.save({"model": prefixed(source.state_dict(), prefix)}, tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", source)
    torch.save(prefixed(reference("ssg").state_dict(), prefix), tmp_path / "b.pth")
    assert load_published(tmp_path / "b.pth", ours("pointnet2-ssg")) == ()


def test_a_lightning_checkpoint_is_read_without_its_losses_and_metrics(tmp_path, source):
    beside = {"criterion.weight": torch.ones(9, 9), "train_acc.total": torch.tensor(3)}
    state = {**prefixed(source.state_dict(), "model."), **beside}
    lightning = {"state_dict": state, "hyper_parameters": {"lr": 0.1}, "callbacks": {}}
    torch.save({**BESIDE, **lightning}, tmp_path / "last.ckpt")
    assert_loads(tmp_path / "last.ckpt", source)


def test_flat_weights_beside_other_entries_are_read(tmp_path, source):
    beside = {key: value for key, value in BESIDE.items() if not torch.is_tensor(value)}
    torch.save({**source.state_dict(), **beside}, tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", source)
    torch.save({**source.state_dict(), **BESIDE}, tmp_path / "b.pth")
    with pytest.raises(StoreError, match=r"best: not in the model"):  # it may be a parameter
        load_published(tmp_path / "b.pth", ours("pointnet").float())


def test_the_plain_network_is_taken_before_its_average_and_a_note_says_so(tmp_path, source):
    other = {name: tensor + 1 for name, tensor in source.state_dict().items()}
    torch.save({"ema": other, "model": source.state_dict()}, tmp_path / "a.pth")
    (note,) = assert_loads(tmp_path / "a.pth", source)
    assert "weights of 'model'" in note
    assert note.endswith("it also holds ema")


def test_several_unknown_networks_are_named(tmp_path, source):
    torch.save({"left": source.state_dict(), "right": source.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(StoreError, match="several networks: left, right") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet"))
    assert "a file of its own" in caught.value.fix


def test_contents_without_weights_are_named_briefly(tmp_path):
    torch.save({f"key{n}": n for n in range(300)}, tmp_path / "a.pth")
    with pytest.raises(StoreError, match=r"the keys key0, .*key7 and 292 more") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet"))
    assert len(str(caught.value)) < 600
    loop = {"epoch": 1}
    loop["model"] = loop
    torch.save(loop, tmp_path / "b.pth")
    with pytest.raises(StoreError, match="does not contain weights"):
        load_published(tmp_path / "b.pth", ours("pointnet"))


def test_a_published_dgcnn_gives_the_same_features(tmp_path):
    torch.manual_seed(0)
    theirs, model = PublishedDGCNN().double(), ours("dgcnn").eval()
    textbooks.disturb(theirs)
    torch.save(prefixed(theirs.eval().published(), "module."), tmp_path / "model.1024.t7")
    (note,) = load_published(tmp_path / "model.1024.t7", model)
    assert "the classifier was not loaded" in note
    with torch.no_grad():
        torch.testing.assert_close(model(POINTS).feature, theirs(POINTS)[1], rtol=1e-9, atol=1e-9)


def with_normals(multi):
    weights = Yanx27(multi).state_dict()
    for name in ("sa1.mlp_convs.0.weight", *(f"sa1.conv_blocks.{n}.0.weight" for n in range(3))):
        if name in weights:
            weights[name] = torch.zeros(len(weights[name]), 6, 1, 1)
    return weights


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("name", ["pointnet2-ssg", "pointnet2-msg", "dgcnn"])
def test_a_network_that_was_trained_with_normals_is_refused_with_the_number(tmp_path, multi, name):
    torch.save({"model_state_dict": with_normals(multi)}, tmp_path / "a.pth")
    with pytest.raises(StoreError, match="a different architecture") as caught:
        load_published(tmp_path / "a.pth", ours(name))
    fix = caught.value.fix.replace("__", ".")
    assert "trained with normals: set data.normals=true and model.backbone=pointnet2-" in fix


NETWORKS = {  # file: the network that it belongs to
    "yanx27 ssg": (lambda: Yanx27(False).state_dict(), "pointnet2-ssg"),
    "yanx27 msg": (lambda: Yanx27(True).state_dict(), "pointnet2-msg"),
    "reference": (lambda: reference("msg").state_dict(), "pointnet2-msg"),
    "dgcnn": (lambda: PublishedDGCNN().published(), "dgcnn"),
    "ours": (lambda: BACKBONES["pointnext-s"](9).state_dict(), "pointnext-s"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_another_network_is_named_with_the_setting_that_fits(tmp_path, name):
    make, backbone = NETWORKS[name]
    torch.save({"net": prefixed(make(), "module."), **BESIDE}, tmp_path / "a.pth")
    with pytest.raises(StoreError) as caught:
        load_published(tmp_path / "a.pth", ours("pointnet"))
    assert caught.value.what == f"this checkpoint belongs to a different architecture, {backbone}"
    assert caught.value.fix in (
        f"use it: --set model.backbone={backbone}", f"use it: model__backbone={backbone}"
    )  # fmt: skip
    assert find_backbone_of(tmp_path / "a.pth") == backbone


def test_every_backbone_is_found_by_its_encoder():
    for known in (BACKBONES, DENSE):
        for name, build in known.items():
            if name not in LARGER:
                assert find_backbone(build(7).state_dict(), known) == (name, [])


DIFFERENT = "a different architecture"  # what a file with these names alone belongs to


@pytest.mark.parametrize(
    ("first", "what", "helps"),
    [
        ("transform_net.conv1.0.weight", "DGCNN for segmentation", "model.backbone=dgcnn"),
        ("module.local_grouper_list.0.affine_alpha", DIFFERENT, "model.backbone"),
        ("feat.stn.conv1.weight", DIFFERENT, "model.backbone"),
        ("module.transformer_q.encoder.first_conv.0.weight", DIFFERENT, "model.backbone"),
    ],
)
def test_networks_that_cannot_be_loaded_are_named(tmp_path, first, what, helps):
    more = {f"{first.split('.')[0]}.x{n}": torch.zeros(3, 3) for n in range(300)}
    torch.save({"net": {first: torch.zeros(3, 3), **more}}, tmp_path / "a.pth")
    with pytest.raises(StoreError, match=what) as caught:
        load_published(tmp_path / "a.pth", ours("pointnet"))
    assert helps in str(caught.value).replace("__", ".")
    assert len(str(caught.value)) < 600


def test_other_numbers_of_classes_are_told_with_what_to_do(tmp_path, source):
    weights = {**source.state_dict(), "classifier.weight": torch.zeros(40, 512),
               "classifier.bias": torch.zeros(40)}  # fmt: skip
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(StoreError, match=r"classifier.weight: \[40, 512\]") as caught:
        load_published(tmp_path / "a.pth", ours("pointnet"))
    assert f"(40 classes in the checkpoint, {CLASSES} here)" in caught.value.fix
    assert "train finetune" in caught.value.fix


class Custom:
    """A class of a training script."""


@pytest.mark.parametrize("whole", [False, True])
def test_the_lines_for_a_refused_file_make_one_that_is_read(tmp_path, monkeypatch, whole):
    """They run the code in the file, and so only where the user trusts it."""
    source = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    content = source if whole else {"net": source.state_dict(), "config": Custom(), "epoch": 1}
    torch.save(content, tmp_path / "a.pth")
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(StoreError, match="unpickling it would run") as caught:
        load_published(tmp_path / "a.pth", model)
    lines = [line[4:] for line in caught.value.fix.splitlines() if line.startswith("    ")]
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {})
    load_published(tmp_path / "weights.pth", model)
    assert torch.equal(model[0].weight, source[0].weight)


@pytest.mark.slow
def test_the_advice_of_predict_for_a_file_works(tmp_path, store):
    weights = PublishedDGCNN().published()
    torch.save({"model": weights}, tmp_path / "best.pth")
    refused = pointcmt("predict", tmp_path / "best.pth", "--data", store.path)
    assert refused.returncode == 1
    assert "this is a file of weights, not the folder of a run" in refused.stderr
    (advice,) = [part for part in refused.stderr.split("`") if part.startswith("pointcmt train")]
    words = shlex.split(advice.replace("STORE", store.path).replace("RUN", str(tmp_path / "R")))
    settings = [f"--set={value}" for value in SMALL["finetune"]]
    done = pointcmt(*words[1:], "--epochs", 1, "--device", "cpu", *settings)
    assert done.returncode == 0, done.stderr
    later = ("head.", "classifier.")
    count = sum(not name.startswith(later) for name in ours("dgcnn").state_dict())
    assert f"encoder {count} of {count} tensors" in done.stderr
    done = pointcmt("evaluate", tmp_path / "R", "--data", store.path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert os.path.exists(tmp_path / "R/evaluation.json")
