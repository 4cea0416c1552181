"""From a run of `mvnet`: classes, parts and probes begin with its encoder and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pointcmt.errors import UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.networks.view_consistency import without_classes
from pointcmt.training.recipes import RECIPES
from pointcmt.training.runs.folder import Run, open_run
from pointcmt.training.runs.pretrained import (
    PointNetwork,
    open_network,
    part_of,
    resolve_config,
    same_network,
    start_from,
)
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


@pytest.fixture(scope="module")
def pre(small_resnet, toy_store, tmp_path_factory):
    """One epoch of pre-training on built-in shapes."""
    folder = tmp_path_factory.mktemp("mvnet") / "run"
    config = small_config("mvnet", "data.points=128", epochs=1)
    train(toy_store, config, folder, device="cpu")
    return folder


def best(run):
    return load_file(next((run / "best").glob("weights-*")))


def test_its_point_network_has_the_names_of_any_other(pre):
    network = open_network(pre)
    names = DENSE["dgcnn"](1).state_dict().keys()
    assert network.weights.keys() == {n for n in names if not n.startswith(("head", "classifier"))}
    theirs = best(pre)
    assert all(torch.equal(t, theirs[f"backbone.{name}"]) for name, t in network.weights.items())


@pytest.mark.parametrize("recipe", ["finetune", "partseg"])
def test_a_frozen_start_ends_with_its_encoder(recipe, pre, toy_store, tmp_path, messages):
    """The whole way: found by name, loaded, trained, and a head made anew."""
    overrides = ["load=all", "data.points=64", "data.batch_size=4", "model.encoder=frozen"]
    overrides += ["schedule.warmup=0"]
    config = load_config(recipe, None, overrides, epochs=1, init=str(pre))
    train(toy_store, config, tmp_path, device="cpu")
    assert open_run(tmp_path).config.model.backbone == "dgcnn"
    theirs, mine = open_network(pre).weights, open_network(tmp_path).weights
    encoder = [name for name in theirs if part_of(name) == "encoder"]
    assert len(encoder) > 20
    assert all(torch.equal(theirs[name], mine[name]) for name in encoder)
    assert f"encoder {len(encoder)} of {len(encoder)} tensors" in messages()
    assert "head.0.weight" not in theirs


@pytest.mark.parametrize("recipe", ["finetune", "partseg"])
def test_it_has_no_head_to_be_loaded(recipe, pre, toy_store):
    """For what has no decoder `all` is the encoder alone, and that is said."""
    states, notes = {}, {}
    for load in ("encoder", "all"):
        config = load_config(recipe, None, [f"load={load}", "data.points=64"], init=str(pre))
        settled = resolve_config(config, toy_store)
        torch.manual_seed(0)
        model = RECIPES[recipe](settled, 3, True).model
        (notes[load],) = start_from(settled, model, ["a", "b", "c"])
        states[load] = model.state_dict()
    for name, tensor in states["encoder"].items():
        assert torch.equal(tensor, states["all"][name]), name
    assert "head 0 of" in notes["all"]
    assert notes["all"].endswith("; the same as load=encoder")
    assert "the same" not in notes["encoder"]


def test_its_features_are_those_of_the_points_pooled(pre, toy_store):
    """It has learned no classes: of all points' features the maximum and the mean."""
    (found,) = probe(pre, toy_store, device="cpu")
    model = DENSE["dgcnn"](1)
    without_classes(model)
    model.load_state_dict(
        {k.removeprefix("backbone."): t for k, t in best(pre).items() if k.startswith("backbone.")}
    )
    shape = int(np.flatnonzero(toy_store.splits == 1)[0])
    cloud = torch.from_numpy(toy_store.read("points", shape)[None, :128])
    with torch.no_grad():
        local = model.eval()(cloud, local=True).local[0]
    expected = torch.cat([local.max(dim=0).values, local.mean(dim=0)]).numpy()
    assert found.frozen.features["trained"][shape] == pytest.approx(expected, abs=1e-5)
    assert found.as_json()["width"] == 2 * model.local_width
    assert "maximum and mean over the points' features" in found.describe()


def named(recipe, backbone, classes=0):
    config = load_config(recipe, None, [f"model.backbone={backbone}"])
    return PointNetwork(Run(Path("RUN"), config, {"class_names": ["c"] * classes}), 1, {})


@pytest.mark.parametrize(
    ("recipe", "backbone"), [("mvnet", "pointnet2"), ("student", "pointnet2-ssg")]
)
def test_the_random_network_is_that_of_the_run_before_any_training(recipe, backbone):
    """Whatever the classes that it will know: what is made after them has the same weights."""
    network = named(recipe, backbone, classes=7)
    torch.manual_seed(3)
    model = RECIPES[recipe](network.config, 7, True).model
    made = model.get_submodule(network.config.point_network.rstrip(".")).state_dict()
    torch.manual_seed(3)
    for name, tensor in network.build_random().state_dict().items():
        assert torch.equal(tensor, made[name]), name


@pytest.mark.parametrize(
    ("recipe", "backbone", "dense", "found"),
    [
        ("mvnet", "pointnet2", False, "pointnet2-ssg"),
        ("mvnet", "pointnet2", True, "pointnet2"),
        ("mvnet", "pointvit-b", False, "pointvit-b"),
        ("student", "pointnet2-ssg", True, "pointnet2"),
        ("student", "pointmlp", False, "pointmlp"),
    ],
)
def test_the_same_encoder_with_and_without_a_decoder(recipe, backbone, dense, found):
    assert same_network(named(recipe, backbone), dense) == found


def test_some_networks_have_no_features_of_points():
    with pytest.raises(UsageError, match="pointmlp has no per-point features"):
        same_network(named("student", "pointmlp"), True)
