"""Part segmentation: metrics by hand and by plain loops, runs compared bit for bit."""

import json
import shutil

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import load_file

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.evaluation.segmentation import PartReport
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.part_network import PartNetwork
from pointcmt.training.ops.iou import shape_iou
from pointcmt.training.recipes import RECIPES
from pointcmt.training.report.page import write_report
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.pretrained import (
    load_parts,
    open_network,
    part_of,
    resolve_config,
    start_from,
)
from pointcmt.training.study import study
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import PARTS, small_config

NAMES = {name: tuple(parts) for name, parts in PARTS.items()}
COUNTS = (2, 2, 3)


@pytest.fixture(scope="module")
def store(make_store):
    return make_store(parts=True)


def config(*overrides, **flags):
    return small_config("partseg", *overrides, **{"epochs": 2, **flags})


def baseline(*overrides, **flags):
    return config("load=none", *overrides, **flags)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A segmentation run of six epochs, from random weights."""
    folder = tmp_path_factory.mktemp("partseg") / "run"
    train(store, baseline(epochs=6), folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def pre(store, tmp_path_factory):
    """A classifier with the same encoder."""
    folder = tmp_path_factory.mktemp("pre") / "run"
    settings = small_config("student", "model.backbone=dgcnn", epochs=1, seed=7)
    train(store, settings, folder, device="cpu")
    return folder


def plain_iou(predicted, true, parts):
    """The IoU of one shape, part by part, with sets of point indices."""
    found = []
    for part in range(parts):
        mine = {i for i, p in enumerate(predicted) if p == part}
        its = {i for i, p in enumerate(true) if p == part}
        found.append(len(mine & its) / len(mine | its) if mine | its else 1.0)
    return sum(found) / parts


@pytest.mark.parametrize(
    ("predicted", "true", "parts", "iou"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 2, 1.0),
        ([0, 0, 0, 0], [0, 0, 1, 1], 2, (2 / 4 + 0) / 2),
        ([0, 0, 1, 1], [0, 1, 1, 1], 2, (1 / 2 + 2 / 3) / 2),
        ([0, 0, 0, 0], [0, 0, 0, 0], 3, 1.0),  # two parts neither exist nor are predicted
        ([0, 0, 0, 2], [0, 0, 0, 0], 3, (3 / 4 + 1 + 0) / 3),  # one is predicted but does not exist
        ([1, 1, 1, 1], [0, 0, 0, 0], 2, 0.0),
    ],
)
def test_iou_equals_values_computed_by_hand(predicted, true, parts, iou):
    labels = torch.tensor([predicted]), torch.tensor([true])
    found = shape_iou(*labels, torch.tensor([parts]), most=4)
    assert found.item() == pytest.approx(iou, abs=1e-15)


def test_iou_equals_a_plain_version():
    """A batch with shapes of classes that have different numbers of parts."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 7, 60)
    true, predicted = (np.array([rng.integers(0, n, 40) for n in counts]) for _ in range(2))
    found = shape_iou(*map(torch.from_numpy, (predicted, true, counts)), most=6)
    expected = [plain_iou(p, t, n) for p, t, n in zip(predicted, true, counts, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-14)


def test_mean_ious_follow_the_protocol():
    """With two shapes of one class and one of another, instance and class means differ."""
    true = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 2, 2]])
    predicted = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 1]])
    about = ("partseg", "test", "best", 1, 1, {"a": ("x", "y"), "b": ("x", "y", "z"), "c": ("x",)})
    report = PartReport(*about, np.array([0, 0, 1]), true, predicted, np.zeros((3, 4, 3)))
    ious = 1, (1 / 2 + 0) / 2, (1 + 1 / 2 + 1 / 2) / 3
    assert report.scores.tolist() == pytest.approx(ious)
    assert report.measures == pytest.approx(
        {
            "instance_miou": sum(ious) / 3,
            "class_miou": ((ious[0] + ious[1]) / 2 + ious[2]) / 2,
            "point_accuracy": 9 / 12,
        }
    )
    assert report.per_class["c"] == {"shapes": 0, "miou": None, "point_accuracy": None}
    low, high = report.as_json()["instance_miou_interval"]
    assert min(ious) <= low < sum(ious) / 3 < high <= 1
    json.dumps(report.as_json(), allow_nan=False)


