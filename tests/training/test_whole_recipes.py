"""RUN means RUN: every command takes the folder that `train --out` made, a whole recipe's too."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

import pointcmt as pc
from pointcmt.errors import StoreError
from pointcmt.training.commands import probe_command
from pointcmt.training.config.files import load_pipeline
from pointcmt.training.config.pointcmt import STAGES
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.networks import export
from pointcmt.training.loop import train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.checkpoint import read_weights
from pointcmt.training.runs.folder import open_run, weights_digest
from pointcmt.training.runs.locate import find_run
from pointcmt.training.study import study
from tests.commands import pointcmt
from tests.training.stores import SMALL, small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def pipeline_config(*overrides, **flags):
    """A pipeline that fits the small stores."""
    small = [f"{stage}.{override}" for stage in STAGES for override in SMALL[stage]]
    return load_pipeline(None, [*small, *overrides], **flags)


@pytest.fixture(scope="module")
def whole(small_resnet, store, tmp_path_factory):
    """The folder of a whole recipe of one epoch."""
    out = tmp_path_factory.mktemp("whole") / "RUN"
    train_pipeline(store, pipeline_config(epochs=1), out, device="cpu")
    return out


def test_a_whole_recipe_is_evaluated_as_its_student(whole, store):
    judged = evaluate(whole, store, device="cpu")
    assert judged.recipe == "student"
    assert judged.as_json() == evaluate(whole / "student", store, device="cpu").as_json()
    assert (whole / "student/evaluation.json").exists()
    assert sorted(os.listdir(whole)) == sorted(STAGES)
    told = pc.evaluate(whole, data=store.path, device="cpu")
    assert told.as_json() == judged.as_json()


def test_the_command_evaluates_and_says_which_run(whole, store):
    done = pointcmt("evaluate", whole, "--data", store.path, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["per_class"].keys() == {"ball", "plate", "rod"}
    assert str(whole / "student") in done.stderr


def test_a_whole_recipe_is_exported_probed_and_loaded_as_its_student(whole, store, tmp_path):
    exported = export(whole, "safetensors", tmp_path / "a.safetensors")
    direct = export(whole / "student", "safetensors", tmp_path / "b.safetensors")
    assert exported.facts["recipe"] == "student"
    assert exported.facts == direct.facts
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert "svm" in probe_command(whole, store, True, "", "best", "cpu").facts
    assert (whole / "student/probe.json").exists()
    assert pc.load_run(whole).recipe == "student"


@pytest.mark.parametrize(
    ("recipe", "stage"), [("teacher", "teacher"), ("student", "student"), ("cmpg", "cmpg")]
)
def test_to_start_from_a_whole_recipe_takes_the_stage_that_fits(
    recipe, stage, whole, store, tmp_path
):
    still = ("optimizer.learning_rate=1e-30", "optimizer.weight_decay=0")
    teacher = {"teacher": str(whole)} if recipe == "cmpg" else {}
    config = small_config(recipe, *still, epochs=1, init=str(whole), **teacher)
    train(store, config, tmp_path / "run", device="cpu")
    facts = open_run(tmp_path / "run").facts
    assert facts["inputs"]["init"] == weights_digest(whole / stage)
    ended = build_of(tmp_path / "run")
    began = build_of(whole / stage)
    assert all(torch.equal(ended[name], began[name]) for name in began if "weight" in name)


def build_of(folder):
    weights = read_weights(folder / "best")[1]
    return {k: v for k, v in weights.items() if "running" not in k and "num_" not in k}


def test_teacher_and_generator_of_a_whole_recipe(whole, store, tmp_path):
    config = small_config("student", epochs=1, teacher=str(whole), generator=str(whole))
    train(store, config, tmp_path / "run", device="cpu")
    inputs = open_run(tmp_path / "run").facts["inputs"]
    assert inputs == {
        "teacher": weights_digest(whole / "teacher"),
        "generator": weights_digest(whole / "cmpg"),
    }
    # The same run whichever way it is named.
    plain = {"teacher": str(whole / "teacher"), "generator": str(whole / "cmpg")}
    assert train(store, small_config("student", epochs=1, **plain), tmp_path / "run").epochs == 1


@pytest.mark.parametrize("recipe", ["finetune", "partseg"])
def test_downstream_recipes_start_from_the_student(recipe, whole, make_store, tmp_path):
    store = make_store(parts=True)
    dense = ("model.backbone=dgcnn",) if recipe == "partseg" else ()
    if dense:
        train_pipeline(
            store, pipeline_config("student.model.backbone=dgcnn", epochs=1), tmp_path / "D", "cpu"
        )
    source = tmp_path / "D" if dense else whole
    config = small_config(recipe, *dense, epochs=1, init=str(source))
    train(store, config, tmp_path / "run", device="cpu")
    inputs = open_run(tmp_path / "run").facts["inputs"]
    assert inputs == {"init": weights_digest(source / "student")}


def test_an_unfinished_recipe_says_which_stage_is_missing(whole, store, tmp_path):
    shutil.copytree(whole / "teacher", tmp_path / "half/teacher")
    with pytest.raises(
        StoreError, match="student of this recipe has not been trained yet"
    ) as caught:
        evaluate(tmp_path / "half", store, device="cpu")
    assert "pointcmt train" in caught.value.fix
    assert str(tmp_path / "half/teacher") in caught.value.fix


def test_the_folder_of_a_checkpoint_names_its_run(whole, store):
    with pytest.raises(StoreError, match="is a checkpoint") as caught:
        evaluate(whole / "student/best", store, device="cpu")
    assert str(whole / "student") in caught.value.fix


def test_several_seeds_are_named_and_a_single_run_is_found(store, tmp_path):
    config = small_config("student", epochs=1)
    study(store, config, (3,), tmp_path / "one", "cpu")
    assert find_run(tmp_path / "one") == tmp_path / "one/seed-3/vanilla"
    assert evaluate(tmp_path / "one", store, device="cpu").shapes == 18
    shutil.copytree(tmp_path / "one/seed-3", tmp_path / "one/seed-4")
    with pytest.raises(StoreError, match="2 runs") as caught:
        evaluate(tmp_path / "one", store, device="cpu")
    for run in ("seed-3/vanilla", "seed-4/vanilla"):
        assert str(tmp_path / "one" / run) in caught.value.fix


def test_what_is_no_run_stays_no_run(store, tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StoreError, match="there is no run here"):
            evaluate(folder, store, device="cpu")
