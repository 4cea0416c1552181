"""Classes without train shapes: training and evaluation leave them out, with a note."""

import json

import numpy as np
import pytest

from pointcmt.errors import StoreError
from pointcmt.training.config.sections import Data
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.loop import train
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.splits import split_train
from tests.training.stores import small_config

LACKING = {"train": (14, 0, 14), "test": (5, 6, 7)}
SAID = "1 class has no rendered train shapes and cannot be learned: plate"
LEFT = "6 test shapes of classes without train shapes are left out: plate"


def test_the_split_goes_on_with_a_note(make_store):
    split = split_train(make_store(**LACKING), Data(validation=0.2))
    assert (len(split.train), len(split.validation)) == (22, 6)
    assert split.notes == (SAID,)


def test_a_val_split_keeps_only_classes_that_can_be_learned(make_store):
    store = make_store(train=(14, 0, 14), val=(2, 3, 2))
    split = split_train(store, Data(validation=0.2))
    assert sorted(set(store.labels[split.validation].tolist())) == [0, 2]
    assert len(split.validation) == 4
    assert split.notes == (
        SAID,
        "3 val shapes of classes without train shapes are left out: plate",
        "validating on the store's val split",
    )


def test_a_val_split_of_other_classes_alone_is_replaced(make_store):
    store = make_store(train=(14, 0, 14), val=(0, 3, 0))
    split = split_train(store, Data(validation=0.2))
    assert (len(split.train), len(split.validation)) == (22, 6)
    assert "validating on the store's val split" not in split.notes


def test_a_class_whose_train_shapes_all_failed(make_store):
    store = make_store(train=(4, 1, 5), failed=("plate-train-0",))
    split = split_train(store, Data(validation=0.2))
    assert split.notes == ("1 of 10 train shapes are not rendered", SAID)


@pytest.fixture(scope="module")
def student(make_store, tmp_path_factory):
    store, folder = make_store(**LACKING), tmp_path_factory.mktemp("student")
    train(store, small_config("student", epochs=2), folder, device="cpu")
    return store, folder


def test_training_and_evaluation_leave_the_class_out(student, caplog):
    store, folder = student
    assert open_run(folder).facts["unlearned"] == ["plate"]
    with caplog.at_level("WARNING", "pointcmt"):
        report = evaluate(folder, store, device="cpu")
    assert f"note: {LEFT}" in caplog.messages
    assert report.notes == (LEFT,)
    assert report.shapes == 12
    assert report.per_class["plate"] == {"shapes": 0, "correct": 0, "accuracy": None}
    written = json.loads((folder / "evaluation.json").read_text())
    assert (written["shapes"], written["notes"]) == (12, [LEFT])
    assert sum(map(sum, written["confusion"])) == 12
    for split in ("val", "train"):
        assert evaluate(folder, store, split, device="cpu").notes == ()


def test_a_store_that_has_the_class_is_evaluated_without_it(student, make_store):
    _, folder = student
    report = evaluate(folder, make_store(), device="cpu")
    assert report.notes == (LEFT,)
    assert report.shapes == 12


def test_a_store_of_nothing_else_is_refused(student, make_store):
    _, folder = student
    with pytest.raises(StoreError) as raised:
        evaluate(folder, make_store(train=(0, 4, 0), test=(0, 6, 0)), device="cpu")
    assert raised.value.what == "the run was trained on none of the classes of the test shapes"
    assert raised.value.fix


def test_a_run_resumes_and_older_runs_are_evaluated_as_before(student, tmp_path):
    store, folder = student
    train(store, small_config("student", epochs=2), folder, device="cpu")  # nothing to do
    facts = json.loads((folder / "run.json").read_text())
    del facts["unlearned"]
    old = tmp_path / "old"
    old.mkdir()
    for path in folder.iterdir():
        if path.is_dir():
            (old / path.name).symlink_to(path)
        elif path.name != "run.json":
            (old / path.name).write_bytes(path.read_bytes())
    (old / "run.json").write_text(json.dumps(facts))
    assert evaluate(old, store, device="cpu").shapes == 18


def test_a_run_with_every_class_says_nothing(store, tmp_path):
    train(store, small_config("student", epochs=1), tmp_path / "run", device="cpu")
    assert open_run(tmp_path / "run").facts["unlearned"] == []
    assert evaluate(tmp_path / "run", store, device="cpu").notes == ()


def test_the_probe_leaves_the_class_out(student, caplog):
    store, folder = student
    with caplog.at_level("WARNING", "pointcmt"):
        (result,) = probe(folder, store, device="cpu")
    assert f"note: {LEFT}" in caplog.messages
    assert all(report.shapes == 12 for report in result.reports.values())
    assert result.train == 28


def test_parts_of_the_class_are_left_out(make_store, tmp_path):
    store = make_store(**LACKING, parts=True)
    train(store, small_config("partseg", "load=none", epochs=1), tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert (report.shapes, report.notes) == (12, (LEFT,))
    assert not np.any(report.labels == 1)
