"""The recipe mvnet: its defaults, its validation, and the settings and stores that it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pointcmt.datasets.sources import list_shapes, select
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.recipes import RECIPES
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.splits import split_shapes
from tests.stores import render_listing, render_toy
from tests.training.equal_runs import assert_equal_runs
from tests.training.recipes.mvnet_batches import (
    CPU,
    batch_of,
    evaluation_stream,
    front_and_back,
    prepared,
)
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


def test_maps_without_points_are_refused(rendered):
    with pytest.raises(UsageError, match="no point is visible in the maps") as caught:
        prepared(rendered, "projection.radius=0.001", "projection.fill=false")
    assert "projection.radius=0" in caught.value.fix


def test_the_deployed_network_returns_point_features(rendered):
    """Its cost includes a decoder and no classification head."""
    recipe = prepared(rendered, "model.backbone=pointvit-s")
    batch = batch_of(recipe, rendered)
    network, inputs = recipe.deployable(recipe.model.eval(), batch)
    assert network(*inputs).shape == (6, 256, 256)
    whole = DENSE["pointvit-s"](1)
    left_out = [*whole.head.parameters(), *whole.classifier.parameters()]
    counts = [sum(p.numel() for p in some) for some in (whole.parameters(), left_out)]
    assert sum(p.numel() for p in network.parameters()) == counts[0] - counts[1]


def test_validation_is_deterministic(rendered):
    recipe = prepared(
        rendered, "matching.method=infonce", "matching.matches=50", "matching.weight=1"
    )
    stream = evaluation_stream(recipe, rendered, np.arange(7), 4, all_views=False)
    passes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        batches = list(stream)
        assert [batch["view"].shape[1] for batch in batches] == [2, 2]
        passes.append([recipe.measure(recipe.model.eval(), batch) for batch in batches])
    assert passes[0] == passes[1]
    assert passes[0][0]["loss"] == passes[0][0]["transfer"] + passes[0][0]["matching"]
    halves = evaluation_stream(
        recipe, rendered, np.arange(7), 4, rank=1, world_size=2, all_views=False
    )
    mine = [batch["view"] for batch in halves]
    assert torch.equal(mine[0], batches[0]["view"][2:])


# Data without labels


def test_labels_are_not_used(rendered, tmp_path):
    """The same shapes without classes train the same network, bit for bit."""
    listing = select(list_shapes("toy", None), None, 24)
    unknown = tuple(replace(shape, class_name=None) for shape in listing.shapes)
    bare = replace(listing, shapes=unknown, class_names=())
    store = render_listing(bare, tmp_path / "S", rig="circle12", shard=8)
    assert (store.labels == -1).all()
    for name, each in (("known", rendered), ("unknown", store)):
        train(each, small_config("mvnet", epochs=1), tmp_path / name, device="cpu")
    assert_equal_runs(tmp_path / "known", tmp_path / "unknown")


def test_shapes_are_split_without_classes(rendered, make_store, tmp_path):
    data = small_config("mvnet").data
    split = split_shapes(rendered, data)
    both = np.concatenate([split.train, split.validation])
    train_shapes = np.flatnonzero(rendered.splits == 0)
    assert np.array_equal(np.sort(both), train_shapes)
    assert len(split.validation) == round(0.2 * len(train_shapes))
    less = split_shapes(rendered, data.model_copy(update={"fraction": 0.5}))
    assert np.array_equal(less.validation, split.validation)
    assert set(less.train) < set(split.train)
    assert len(less.train) == round(0.5 * len(split.train))
    other = split_shapes(rendered, data.model_copy(update={"split_seed": 1}))
    assert not np.array_equal(other.validation, split.validation)
    own = split_shapes(make_store(val=(1, 2, 0)), data)
    assert (len(own.validation), own.notes) == (3, ("validating on the store's val split",))
    with pytest.raises(StoreError, match="one rendered shape"):
        split_shapes(make_store(train=(1, 0, 0), test=(1, 1, 1)), data)


# Invalid stores and settings


def test_a_store_without_correspondences_is_refused(tmp_path):
    store = render_toy(tmp_path / "S", limit=12, correspondences=False)
    with pytest.raises(StoreError, match="no correspondences") as caught:
        train(store, small_config("mvnet", epochs=1), tmp_path / "run", device="cpu")
    assert "build-correspondences" in caught.value.fix


def test_a_rig_without_overlapping_views_is_reported(rendered, tmp_path, messages):
    """The front and back views of a cube share no face."""
    said = "no two of the sampled views"
    store = front_and_back(tmp_path, 1)
    overrides = {"transfer.weight=0": True, "matching.weight=0": False}
    for override, noted in overrides.items():
        recipe = RECIPES["mvnet"](small_config("mvnet", override), 1, True)
        context = RecipeContext(store, np.arange(1), {}, CPU, Accelerator(cpu=True))
        recipe.prepare(context)
        assert (said in messages()) is noted
    recipe = RECIPES["mvnet"](small_config("mvnet", "transfer.weight=0"), 1, True)
    recipe.prepare(RecipeContext(rendered, np.arange(24), {}, CPU, Accelerator(cpu=True)))
    assert said not in messages()


@pytest.mark.parametrize(
    ("override", "message", "where"),
    [
        ("data.views=14", "14 views per shape, but the store has 12", "data.views"),
        ("data.points=512", "512 points per shape, but the store has 256", "data.points"),
        ("projection.size=64", "64² pixels is larger than the images of 32²", "projection.size"),
        ("images.levels=[0.9, 1.0]", "one of them twice", "images.levels"),
    ],
)
def test_settings_that_do_not_fit_the_store_are_reported(
    override, message, where, rendered, tmp_path
):
    with pytest.raises(UsageError, match=message) as caught:
        train(rendered, small_config("mvnet", override, epochs=1), tmp_path / "run", device="cpu")
    assert caught.value.where == where
    assert caught.value.fix
    if where.startswith("data."):
        assert f"--set {where}=" in caught.value.fix


def test_an_image_size_that_patches_do_not_tile_is_refused(rendered, tmp_path):
    overrides = ("images.backbone=dinov2-small", "images.size=30")
    with pytest.raises(UsageError, match=r"patches of 14², which do not tile 30²") as caught:
        train(rendered, small_config("mvnet", *overrides, epochs=1), tmp_path / "run", device="cpu")
    assert (caught.value.where, "28 or 42" in caught.value.fix) == ("images.size", True)


def test_masking_that_leaves_too_few_points_is_refused():
    overrides = ("model.backbone=pointnet2", "data.points=600", "masking=0.3")
    with pytest.raises(UsageError, match="at least 512 points, but masking leaves 420") as caught:
        RECIPES["mvnet"](small_config("mvnet", *overrides), 1, True)
    assert caught.value.where == "data.points"


def test_missing_image_weights_are_reported_with_their_option(rendered, tmp_path):
    (tmp_path / "empty").mkdir()
    config = small_config("mvnet", f"images.weights={tmp_path / 'empty'}")
    with pytest.raises(UsageError, match="weights cannot be read") as caught:
        train(rendered, config, tmp_path / "run", device="cpu")
    assert "--set images.weights=" in caught.value.fix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.views=3"], "even, since views are used in pairs"),
        (["data.views=1"], "greater than or equal to 2"),
        (["images.levels=[]"], "increasing fractions"),
        (["images.levels=[1.0, 0.5]"], "increasing fractions"),
        (["images.levels=[12]"], "less than or equal to 1"),
        (["transfer.weight=0", "matching.weight=0"], "both 0, so there is no loss"),
        (["projection.size=57"], "multiple of matching.stride, 2"),
        (["model.width=100", "matching.heads=3"], "multiple of 4 · matching.heads, 12"),
        (["preset=official"], "should be 'mvnet-style'"),
    ],
)
def test_invalid_configurations_are_refused(overrides, message):
    with pytest.raises(UsageError) as caught:
        load_config("mvnet", None, overrides)
    assert message in str(caught.value)
    assert "{" not in str(caught.value)  # not all of the configuration


def test_the_defaults_equal_the_specification():
    """Except for λ, which docs/pretraining.md explains."""
    config = load_config("mvnet")
    assert (config.preset, config.epochs, config.masking) == ("mvnet-style", 100, 0.3)
    assert (config.images.backbone, config.images.size) == ("dinov2-base", 224)
    assert (config.transfer.coverage, config.matching.weight) == (0.25, 0.03)
    assert (config.matching.matches, config.matching.temperature) == (4096, 0.07)
    assert config.projection.size // config.matching.stride == 224 // 8
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == (
        "adamw",
        5e-4,
        0.05,
    )
    assert (optimizer.clip_norm, schedule.name, schedule.warmup) == (1.0, "cosine", 10.0)
    assert config.loop.precision == "bf16"
    assert json.loads(config.model_dump_json())["images"]["levels"] == [0.5, 0.75, 1.0]
