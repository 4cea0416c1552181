"""Evaluation: every number against scikit-learn and numpy, computed from the predictions."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion
from typer.testing import CliRunner

from pointcmt.cameras import Rig, find_rig
from pointcmt.cli import app
from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.streams import evaluation_config
from pointcmt.errors import StoreError, UsageError
from pointcmt.render.config import RenderConfig
from pointcmt.training.config.sections import Data
from pointcmt.training.evaluation.classification import Report, confusion_matrix
from pointcmt.training.evaluation.classifier import predict
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.segmentation import PartReport
from pointcmt.training.loop import train
from pointcmt.training.recipes import RECIPES
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import begin_run, plan_run
from pointcmt.training.runs.splits import split_train
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


@pytest.fixture(scope="module")
def runs(small_resnet, store, tmp_path_factory):
    """Runs whose predictions still contain mistakes."""
    folders = {}
    for recipe, epochs in (("student", 6), ("teacher", 1)):
        folders[recipe] = tmp_path_factory.mktemp(recipe)
        train(store, small_config(recipe, epochs=epochs), folders[recipe], device="cpu")
    return folders


def test_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 6, 500), rng.integers(0, 6, 500)
    confusion = confusion_matrix(true, predicted, 6)
    assert np.array_equal(confusion, sklearn_confusion(true, predicted, labels=range(6)))
    report = Report("student", "test", "best", 1, 1, list("abcdef"), true, predicted)
    assert report.overall_accuracy == pytest.approx(accuracy_score(true, predicted))
    assert report.mean_class_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))
    assert report.shapes == 500


def test_a_class_takes_one_line_for_any_name():
    """In the table, in the list of classes without shapes, and in the table of parts."""
    names, labels = ["a\nb", "c\x1b[31m", "d\r\ne"], np.array([0, 1, 1])
    report = Report("student", "test", "best", 1, 1, names, labels, labels)
    lines = report.describe().splitlines()
    assert len(lines) == 3 + 2 + 1
    assert not any(character in "".join(lines) for character in "\x1b\r")
    accuracies = [line.index("%") for line in lines[3:5]]
    assert accuracies[0] == accuracies[1]
    parts = dict.fromkeys(names, ("p", "q"))
    flat, points = np.zeros((3, 4), np.int64), np.zeros((3, 4, 3), np.float32)
    segmented = PartReport("partseg", "test", "best", 1, 1, parts, labels, flat, flat, points)
    assert len(segmented.describe().splitlines()) == 4 + 2


def test_a_class_without_shapes_is_left_out_of_the_mean():
    labels = np.array([0, 0, 0, 2])
    report = Report("student", "test", "best", 1, 1, ["a", "b", "c"], labels, labels)
    assert report.mean_class_accuracy == report.overall_accuracy == 1
    assert report.per_class["b"] == {"shapes": 0, "correct": 0, "accuracy": None}
    assert (
        report.describe().splitlines()[-1].endswith("1 classes without shapes are not included: b")
    )
    json.dumps(report.as_json(), allow_nan=False)


@pytest.mark.parametrize("recipe", ["student", "teacher"])
@pytest.mark.parametrize("which", ["best", "last"])
def test_metrics_equal_those_of_plain_predictions(recipe, which, runs, store):
    """Computed without evaluate: the whole test split at once as plain tensors."""
    report = evaluate(runs[recipe], store, which=which, device="cpu")
    shapes = np.flatnonzero(store.splits == 1)
    config = small_config(recipe)
    built = RECIPES[recipe](config, 3, False)
    load_weights(runs[recipe] / which, built.model)
    built.model.eval()
    name = {"student": "points", "teacher": "rgb"}[recipe]
    data = torch.from_numpy(np.stack([store.read(name, int(shape)) for shape in shapes]))
    with torch.no_grad():
        predicted = built.model(data)[0].argmax(dim=1).numpy()
    true = store.labels[shapes]
    expected = {
        "overall_accuracy": np.mean(predicted == true),
        "mean_class_accuracy": np.mean([np.mean(predicted[true == c] == c) for c in range(3)]),
    }
    for key, value in expected.items():
        assert getattr(report, key) == pytest.approx(value)
    assert report.shapes == 18
    for c, (name, count) in enumerate(zip(store.class_names, (5, 6, 7), strict=True)):
        mine = report.per_class[name]
        assert (mine["shapes"], mine["correct"]) == (count, np.sum(predicted[true == c] == c))

    suffix = {"best": "", "last": "-test-last"}[which]
    written = json.loads((runs[recipe] / f"evaluation{suffix}.json").read_text())
    assert written.items() >= report.as_json().items()
    assert (written["split"], written["which"], written["votes"]) == ("test", which, 1)
    assert written["confusion"] == report.confusion.tolist()
    assert (runs[recipe] / f"confusion{suffix}.png").read_bytes().startswith(b"\x89PNG")


def test_evaluating_validation_reproduces_the_best_epochs_accuracy(runs, store):
    lines = (runs["student"] / "metrics.jsonl").read_text().splitlines()
    report = evaluate(runs["student"], store, split="val", device="cpu")
    record = json.loads(lines[report.epoch - 1])
    assert report.overall_accuracy == pytest.approx(record["val_accuracy"])
    train_report = evaluate(runs["student"], store, split="train", device="cpu")
    assert train_report.shapes + report.shapes == np.sum(store.splits == 0)


@pytest.mark.parametrize("recipe", ["student", "teacher"])
def test_votes_are_deterministic_and_average_probabilities(recipe, runs, store):
    reports = [evaluate(runs[recipe], store, votes=5, device="cpu") for _ in range(2)]
    assert np.array_equal(reports[0].confusion, reports[1].confusion)

    built = RECIPES[recipe](small_config(recipe), 3, False)
    load_weights(runs[recipe] / "best", built.model)
    shapes = np.flatnonzero(store.splits == 1)
    stream = ViewStream(store, shapes, evaluation_config(built.stream, 8))
    log_p = predict(built, stream, votes=5, seed=3)
    assert log_p.exp().sum(dim=1) == pytest.approx(1, abs=1e-5)
    assert torch.equal(log_p, predict(built, stream, votes=5, seed=3))
    assert not torch.equal(log_p, predict(built, stream, votes=5, seed=4))
    batch = next(iter(ViewStream(store, shapes, evaluation_config(built.stream, 8))))
    generator = torch.Generator().manual_seed(3)
    looks = [batch] + [built.test_time_augmentation(batch, generator) for _ in range(4)]
    with torch.no_grad():
        mean = torch.stack([built.logits(built.model, look).softmax(dim=1) for look in looks]).mean(
            dim=0
        )
    torch.testing.assert_close(log_p[: len(mean)].exp(), mean)


def test_evaluation_does_not_depend_on_random_state(runs, store):
    torch.manual_seed(5)
    first = evaluate(runs["student"], store, device="cpu").confusion
    torch.manual_seed(6)
    assert np.array_equal(first, evaluate(runs["student"], store, device="cpu").confusion)


def test_validation_needs_the_same_rendered_shapes_as_in_training(make_store, tmp_path):
    """Rendering more shapes after training would move trained shapes into `val`."""
    store = ViewStore.open(shutil.copytree(make_store().path, tmp_path / "store"))
    marker = tmp_path / "store" / "commits" / "render" / "000001.json"
    marker.rename(tmp_path / "later.json")
    train(store, small_config("student", epochs=1), tmp_path / "run", device="cpu")
    (tmp_path / "later.json").rename(marker)
    finished = ViewStore.open(tmp_path / "store")
    for split in ("val", "train"):
        with pytest.raises(
            StoreError, match="does not contain the same shapes as when this run was trained"
        ):
            evaluate(tmp_path / "run", finished, split=split, device="cpu")
    assert evaluate(tmp_path / "run", finished, device="cpu").shapes == 18
    with pytest.raises(StoreError, match=r"split\.train: \w+ in the run"):
        train(finished, small_config("student", epochs=1), tmp_path / "run", device="cpu")


def test_a_run_whose_configuration_is_damaged_is_refused(runs, store, tmp_path):
    folder = shutil.copytree(runs["student"], tmp_path / "run")
    facts = json.loads((folder / "run.json").read_text())
    for config in ({}, {**facts["config"], "epochs": 0}, {**facts["config"], "zzz": 1}):
        (folder / "run.json").write_text(json.dumps({**facts, "config": config}))
        with pytest.raises(StoreError, match="configuration is damaged"):
            evaluate(folder, store, device="cpu")


def test_another_store_of_the_same_classes_has_a_test_split_only(runs, make_store):
    other = make_store(train=(2, 2, 2), test=(4, 4, 4))
    assert evaluate(runs["student"], other, device="cpu").shapes == 12
    with pytest.raises(StoreError, match="the 'val' shapes of this run are only defined"):
        evaluate(runs["student"], other, split="val", device="cpu")


RENDERED = RenderConfig(find_rig("ortho6"), size=32)
OTHERWISE = {
    "light": (
        replace(RENDERED, light="world"),
        'light: "camera" in the run\'s store, "world 2" in',
    ),
    "rig": (
        replace(RENDERED, rig=find_rig("circle12")),
        'rig: "ortho6" in the run\'s store, "circle12" in',
    ),
    "views": (
        replace(RENDERED, rig=Rig("ortho6", find_rig("circle12").views)),
        'rig: different cameras with the same name, "ortho6"',
    ),
    "background": (
        replace(RENDERED, background=(0, 0, 0)),
        "background: [255, 255, 255] in the run's store, [0, 0, 0] in",
    ),
}


@pytest.fixture(scope="module")
def on_rendered(make_store, tmp_path_factory):
    """A student of one epoch, whose run records how its store was rendered."""
    folder = tmp_path_factory.mktemp("rendered") / "run"
    train(make_store(render=RENDERED), small_config("student", epochs=1), folder, device="cpu")
    return folder


@pytest.mark.parametrize("setting", OTHERWISE)
@pytest.mark.parametrize("command", [(), ("--probe", "svm")], ids=["evaluate", "probe"])
def test_a_different_rig_light_or_background_is_reported(setting, command, on_rendered, make_store):
    config, says = OTHERWISE[setting]
    arguments = ["evaluate", str(on_rendered), *command, "--device", "cpu", "--json", "--data"]
    told = CliRunner().invoke(app, [*arguments, make_store(render=config).path])
    assert told.exit_code == 0
    facts = json.loads(told.stdout.splitlines()[-1])
    (note,) = facts["svm"]["notes"] if command else facts["notes"]
    assert says in note
    assert f"note: {note}" in told.stderr.splitlines()
    written = on_rendered / ("probe.json" if command else "evaluation.json")
    assert json.loads(written.read_text())["notes"] == [note]


def test_a_store_with_the_same_render_settings_adds_no_note(on_rendered, make_store, messages):
    alike = replace(RENDERED, layers=("normal",))  # images that no network uses
    for config in (RENDERED, alike):
        store = make_store(render=config, test=(4, 4, 4))
        assert evaluate(on_rendered, store, device="cpu").as_json()["notes"] == []
    assert "note" not in messages()


def test_a_run_of_an_older_version_reports_unknown_render_settings(
    on_rendered, make_store, tmp_path
):
    folder = shutil.copytree(on_rendered, tmp_path / "run")
    facts = json.loads((folder / "run.json").read_text())
    del facts["data"]["render"]
    (folder / "run.json").write_text(json.dumps(facts))
    assert evaluate(folder, make_store(render=RENDERED), device="cpu").notes == ()
    other = make_store(render=OTHERWISE["light"][0])
    (note,) = evaluate(folder, other, device="cpu").notes
    assert "unknown which, since the run was started with an older version" in note


def test_a_teacher_trained_with_another_rig_is_reported(
    on_rendered, make_store, tmp_path, messages
):
    teacher, store = tmp_path / "teacher", make_store(render=RENDERED)
    train(store, small_config("teacher", epochs=1), teacher, device="cpu")
    other = make_store(render=OTHERWISE["rig"][0])
    config = small_config("student", epochs=1, teacher=str(teacher))
    config = config.model_copy(
        update={"distillation": config.distillation.model_copy(update={"method": "logits"})}
    )
    messages()
    train(other, config, tmp_path / "student", device="cpu")
    assert 'rig: "ortho6" in the run\'s store, "circle12"' in messages()


def test_runs_that_cannot_be_evaluated_are_reported(runs, store, make_store, tmp_path):
    with pytest.raises(StoreError, match="no rendered shape in its test split"):
        evaluate(runs["student"], make_store(test=(0, 0, 0)), device="cpu")
    with pytest.raises(StoreError, match="no run here"):
        evaluate(tmp_path, store, device="cpu")
    with pytest.raises(UsageError, match="unknown checkpoint 'bets'"):
        evaluate(runs["student"], store, which="bets", device="cpu")
    with pytest.raises(UsageError, match="unknown split 'tset'"):
        evaluate(runs["student"], store, split="tset", device="cpu")
    with pytest.raises(UsageError, match="votes must be at least 1, not 0"):
        evaluate(runs["student"], store, votes=0, device="cpu")


def test_a_run_without_a_finished_epoch_is_reported(store, tmp_path):
    config = small_config("student")
    with begin_run(plan_run(tmp_path, config, store, split_train(store, config.data))):
        pass
    with pytest.raises(StoreError, match="no checkpoint here"):
        evaluate(tmp_path, store, device="cpu")


def test_validation_shapes_are_never_test_shapes(store):
    split = split_train(store, Data(validation=0.2, split_seed=0))
    assert not set(split.validation) & set(np.flatnonzero(store.splits == 1))
