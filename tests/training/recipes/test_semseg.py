"""Segmentation of scenes: runs on box rooms, compared bit for bit and with plain predictions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets import sources
from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.downstream import LOADS
from pointcmt.training.config.files import load_config
from pointcmt.training.config.sections import Data
from pointcmt.training.evaluation.classifier import open_classifier
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.semantic import confusion
from pointcmt.training.recipes.semseg import Semseg, count_pairs
from pointcmt.training.report.page import write_report
from pointcmt.training.runs.pretrained import open_network
from pointcmt.training.runs.splits import split_shapes
from pointcmt.training.study import study
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_unet")
NAME, VOXEL = "sparse-unet-tiny", 0.2
SETTINGS = (
    f"model.backbone={NAME}",
    f"data.voxel={VOXEL}",
    "data.crop=500",
    "data.batch_size=2",
    "data.validation=0.25",
    "schedule.warmup=0",
    "optimizer.learning_rate=0.02",
)


def config(*overrides, **flags):
    return load_config("semseg", None, [*SETTINGS, *overrides], **{"epochs": 2, **flags})


@pytest.fixture(scope="module")
def run(rooms, small_unet, tmp_path_factory):
    """A run of many epochs."""
    folder = tmp_path_factory.mktemp("semseg") / "run"
    train(rooms, config(epochs=20), folder, device="cpu")
    return folder


def test_training_learns(run, rooms):
    records = metrics(run)
    assert records[-1]["loss"] < records[0]["loss"] / 2
    assert records[-1]["point_accuracy"] > 0.8
    report = evaluate(run, rooms, device="cpu")
    points = report.total.counts.sum(axis=1)
    chance = points.max() / points.sum() / np.count_nonzero(points)  # of one class for all points
    assert report.measures["miou"] > 2 * chance
    assert (run / "scenes.png").exists()


def test_scores_are_those_of_all_points_at_full_resolution(run, rooms):
    """Predict by hand for the first point of each voxel, and copy it to the others."""
    report = evaluate(run, rooms, device="cpu")
    points, colors = rooms.read("points", 0), rooms.read("color", 0)
    places = np.floor(points.astype(np.float64) / VOXEL).astype(np.int64)
    _, first, voxel = np.unique(places, axis=0, return_index=True, return_inverse=True)
    assert len(first) < len(points) / 2
    chosen = points[first].astype(np.float64)
    chosen[:, :2] -= chosen[:, :2].mean(axis=0)
    model = open_classifier(run, "best", 1, "cpu").recipe.model.eval()
    inputs = torch.from_numpy(chosen).float(), torch.zeros(len(first), dtype=torch.int64)
    with torch.no_grad():
        scores = model(*inputs, torch.from_numpy(colors[first]).float() / 255 - 0.5)
    predicted = scores.argmax(dim=1).numpy()[voxel.ravel()]
    expected = confusion(rooms.read("semantic", 0), predicted, 4)
    assert expected.counts.tolist() == report.total.counts.tolist()


def test_validation_counts_all_scenes_together(run, rooms):
    """val_miou of the best epoch is that of one confusion matrix, not a mean of scenes."""
    report = evaluate(run, rooms, "val", device="cpu")
    assert report.shapes == 1
    best = max(metrics(run), key=lambda record: (record["val_miou"], record["epoch"]))
    assert best["val_miou"] == pytest.approx(report.measures["miou"], abs=1e-12)
    assert best["epoch"] == report.epoch


def test_the_golden_case():
    """See ops.semantic: IoU 2/3, 1/3, 1/2, and one class that is absent."""
    true = torch.tensor([0, 0, 0, 1, 1, 2, -1, -1])
    predicted = torch.tensor([0, 0, 1, 1, 2, 2, 0, 2])
    counts = count_pairs(true[:3], predicted[:3], 4) + count_pairs(true[3:], predicted[3:], 4)
    recipe = Semseg.__new__(Semseg)
    assert recipe.score(counts) == pytest.approx(
        {"miou": 0.5, "mean_class_accuracy": (2 / 3 + 1 / 2 + 1) / 3}
    )


def test_evaluate_reports_every_class_and_writes_files(run, rooms):
    result = CliRunner().invoke(app, ["evaluate", str(run), "--data", rooms.path, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert list(found["per_class"]) == list(box_room.NAMES)
    ious = [c["iou"] for c in found["per_class"].values() if c["iou"] is not None]
    assert found["averaged"] == len(ious) == 3  # no camera sees the ceiling
    assert found["miou"] == np.mean(ious)
    assert sum(c["points"] for c in found["per_class"].values()) == len(rooms.read("points", 0))
    saved = json.loads((run / "evaluation.json").read_text())
    assert np.sum(saved["confusion"]) == len(rooms.read("points", 0))
    for name in ("confusion.png", "segmentation.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_classes_are_matched_by_name(run, tmp_path):
    """A store with the classes in another order, of which the run does not know one."""
    names = ("ground", "ceiling", "Block", "wall")
    labels = replace(box_room.LABELS, semantic=names)
    store = render_rooms(tmp_path / "S", 1, 1, replace(CONFIG, frames=6, voxel=0.1), labels=labels)
    report = evaluate(run, store, device="cpu")
    stored = store.read("semantic", 0)
    count = [int(np.sum(stored == label)) for label in range(4)]
    points = [c["points"] for c in report.per_class.values()]
    assert points == [0, count[1], count[3], count[2]]
    assert report.left_out == {"ground": count[0]}
    assert "3 of the run's 4" in report.notes[-1]


def test_a_run_interrupted_at_any_step_equals_an_uninterrupted_one(rooms, tmp_path, monkeypatch):
    sgd = ("optimizer.name=sgd", "schedule.name=onecycle", "optimizer.learning_rate=0.001")
    changed = ("augmentation.elastic_probability=0.5", "augmentation.mix=0.5")
    settings = config("data.crops=2", "data.labeled_points=100", *sgd, *changed)
    train(rooms, settings, tmp_path / "straight", device="cpu")
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original, done = loop.learning_rate, []

    def interrupting(settings, step, steps):
        if step not in done:
            done.append(step)
            raise KeyboardInterrupt
        return original(settings, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", interrupting)
        for _ in range(8):  # two epochs of four batches
            with pytest.raises(KeyboardInterrupt):
                train(rooms, settings, tmp_path / "parts", device="cpu")
        train(rooms, settings, tmp_path / "parts", device="cpu")
    assert done == [*range(8)]
    assert_equal_runs(tmp_path / "straight", tmp_path / "parts")


def test_a_final_run_holds_out_nothing(rooms, tmp_path):
    final = config(epochs=1, **{"data.validation": 0})
    result = train(rooms, final, tmp_path / "run", device="cpu")
    assert result.best == result.last
    assert not any(name.startswith("val_") for name in result.last)


def test_accumulated_batches_make_one_step(rooms, tmp_path):
    train(rooms, config("optimizer.accumulate=2"), tmp_path, device="cpu")
    assert all(np.isfinite(record["loss"]) for record in metrics(tmp_path))
    steps = json.loads((tmp_path / "last" / "checkpoint.json").read_text())["step"]
    assert steps == 2  # one step of four crops in each of two epochs


def test_whole_scenes_normals_and_weights(rooms, tmp_path):
    more = ("data.crop=0", "data.normals=true", "data.color=false", "loss.class_weights=balanced")
    train(rooms, config(*more, epochs=1), tmp_path, device="cpu")
    assert metrics(tmp_path)[0]["val_miou"] > 0


def test_stores_of_the_other_kind_are_refused(rooms, store, run, tmp_path):
    for recipe in ("student", "partseg", "teacher"):
        with pytest.raises(
            UsageError, match=f"store of scenes, which the recipe '{recipe}' cannot"
        ):
            train(rooms, small_config(recipe, epochs=1), tmp_path / "run", device="cpu")
    with pytest.raises(
        UsageError, match="store of objects, which the recipe 'semseg' cannot"
    ) as caught:
        train(store, config(), tmp_path / "run", device="cpu")
    assert caught.value.where == store.path
    with pytest.raises(UsageError, match="store of objects, which the recipe 'semseg' cannot"):
        evaluate(run, store, device="cpu")
    with pytest.raises(StoreError, match=r'kind: "scenes" in .* "objects" in '):
        open_stores([rooms, store])
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_the_encoder_of_a_classifier(rooms, store, tmp_path):
    small = small_config("student", f"model.backbone={NAME}", epochs=1)
    train(store, small, tmp_path / "pre", device="cpu")
    start = {"init": str(tmp_path / "pre"), "epochs": 1}
    plain = ("data.color=false", "model.backbone=''", "model.encoder=frozen")
    train(rooms, config(*plain, **start), tmp_path / "run", device="cpu")
    theirs, mine = (open_network(tmp_path / name).weights for name in ("pre", "run"))
    encoder = [name for name in mine if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(theirs[name], mine[name]) for name in encoder)
    with pytest.raises(StoreError, match="different architecture") as caught:
        train(rooms, config(**start), tmp_path / "color", device="cpu")
    assert "data.color" in caught.value.fix


@pytest.mark.slow
def test_a_study_compares_what_is_loaded_in_pairs(rooms, run, tmp_path):
    """From a run of the same recipe, all of its weights fit, except those of the last layer."""
    found = study(rooms, config(epochs=1, init=str(run)), (0,), tmp_path, device="cpu")
    assert [variant for variant, which in found.reports if which == "last"] == [*LOADS]
    miou = {variant: r[0].measures["miou"] for (variant, _), r in found.reports.items()}
    for (variant, _), difference in found.differences.items():
        assert difference.mean == pytest.approx(miou[variant] - miou["none"], abs=1e-12)
    assert json.loads((tmp_path / "study.json").read_text())["recipe"] == "semseg"


def test_other_networks_are_refused(rooms, store, tmp_path):
    with pytest.raises(UsageError, match=r"sparse-unet-tiny.*pointnet2.*dgcnn"):
        config("model.backbone=pointmlp")
    train(store, small_config("student", "model.backbone=dgcnn", epochs=1), tmp_path / "pre", "cpu")
    with pytest.raises(UsageError, match=r"is dgcnn, so model\.backbone has to be named"):
        train(
            rooms, config("model.backbone=''", init=str(tmp_path / "pre")), tmp_path / "run", "cpu"
        )


def test_rescans_of_a_room_are_on_one_side(tmp_path, monkeypatch):
    scans = [f"scene{space:04d}_{scan:02d}" for space in range(4) for scan in range(2)]
    shapes = tuple(ShapeRecord(scan, None, "train", scan) for scan in scans)
    source = sources.Source(box_room.source.list_shapes, lambda record, root: box_room.scene(2))
    monkeypatch.setitem(sources.SOURCES, "scans", source)
    few = replace(CONFIG, frames=2, voxel=0.2)
    store = render_rooms(tmp_path / "S", config=few, shapes=shapes, name="scans", shard=8)
    split = split_shapes(store, Data(validation=0.25, fraction=0.34))
    spaces = [{scans[shape][:9] for shape in part} for part in (split.train, split.validation)]
    assert (len(split.train), len(split.validation)) == (2, 2)
    assert [len(each) for each in spaces] == [1, 1]
    assert not spaces[0] & spaces[1]


def test_a_run_has_a_report_with_its_classes(run, rooms, tmp_path):
    evaluate(run, rooms, device="cpu")
    write_report([run], tmp_path / "R")
    assert "mIoU" in (tmp_path / "R/evaluation.csv").read_text()
    assert len((tmp_path / "R/classes.csv").read_text().splitlines()) > 1