def predict(run, store, shapes):
    """Parts predicted for whole shapes one by one, with only the network and plain loops."""
    network = DENSE["dgcnn"](3)
    model = PartNetwork(network, network.local_width, 3, sum(COUNTS), 0.5)
    load_weights(run / "best", model)
    model.eval()
    found = []
    for shape in shapes:
        label = int(store.labels[shape])
        cloud = torch.from_numpy(store.read("points", int(shape)))[None]
        with torch.no_grad():
            scores = model(cloud, torch.tensor([label]))[0]  # [N, 7]
        first = sum(COUNTS[:label])
        found.append(scores[:, first : first + COUNTS[label]].argmax(dim=1).numpy())
    return np.array(found)


def test_metrics_equal_those_of_plain_predictions(run, store):
    report = evaluate(run, store, device="cpu")
    shapes = np.flatnonzero(store.splits == 1)
    predicted, true = predict(run, store, shapes), store.read("part", shapes)
    assert np.array_equal(report.predicted, predicted)
    ious = np.array(
        [
            plain_iou(p, t, COUNTS[store.labels[shape]])
            for p, t, shape in zip(predicted, true, shapes, strict=True)
        ]
    )
    labels = store.labels[shapes]
    expected = {
        "instance_miou": ious.mean(),
        "class_miou": np.mean([ious[labels == c].mean() for c in range(3)]),
        "point_accuracy": np.mean(predicted == true),
    }
    assert report.measures == pytest.approx(expected)
    written = json.loads((run / "evaluation.json").read_text())
    assert written.items() >= json.loads(json.dumps(report.as_json())).items()
    assert (written["shapes"], written["votes"]) == (18, 1)
    assert (run / "segmentation.png").read_bytes().startswith(b"\x89PNG")
    assert "instance mIoU" in report.describe()


