"""Small data: batches that fit, checks before the first step, and remedies that work."""

import json
import os

import numpy as np
import pytest
import torch

import pointcmt as pc
from pointcmt.errors import PointcmtError, StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_pipeline
from pointcmt.training.config.pointcmt import STAGES
from pointcmt.training.config.sections import Data
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.pipeline import name_stage, train_pipeline
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.splits import Split, fit_batch, split_train
from pointcmt.training.study import study
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def split_of(count):
    return Split(np.arange(count), np.arange(count, count + 2))


@pytest.mark.parametrize(
    ("count", "batch", "accumulate", "fits"),
    [
        (200, 32, 4, (32, 4)),
        (128, 32, 4, (32, 4)),  # one step takes all of them
        (127, 32, 4, (32, 3)),
        (45, 32, 4, (32, 1)),
        (32, 32, 4, (32, 1)),
        (31, 32, 4, (31, 1)),
        (20, 8, 1, (8, 1)),
        (2, 32, 1, (2, 1)),
        (5, 400, 7, (5, 1)),
    ],
)
def test_batches_are_as_large_as_the_settings_and_the_shapes_allow(count, batch, accumulate, fits):
    overrides = (f"data.batch_size={batch}", f"optimizer.accumulate={accumulate}")
    config = small_config("student", *overrides)
    fitted, notes = fit_batch(config, split_of(count))
    assert (fitted.data.batch_size, fitted.optimizer.accumulate) == fits
    assert fitted.effective_batch_size <= count
    assert bool(notes) == (fits != (batch, accumulate))
    changed = fitted.model_dump()
    changed["data"]["batch_size"], changed["optimizer"]["accumulate"] = batch, accumulate
    assert changed == config.model_dump()  # nothing else has changed
    if notes:
        assert f"{count} train shapes do not fill" in notes[0]


def test_a_single_shape_is_not_enough():
    with pytest.raises(StoreError, match="a single train shape") as caught:
        fit_batch(small_config("student"), split_of(1))
    assert "render more shapes" in caught.value.fix


def full(*overrides):
    """The settings of the README's command, but for the numbers that a tiny store dictates."""
    points = [f"{stage}.data.points=64" for stage in ("cmpg", "student")]
    return load_pipeline(None, [*points, *overrides], epochs=1)


def test_the_whole_recipe_trains_from_two_shapes_a_class(make_store, tmp_path, messages):
    store = make_store(train=(2, 2, 2), test=(1, 1, 1))
    results = train_pipeline(store, full(), tmp_path / "RUN", device="cpu")
    said = messages()
    assert list(results) == [*STAGES]
    assert said.count("3 train shapes do not fill") == 3
    for stage in STAGES:
        config = open_run(tmp_path / "RUN" / stage).config
        assert (config.data.batch_size, config.optimizer.accumulate) == (3, 1)
    assert evaluate(tmp_path / "RUN", store, device="cpu").shapes == 3
    train_pipeline(store, full(), tmp_path / "RUN", device="cpu")  # the same command: nothing to do
    assert messages().count("this run is finished") == 3


def test_two_classes_of_two_shapes_are_enough_and_the_bits_are_those_of_fitting_settings(
    make_store, tmp_path
):
    store = make_store(train=(2, 0, 2), test=(1, 0, 1))
    train(store, small_config("student", epochs=2), tmp_path / "adapted", device="cpu")
    fitting = small_config("student", "data.batch_size=2", epochs=2)
    train(store, fitting, tmp_path / "asked", device="cpu")
    weights = [
        next((tmp_path / name / "last").glob("weights-*")).read_bytes()
        for name in ("adapted", "asked")
    ]
    assert weights[0] == weights[1]


def test_all_stages_are_checked_before_the_first_trains(make_store, tmp_path):
    store = make_store()
    wrong = {
        "cmpg.data.points=65": "cmpg.data.points=64",
        "student.data.points=65": "student.data.points=64",
        "student.init=/nowhere": "",
    }
    for override, remedy in wrong.items():
        with pytest.raises(PointcmtError) as caught:
            train_pipeline(store, full(override), tmp_path / "RUN", device="cpu")
        assert remedy in caught.value.fix
        assert not (tmp_path / "RUN").exists()
    # A network that needs more points than the student is given says so in its first step.
    few = ("student.model.backbone=dgcnn", "student.data.points=16")
    with pytest.raises(UsageError, match="points") as caught:
        train_pipeline(store, full(*few), tmp_path / "RUN", device="cpu")
    assert "student.data.points" in f"{caught.value.where} {caught.value.fix}"
    assert not (tmp_path / "RUN").exists()


