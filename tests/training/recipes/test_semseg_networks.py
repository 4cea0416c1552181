"""Segmentation of scenes with few labels, in bfloat16, with PointNet++, and from other weights."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from pointcmt.datasets.streams import open_stream
from pointcmt.errors import MisfitError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE, SCENES
from pointcmt.training.networks.backbones.pointvit import ScenePointViT, Size
from pointcmt.training.recipes import build_recipe, semseg
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.checkpoint import read_weights
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.point_labels import count_points
from pointcmt.training.runs.pretrained import open_network
from pointcmt.training.runs.splits import split_shapes
from pointcmt.training.session import plan_session
from tests.training.equal_runs import metrics
from tests.training.plain_student import PlainStudent
from tests.training.recipes.test_semseg import NAME, config
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_unet")
POINTNET2 = ("model.backbone=pointnet2", "data.crop=600", "data.voxel=0.2")
EVERYTHING = (
    "augmentation.dropout_probability=1",
    "augmentation.tilt_probability=1",
    "augmentation.elastic_probability=1",
    "augmentation.autocontrast=1",
    "augmentation.mix=1",
)


@pytest.fixture(scope="module")
def pointnet2(small_unet, rooms, tmp_path_factory):
    """A run of PointNet++, validated in pieces of 600 points."""
    folder = tmp_path_factory.mktemp("pointnet2") / "run"
    train(rooms, config(*POINTNET2, epochs=2), folder, device="cpu")
    return folder


@pytest.mark.parametrize("count", [1, 30])
def test_so_many_labeled_points_reach_the_loss(count, rooms, monkeypatch):
    """Of whole scenes exactly as many of each, whatever augmentation leaves out."""
    settings = config(f"data.labeled_points={count}", "data.crop=0", "data.voxel=1", *EVERYTHING)
    recipe, seen = build_recipe(settings, 4, False), []
    original = semseg.smoothed_cross_entropy

    def counting(logits, labels, *others):
        seen.append(len(labels))
        return original(logits, labels, *others)

    monkeypatch.setattr(semseg, "smoothed_cross_entropy", counting)
    generator = torch.Generator().manual_seed(0)
    for batch in open_stream(rooms, np.arange(6), recipe.stream):
        recipe.loss(recipe.model, batch, generator)
    assert seen == [2 * count] * 3


def test_all_labels_weigh_classes_and_validate(rooms, tmp_path):
    balanced = ("loss.class_weights=balanced", "data.crop=0", "data.voxel=0.5")
    few, full = config(*balanced, "data.labeled_points=3", epochs=1), config(*balanced, epochs=1)
    train(rooms, few, tmp_path, device="cpu")
    assert "labels of 3 points of each train scene" in split_shapes(rooms, few.data).notes
    one, other = (prepared(rooms, each).weights for each in (few, full))
    assert torch.equal(one, other)
    assert len(one.unique()) > 2
    validated = evaluate(tmp_path, rooms, "val", device="cpu").total.counts.sum(axis=1)
    assert (
        validated.tolist() == count_points(rooms, split_shapes(rooms, few.data).validation).tolist()
    )


def prepared(store, settings):
    """The recipe with its class weights."""
    split = split_shapes(store, settings.data)
    shapes = np.concatenate([split.train, split.validation])
    context = RecipeContext(store, shapes, {}, torch.device("cpu"), Accelerator(), split.train)
    return build_recipe(settings, 4, False).prepare(context)


def test_pointnet2_trains_and_predicts_every_point(pointnet2, rooms):
    records = metrics(pointnet2)
    assert records[-1]["loss"] < records[0]["loss"]
    report = evaluate(pointnet2, rooms, "val", device="cpu")
    assert report.total.counts[:, -1].sum() == 0  # none without a class
    best = max(records, key=lambda record: (record["val_miou"], record["epoch"]))
    assert best["val_miou"] == pytest.approx(report.measures["miou"], abs=1e-12)
    assert (pointnet2 / "scenes.png").exists()


def test_the_crops_of_pointnet2_have_a_size():
    assert config("model.backbone=pointnet2", "data.crop=700").data.crop == 700
    assert semseg_config("model.backbone=pointnet2").data.crop == 8192
    assert semseg_config("model.backbone=dgcnn").data.crop == 4096
    assert semseg_config().data.crop == 100_000
    for name in ("pointnet2", "pointvit-s"):
        with pytest.raises(UsageError, match=rf"{name}.*data\.crop should not be 0"):
            config(f"model.backbone={name}", "data.crop=0")


def semseg_config(*overrides):
    """The defaults."""
    return load_config("semseg", None, overrides)


@pytest.mark.parametrize("network", [(), POINTNET2])
def test_bfloat16_trains_weights_in_float32(network, rooms, tmp_path):
    for precision in ("fp32", "bf16"):
        settings = config(*network, f"loop.precision={precision}", *EVERYTHING, epochs=1)
        train(rooms, settings, tmp_path / precision, device="cpu")
    exact, rounded = (metrics(tmp_path / precision) for precision in ("fp32", "bf16"))
    assert rounded[0]["loss"] != exact[0]["loss"]
    assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.02)
    assert np.isfinite(rounded[0]["val_loss"])
    _, weights = read_weights(tmp_path / "bf16" / "last")
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}


def test_pointnet2_starts_from_runs_on_scenes_alone(pointnet2, rooms, store, tmp_path, monkeypatch):
    start = {"init": str(pointnet2), "epochs": 1}
    train(rooms, config(*POINTNET2, "model.encoder=frozen", **start), tmp_path / "run", "cpu")
    theirs, mine = (open_network(folder).weights for folder in (pointnet2, tmp_path / "run"))
    encoder = [name for name in mine if name.startswith("levels.") and "running" not in name]
    assert encoder
    assert all(torch.equal(theirs[name], mine[name]) for name in encoder)
    with pytest.raises(UsageError, match=r"is pointnet2, so model\.backbone has to be named"):
        plan(rooms, tmp_path, **start)
    with pytest.raises(MisfitError) as caught:
        plan(rooms, tmp_path, *POINTNET2, "data.color=false", **start)
    assert "start from a run on scenes with pointnet2, whose data.color" in caught.value.fix
    monkeypatch.setitem(BACKBONES, "pointnet2-ssg", PlainStudent)
    student = small_config("student", "model.backbone=pointnet2-ssg", epochs=1)
    train(store, student, tmp_path / "shapes", device="cpu")
    with pytest.raises(MisfitError) as caught:
        plan(rooms, tmp_path, *POINTNET2, init=str(tmp_path / "shapes"))
    assert "start from a run on scenes with pointnet2" in caught.value.fix


def test_pointnet2_starts_from_its_pre_training(rooms, tmp_path):
    """It is one network in both recipes: all of its weights fit, those of points included."""
    settings = ("model.backbone=pointnet2", "data.points=1300", "masking=0.1", "data.batch_size=2")
    settings += ("data.validation=0.25", "data.fraction=0.5", "transfer.weight=0")
    settings += ("projection.size=16", "model.width=16", "schedule.warmup=0", "scenes.pairs=1")
    pre = load_config("mvnet", None, settings, epochs=1)
    train(rooms, pre, tmp_path / "pre", device="cpu")
    planned = plan(rooms, tmp_path, *POINTNET2, "load=all", init=str(tmp_path / "pre"))
    theirs = open_network(tmp_path / "pre").weights
    mine = planned.recipe.model.get_submodule("backbone").state_dict()
    assert theirs.keys() == mine.keys()
    assert all(torch.equal(theirs[name], mine[name]) for name in mine)


@pytest.mark.parametrize("name", ["dgcnn", "pointvit-s"])
def test_other_networks_of_points_train_and_predict_every_point(name, rooms, tmp_path, monkeypatch):
    monkeypatch.setitem(SCENES, "pointvit-s", partial(ScenePointViT, size=Size(64, 3)))
    few = ("data.crop=200", "data.voxel=0.2", "data.fraction=0.5")
    train(rooms, config(f"model.backbone={name}", *few, epochs=1), tmp_path, device="cpu")
    report = evaluate(tmp_path, rooms, "val", device="cpu")
    assert report.total.counts[:, -1].sum() == 0  # none without a class
    assert metrics(tmp_path)[0]["val_miou"] == pytest.approx(report.measures["miou"], abs=1e-12)


def plan(store, folder, *overrides, **flags):
    """Check a run that starts from another one."""
    backbone = () if any("backbone" in o for o in overrides) else ("model.backbone=''",)
    return plan_session(
        store, config(*backbone, *overrides, **flags), folder / "new", Accelerator()
    )


def test_files_of_weights_are_read_or_refused_with_advice(rooms, tmp_path):
    """A file of the same sparse U-Net; one of it with colors; one of another project's network."""
    path = tmp_path / "weights.safetensors"
    own = DENSE[NAME](4).state_dict()
    save_file(own, path)
    plain = ("data.color=false", f"model.backbone={NAME}")
    planned = plan(rooms, tmp_path, *plain, init=str(path))
    loaded = planned.recipe.model.state_dict()
    encoder = [name for name in own if name.startswith("encoder.")]
    assert all(torch.equal(loaded[f"backbone.{name}"], own[name]) for name in encoder)
    advice = f"start from a run on shapes or scenes with {NAME}"
    with pytest.raises(MisfitError) as caught:
        plan(rooms, tmp_path, f"model.backbone={NAME}", init=str(path))
    assert advice in caught.value.fix
    save_file({"transformer_q.blocks.blocks.0.norm1.weight": torch.zeros(384)}, path)
    with pytest.raises(MisfitError, match="a different architecture") as caught:
        plan(rooms, tmp_path, *plain, init=str(path))
    assert advice in caught.value.fix


def test_runs_of_earlier_versions_are_opened(pointnet2, tmp_path):
    """They lack options whose defaults are what those versions did."""
    shutil.copytree(pointnet2, tmp_path / "run")
    path = tmp_path / "run/run.json"
    facts = json.loads(path.read_text())
    before = ("flip", "scale", "jitter", "color_shift", "color_noise")
    facts["config"]["augmentation"] = {n: facts["config"]["augmentation"][n] for n in before}
    del facts["config"]["data"]["labeled_points"]
    path.write_text(json.dumps(facts))
    assert open_run(tmp_path / "run").config == open_run(pointnet2).config
