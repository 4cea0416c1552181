"""Fine-tuning: what is loaded, what is frozen, and comparisons of all loads."""

import json

import pytest
import torch
from safetensors.torch import load_file

from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.pointcmt import input_folders
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.networks import export, load_exported
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.pretrained import load_parts, part_of, resolve_config, start_from
from pointcmt.training.study import study
from tests.training import textbooks
from tests.training.equal_runs import assert_equal_runs, metrics, tensors
from tests.training.stores import small_config


@pytest.fixture(scope="module")
def pre(store, tmp_path_factory):
    """A student of three epochs to start from."""
    folder = tmp_path_factory.mktemp("pre") / "run"
    train(store, small_config("student", epochs=3, seed=7), folder, device="cpu")
    return folder


def config(*overrides, **flags):
    return small_config("finetune", "schedule.warmup=1", *overrides, **{"epochs": 2, **flags})


def weights(run):
    return load_file(next((run / "best").glob("weights-*")))


def begun(settings, class_names, pre, store):
    """The network of a new run, its weights before loading, and the weights to load."""
    settled = resolve_config(settings, store)
    torch.manual_seed(settled.seed)
    model = BACKBONES[settled.model.backbone](len(class_names))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    notes = start_from(settled, model, class_names) if settled.init else ()
    return before, model.state_dict(), weights(pre), notes


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("load", ["encoder", "all", "none"])
def test_exactly_the_requested_layers_are_loaded(load, same, pre, store):
    names = list(store.class_names) if same else ["ball", "rod", "plate"]  # another order
    before, after, theirs, notes = begun(config(f"load={load}", init=str(pre)), names, pre, store)
    expected = {
        "encoder": ("encoder",),
        "all": ("encoder", "head", "classifier") if same else ("encoder", "head"),
        "none": (),
    }[load]
    for name, tensor in after.items():
        source = theirs if part_of(name) in expected else before
        assert torch.equal(tensor, source[name]), name
    differ = [name for name in after if not torch.equal(before[name], theirs[name])]
    assert {part_of(name) for name in differ} == {"encoder", "head", "classifier"}
    if load != "none":
        count = {part: sum(part_of(n) == part for n in after) for part in map(part_of, after)}
        for part, total in count.items():
            assert f"{part} {total if part in expected else 0} of {total} tensors" in notes[0]


def test_the_classifier_is_not_loaded_for_another_number_of_classes(pre, store):
    names = ["ball", "plate", "rod", "cone"]
    before, after, theirs, notes = begun(config("load=all", init=str(pre)), names, pre, store)
    for name, tensor in after.items():
        assert torch.equal(tensor, (before if "classifier" in name else theirs)[name])
    assert "classifier 0 of 2 tensors (2 more are unused)" in notes[0]


def test_load_none_equals_the_vanilla_student_bit_for_bit(pre, store, tmp_path):
    overrides = ("schedule.warmup=1", "optimizer.learning_rate=0.001")
    student = small_config("student", *overrides, epochs=2)
    train(store, student, tmp_path / "student", device="cpu")
    train(store, config(*overrides, "load=none", init=str(pre)), tmp_path / "none", device="cpu")
    assert_equal_runs(tmp_path / "student", tmp_path / "none")
    assert open_run(tmp_path / "none").facts["inputs"] == {}


def test_a_resumed_run_equals_an_uninterrupted_one(pre, store, tmp_path):
    settings = config("load=all", epochs=3, init=str(pre))
    train(store, settings, tmp_path / "straight", device="cpu")
    for epoch in (1, 2, 3):
        torch.manual_seed(999)
        train(store, settings, tmp_path / "resumed", device="cpu", until=epoch)
    assert_equal_runs(tmp_path / "straight", tmp_path / "resumed")
    run = open_run(tmp_path / "straight")
    assert run.config.model.backbone == "pointnet"  # found in the run it starts from
    assert run.facts["inputs"].keys() == {"init"}


def test_a_frozen_encoder_does_not_change(pre, store, tmp_path):
    """Its running statistics do not change either; the layers after it are trained."""
    settings = config("model.encoder=frozen", "optimizer.learning_rate=0.01", init=str(pre))
    result = train(store, settings, tmp_path, device="cpu")
    theirs, mine = weights(pre), weights(tmp_path)
    changed = {part_of(name) for name in mine if not torch.equal(mine[name], theirs[name])}
    assert changed == {"head", "classifier"}
    encoder = [t for n, t in tensors(tmp_path).items() if "optimizer/" in n and "encoder" in n]
    assert not encoder
    trained = sum(
        p.numel() for n, p in BACKBONES["pointnet"](3).named_parameters() if part_of(n) != "encoder"
    )
    assert result.cost.trainable_parameters == trained


def test_loaded_weights_predict_as_well_as_before(pre, store, tmp_path):
    """After one epoch at a negligible learning rate, the student is as accurate as before."""
    overrides = ("load=all", "optimizer.learning_rate=1e-30", "optimizer.weight_decay=0")
    train(store, config(*overrides, epochs=1, init=str(pre)), tmp_path, device="cpu")
    assert metrics(tmp_path)[0]["accuracy"] > 0.8
    assert evaluate(tmp_path, store, device="cpu").shapes == 18