def test_a_later_stage_with_other_settings_is_said_before_the_first_trains(make_store, tmp_path):
    store = make_store(train=(2, 2, 2), test=(1, 1, 1))
    train_pipeline(store, full(), tmp_path / "RUN", device="cpu")
    for stage in ("teacher", "cmpg"):
        for file in sorted((tmp_path / "RUN" / stage).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (tmp_path / "RUN" / stage).rmdir()
    with pytest.raises(StoreError, match="different settings") as caught:
        train_pipeline(store, full("student.seed=5"), tmp_path / "RUN", device="cpu")
    assert "student" in caught.value.where
    assert os.listdir(tmp_path / "RUN") == ["student"]


def test_remedies_name_keys_of_the_whole_recipe():
    config = full()
    text = "lower data.batch_size, or use --set data.points=64; not my.data.points.x. See data."
    with pytest.raises(UsageError) as caught, name_stage("student", config.student):
        raise UsageError(text, where="data.batch_size", fix=text)
    assert caught.value.where == "student.data.batch_size"
    assert caught.value.fix == (
        "lower student.data.batch_size, or use --set student.data.points=64; "
        "not my.data.points.x. See data."
    )


def test_a_key_without_its_stage_names_the_keys_that_work():
    with pytest.raises(UsageError, match=r"unknown key 'data\.batch_size'") as caught:
        load_pipeline(None, ["data.batch_size=8"])
    for stage in STAGES:
        assert f"{stage}.data.batch_size" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        load_pipeline(None, ["augmentation.shift=0"])
    assert "student.augmentation.shift" in caught.value.fix
    assert "teacher" not in caught.value.fix


def test_too_many_points_in_a_whole_recipe_name_a_key_that_works(make_store, tmp_path):
    store = make_store(train=(2, 2, 2), test=(1, 1, 1))
    with pytest.raises(UsageError) as caught:
        pc.train(data=store.path, out=tmp_path / "RUN", epochs=1, device="cpu")
    assert "cmpg.data.points=64" in caught.value.fix
    assert "cmpg__data__points=64" in str(caught.value)


@pytest.mark.parametrize("recipe", ["student", "pointcmt", "partseg"])
def test_seeds_check_the_test_split_before_anything_trains(
    recipe, make_store, tmp_path, monkeypatch
):
    def trained(*arguments):
        raise AssertionError("it trains")

    monkeypatch.setattr(loop, "open_session", trained)
    store = make_store(test=(0, 0, 0), parts=recipe == "partseg")
    none = ("load=none",) if recipe == "partseg" else ()
    config = full() if recipe == "pointcmt" else small_config(recipe, *none)
    with pytest.raises(StoreError, match="no rendered shape in its test split") as caught:
        study(store, config, (0, 1), tmp_path / "RUN", "cpu")
    assert "--holdout" in caught.value.fix
    assert not (tmp_path / "RUN").exists()


def test_classes_without_train_shapes_are_said_and_do_not_stop_the_rest(
    make_store, tmp_path, messages
):
    store = make_store(train=(4, 0, 4), test=(2, 2, 2))
    split = split_train(store, Data(validation=0.2))
    assert len(split.train) + len(split.validation) == 8
    (note,) = [note for note in split.notes if "plate" in note]
    assert note.startswith("1 class has no rendered train shapes and cannot be learned: plate")
    train(store, small_config("student", epochs=2), tmp_path / "run", device="cpu")
    assert note in messages()
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["unlearned"] == ["plate"]
    report = evaluate(tmp_path / "run", store, device="cpu")
    assert report.shapes == 4
    assert report.per_class["plate"] == {"shapes": 0, "correct": 0, "accuracy": None}
    (said,) = [note for note in report.as_json()["notes"] if "plate" in note]
    assert "2 test shapes of classes without train shapes are left out: plate" in said
    assert said in messages()


def test_classes_whose_train_shapes_all_failed_are_left_out_and_pending_ones_are_not(
    make_store, tmp_path
):
    failed = make_store(train=(4, 2, 4), failed=("plate-train-0", "plate-train-1"))
    assert any("plate" in note for note in split_train(failed, Data()).notes)


def test_gradients_of_an_adapted_run_are_finite(make_store, tmp_path):
    """Batch norm over two shapes, the fewest: the loss stays a number."""
    store = make_store(train=(2, 2, 0), test=(1, 1, 0))
    result = train(store, small_config("student", epochs=3), tmp_path / "run", device="cpu")
    assert torch.isfinite(torch.tensor(result.last["loss"]))