def test_training_learns_and_keeps_the_epoch_of_the_best_instance_miou(run, store):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    scores = [record["val_instance_miou"] for record in records]
    report = evaluate(run, store, "val", device="cpu")
    assert report.epoch == max(range(1, 7), key=lambda epoch: (scores[epoch - 1], epoch))
    assert report.measures["instance_miou"] == pytest.approx(max(scores), abs=1e-6)
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert evaluate(run, store, "train", "last", device="cpu").measures["instance_miou"] > 0.6
    for picture in ("parts.png", "curve.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


def test_only_parts_of_the_shapes_class_are_predicted(run, store):
    """Even if the logits of other classes' parts are higher."""
    report = evaluate(run, store, device="cpu")
    counts = np.array(COUNTS)[report.labels]
    assert np.all(report.predicted < counts[:, None])
    config = open_run(run).config
    recipe = RECIPES["partseg"](config, 3, False)
    logits, labels = torch.zeros(3, 5, 7), torch.tensor([0, 1, 2])
    logits[..., [0, 3, 4]] = torch.tensor([9.0, 8.0, 7.0])  # ball 0, plate 1, rod 0
    own = recipe._own_class(logits, labels)
    assert own.argmax(dim=2)[:, 0].tolist() == [0, 1, 0]
    assert torch.isinf(own[:2, :, 2]).all()
    assert torch.isfinite(own[2]).all()


def test_cross_entropy_counts_the_parts_of_all_classes(run, store):
    recipe = RECIPES["partseg"](open_run(run).config, 3, False)
    logits = torch.randn(2, 5, 7)
    parts = torch.tensor([[0, 1, 0, 1, 1], [2, 2, 0, 1, 0]])
    found = recipe._metrics(logits, torch.tensor([1, 2]), parts)["loss"]
    log_p = logits.log_softmax(dim=2)
    rows = [log_p[0, i, 2 + p] for i, p in enumerate(parts[0])]
    rows += [log_p[1, i, 4 + p] for i, p in enumerate(parts[1])]
    assert found.item() == pytest.approx(-torch.stack(rows).mean().item())


def test_votes_are_deterministic(run, store):
    reports = [evaluate(run, store, votes=3, device="cpu") for _ in range(2)]
    assert np.array_equal(reports[0].predicted, reports[1].predicted)
    assert reports[0].votes == 3


def test_a_resumed_run_equals_an_uninterrupted_one(run, store, tmp_path):
    for epoch in (1, 4, 6):
        torch.manual_seed(999)
        train(store, baseline(epochs=6), tmp_path, device="cpu", until=epoch)
    assert_equal_runs(run, tmp_path)


def test_augmentation_moves_points_and_parts_together(run, store):
    """Each point keeps its part when points are reordered and moved."""
    recipe = RECIPES["partseg"](open_run(run).config, 3, False)
    shapes = np.flatnonzero(store.labels == 2)[:4]
    points = torch.from_numpy(store.read("points", shapes))
    batch = {"points": points, "label": torch.full((4,), 2)}
    batch["part"] = torch.from_numpy(store.read("part", shapes))
    seen = {}

    class Looking(torch.nn.Module):
        def forward(self, clouds, labels):
            seen["points"] = clouds
            return torch.zeros(4, 64, 7, requires_grad=True)

    judged = recipe._metrics
    recipe._metrics = lambda logits, labels, parts: judged(
        logits, labels, seen.setdefault("p", parts)
    )
    recipe.loss(Looking(), batch, torch.Generator().manual_seed(0))
    height, parts = seen["points"][..., 2], seen["p"]
    assert not torch.equal(parts, batch["part"].long())  # shuffled
    for h, p in zip(height, parts, strict=True):  # scaling and shifting keeps the thirds
        assert h[p == 0].min() > h[p == 1].max() > h[p == 1].min() > h[p == 2].max()


@pytest.mark.parametrize("load", ["encoder", "all", "none"])
def test_the_requested_layers_of_a_classifier_are_loaded(load, pre, store):
    settled = resolve_config(config("model.backbone=''", f"load={load}", init=str(pre)), store)
    assert (settled.model.backbone, settled.parts) == ("dgcnn", NAMES)
    torch.manual_seed(0)
    recipe = RECIPES["partseg"](settled, 3, True)
    before = {name: tensor.clone() for name, tensor in recipe.model.state_dict().items()}
    if settled.init:
        (note,) = start_from(settled, recipe.model, store.class_names)
        assert "(2 more are unused)" in note  # its classifier
    theirs = load_file(next((pre / "best").glob("weights-*")))
    loaded = {"encoder": {"encoder"}, "all": {"encoder", "head"}, "none": set()}[load]
    for name, tensor in recipe.model.state_dict().items():
        inner = name.removeprefix("backbone.")
        taken = name != inner and part_of(inner) in loaded
        assert torch.equal(tensor, theirs[inner] if taken else before[name]), name


@pytest.mark.parametrize("load", ["encoder", "all"])
def test_a_decoder_is_loaded_only_with_load_all(load):
    """From one dense network to another; the encoder also into a network without a decoder."""
    theirs, mine = DENSE["pointnet2"](3).state_dict(), DENSE["pointnet2"](3)
    load_parts(mine, theirs, load, True, "a run")
    for name, tensor in mine.state_dict().items():
        if part_of(name) == "decoder" and name.endswith("first.weight"):
            assert torch.equal(tensor, theirs[name]) == (load == "all")
    plain = BACKBONES["pointnet2-ssg"](3)
    note = load_parts(plain, theirs, load, True, "a run")
    for name, tensor in plain.state_dict().items():
        if part_of(name) == "encoder":
            assert torch.equal(tensor, theirs[name])
    unused = sum(part_of(name) == "decoder" for name in theirs)
    assert f"decoder 0 of 0 tensors ({unused} more are unused)" in note


def test_a_frozen_encoder_does_not_change(pre, store, tmp_path):
    settings = config("model.encoder=frozen", epochs=1, init=str(pre))
    train(store, settings, tmp_path, device="cpu")
    theirs = load_file(next((pre / "best").glob("weights-*")))
    mine = load_file(next((tmp_path / "best").glob("weights-*")))
    for name, tensor in theirs.items():
        if part_of(name) == "encoder":
            assert torch.equal(mine[f"backbone.{name}"], tensor)
    assert not torch.equal(mine["backbone.head.0.weight"], theirs["head.0.weight"])


@pytest.mark.slow
def test_each_load_is_compared_in_a_study(pre, store, tmp_path):
    settings = config("data.fraction=0.3", epochs=1, init=str(pre))
    found = study(store, settings, (0, 1), tmp_path, device="cpu")
    assert {variant for variant, _ in found.reports} == {"none", "encoder", "all"}
    stored = json.loads((tmp_path / "study.json").read_text())
    rows = {(r["variant"], r["checkpoint"]): r for r in stored["results"]}
    for difference in stored["differences"]:
        pair = [rows[difference[k], difference["checkpoint"]] for k in ("variant", "minus")]
        gains = np.subtract(*(row["instance_miou"] for row in pair))
        assert difference["mean"] == pytest.approx(gains.mean())
    assert "class mIoU" in found.describe()
    assert open_run(tmp_path / "seed-0" / "none").facts["inputs"] == {}


def test_the_part_classifier_is_not_loaded_and_a_note_says_so(run, store):
    """From another segmentation run, the backbone with its head is loaded, and nothing else."""
    settled = resolve_config(config("load=all", init=str(run)), store)
    torch.manual_seed(0)
    model = RECIPES["partseg"](settled, 3, True).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (note,) = start_from(settled, model, store.class_names)
    theirs = load_file(next((run / "best").glob("weights-*")))
    for name, tensor in model.state_dict().items():
        taken = name.startswith("backbone.")
        assert torch.equal(tensor, theirs[name] if taken else before[name]), name
    assert note.endswith("; the layers that predict parts start from random weights")


def test_a_segmentation_network_can_be_probed(run, store):
    (found,) = probe(run, store, device="cpu")
    assert found.frozen.network.config.recipe == "partseg"
    assert not any("classifier" in name for name in open_network(run).weights)
    assert found.reports["trained"].overall_accuracy > 0.5


def test_stores_and_networks_unfit_for_segmentation_are_reported(pre, store, make_store, tmp_path):
    with pytest.raises(StoreError, match="have no part labels") as caught:
        train(make_store(), baseline(), tmp_path / "run", device="cpu")
    assert "shapenetpart" in caught.value.fix
    other = baseline("parts={ball: [upper, lower], plate: [rim, hub], rod: [a, b, c]}")
    with pytest.raises(StoreError, match="have different parts: rod"):
        train(store, other, tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="load=encoder needs a run"):
        train(store, config(), tmp_path / "run", device="cpu")
    pointnet = tmp_path / "pointnet"
    train(store, small_config("student", epochs=1), pointnet, device="cpu")
    with pytest.raises(UsageError, match="pointnet has no per-point features"):
        train(
            store, config("model.backbone=''", init=str(pointnet)), tmp_path / "run", device="cpu"
        )
    assert not (tmp_path / "run").exists()


def test_part_labels_of_another_class_are_reported(run, store, tmp_path):
    """For training shapes before training, for test shapes before evaluation."""
    copy = ViewStore.open(shutil.copytree(store.path, tmp_path / "store"))
    part = zarr.open_array(tmp_path / "store" / "part", mode="r+")
    shape = int(np.flatnonzero((store.splits == 1) & (store.labels == 1))[0])
    part[shape, 5] = 2
    with pytest.raises(
        StoreError, match="plate-test-0 has the part label 2, but its class only has 2"
    ):
        evaluate(run, copy, device="cpu")
    shape = int(np.flatnonzero((store.splits == 0) & (store.labels == 2))[3])
    part[shape, 0] = 9
    with pytest.raises(StoreError, match="rod-train-3 has the part label 9"):
        train(copy, baseline(), tmp_path / "run", device="cpu")


def test_a_run_has_a_report_with_its_classes(run, store, tmp_path):
    evaluate(run, store, device="cpu")
    write_report([run], tmp_path / "R")
    assert "instance mIoU" in (tmp_path / "R/evaluation.csv").read_text()
    assert len((tmp_path / "R/classes.csv").read_text().splitlines()) > 1