def test_a_fine_tuned_student_is_exported(pre, store, tmp_path):
    train(store, config(epochs=1, init=str(pre)), tmp_path / "run", device="cpu")
    export(tmp_path / "run", "safetensors", tmp_path / "weights.safetensors")
    model, facts = load_exported(tmp_path / "weights.safetensors")
    theirs = weights(tmp_path / "run")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())
    assert (facts["recipe"], facts["backbone"], facts["points"]) == ("finetune", "pointnet", 64)


def test_each_load_is_compared_with_each_seed(pre, store, tmp_path):
    """Each starts from the same weights, except for those that it loads."""
    settings = config("load=all", "data.fraction=0.5", epochs=1, init=str(pre))
    found = study(store, settings, (0, 1), tmp_path, device="cpu")
    assert list(found.reports) == [
        (load, which) for load in ("none", "encoder", "all") for which in ("best", "last")
    ]
    for seed in (0, 1):
        for load in ("none", "encoder", "all"):
            run = open_run(tmp_path / f"seed-{seed}" / load)
            assert (run.config.seed, run.config.load) == (seed, load)
            assert ("init" in run.facts["inputs"]) == (load != "none")
            assert run.facts["split"] == open_run(tmp_path / "seed-0" / "none").facts["split"]
    assert found.differences.keys() == {
        (load, which) for load in ("encoder", "all") for which in ("best", "last")
    }
    for (load, which), difference in found.differences.items():
        gains = [
            mine.overall_accuracy - base.overall_accuracy
            for mine, base in zip(
                found.reports[load, which], found.reports["none", which], strict=True
            )
        ]
        assert difference.mean == pytest.approx(sum(gains) / 2)
        assert f"{load} - none, {which}: {100 * difference.mean:+.2f}" in found.describe()
    stored = json.loads((tmp_path / "study.json").read_text())
    assert [(d["variant"], d["minus"]) for d in stored["differences"]] == [
        ("encoder", "none"), ("encoder", "none"), ("all", "none"), ("all", "none"),
    ]  # fmt: skip


def test_runs_with_fractions_of_the_labels(pre, store, tmp_path, messages):
    """A tenth of 33 labels is one per class; the batch is smaller than configured."""
    for fraction, batch in (("0.1", 3), ("1", 8)):
        settings = config(f"data.fraction={fraction}", epochs=1, init=str(pre))
        folder = tmp_path / fraction
        result = train(store, settings, folder, device="cpu")
        assert result.epochs == 1
        said = "3 train shapes do not fill a batch of 8" in messages()
        assert said is (batch == 3)
        assert open_run(folder).config.data.batch_size == batch
        assert train(store, settings, folder, device="cpu").last == result.last  # the same run
        messages()
        shares = evaluate(folder, store, "train", device="cpu")
        assert shares.shapes == {"0.1": 3, "1": 33}[fraction]
        assert set(shares.true) == {0, 1, 2}


def test_training_starts_from_a_published_checkpoint(store, tmp_path):
    """Its encoder and head are loaded; its classes are unknown."""
    theirs = textbooks.msg(3)
    torch.save({"model_state": theirs.state_dict()}, tmp_path / "published.pth")
    settings = config("model.backbone=pointnet2-msg", "load=all", init=f"{tmp_path}/published.pth")
    model = BACKBONES["pointnet2-msg"](3)
    classifier = model.classifier.weight.clone()
    (note,) = start_from(resolve_config(settings, store), model, ["a", "b", "c"])
    assert torch.equal(model.head[0].weight, theirs.state_dict()["fc_layer1.0.fc.weight"])
    assert torch.equal(model.classifier.weight, classifier)
    assert "classifier 0 of 2 tensors (2 more are unused)" in note
    with pytest.raises(UsageError, match=r"model\.backbone is required"):
        resolve_config(config(init=f"{tmp_path}/published.pth"), store)


def test_another_architecture_is_refused_with_names_and_shapes(pre, store, tmp_path):
    settings = config("model.backbone=dgcnn", init=str(pre))
    with pytest.raises(StoreError, match=r"align_feature\.head\.\S+: not in the model"):
        train(store, settings, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_width_is_refused_with_the_shapes():
    small = BACKBONES["pointvit-s"](3).state_dict()
    with pytest.raises(StoreError, match=r"\[384\] in the checkpoint, \[768\] in the model"):
        load_parts(BACKBONES["pointvit-b"](3), small, "encoder", True, "a run")


@pytest.mark.usefixtures("small_resnet")
def test_runs_that_cannot_be_started_from_are_reported(store, tmp_path):
    with pytest.raises(UsageError, match="load=encoder needs a run to load weights from"):
        train(store, config(), tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match=r"model\.backbone is required"):
        train(store, config("load=none"), tmp_path / "run", device="cpu")
    with pytest.raises(StoreError, match="no run here"):
        train(store, config(init="/nowhere"), tmp_path / "run", device="cpu")
    train(store, small_config("teacher", epochs=1), tmp_path / "teacher", device="cpu")
    with pytest.raises(UsageError, match="has no point network"):
        train(store, config(init=str(tmp_path / "teacher")), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_load_none_needs_no_run(store, tmp_path):
    settings = config("load=none", "model.backbone=pointnet", epochs=1)
    assert input_folders(settings) == {}
    assert train(store, settings, tmp_path, device="cpu").epochs == 1
    model = BACKBONES["pointnet"](3)
    load_weights(tmp_path / "best", model)
