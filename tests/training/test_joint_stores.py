"""Every recipe trains on several stores, as on one store that holds all of their shapes."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import pointcmt as pc
from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.errors import StoreError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.loop import train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.folder import open_run
from tests.commands import pointcmt
from tests.stores import render_listing
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.stores import SMALL, Plan, shapes_of, small_config, write_store
from tests.training.test_whole_recipes import pipeline_config

pytestmark = pytest.mark.usefixtures("small_resnet")

PLAN = Plan(train=(8, 8, 8), test=(3, 3, 3), parts=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two stores, and one of all their shapes: the first store's, then the second's."""
    folder, shapes = tmp_path_factory.mktemp("places"), shapes_of(PLAN)
    parts = shapes[::3], [shape for i, shape in enumerate(shapes) if i % 3]
    for name, listed in (("A", parts[0]), ("B", parts[1]), ("both", [*parts[0], *parts[1]])):
        write_store(folder / name, PLAN, listed)
    return folder


@pytest.fixture(scope="module")
def joint(places):
    return open_stores([places / "A", places / "B"])


@pytest.fixture(scope="module")
def both(places):
    return open_stores([places / "both"])


@pytest.fixture(scope="module")
def student(joint, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "R"
    train(joint, small_config("student", epochs=2), out, device="cpu")
    return out


def test_a_student_of_two_stores_is_that_of_one_store_bit_for_bit(student, both, joint, tmp_path):
    train(both, small_config("student", epochs=2), tmp_path / "R", device="cpu")
    assert_equal_runs(student, tmp_path / "R")
    one, other = (evaluate(folder, store, device="cpu") for folder, store in
                  ((student, joint), (tmp_path / "R", both)))  # fmt: skip
    assert one.numbers() == other.numbers()
    assert one.shapes == 9


def test_segmentation_of_two_stores_is_that_of_one_store_bit_for_bit(both, joint, tmp_path):
    config = small_config("partseg", "load=none", epochs=1)
    for store, name in ((joint, "joint"), (both, "both")):
        train(store, config, tmp_path / name, device="cpu")
    assert_equal_runs(tmp_path / "joint", tmp_path / "both")
    one, other = (evaluate(tmp_path / name, store, device="cpu") for store, name in
                  ((joint, "joint"), (both, "both")))  # fmt: skip
    assert one.as_json() == other.as_json()


def test_the_whole_recipe_keeps_features_in_each_store(places, both, joint, tmp_path):
    config = pipeline_config(epochs=1)
    train_pipeline(joint, config, tmp_path / "joint", device="cpu")
    train_pipeline(both, config, tmp_path / "both", device="cpu")
    assert_equal_runs(tmp_path / "joint/teacher", tmp_path / "both/teacher")
    for stage in ("cmpg", "student"):  # features are encoded in other batches
        one, other = (metrics(tmp_path / name / stage)[0] for name in ("joint", "both"))
        assert one == pytest.approx(other, rel=1e-3)
    keys = {name: {path.name for path in (places / name / "features").iterdir() if path.is_dir()}
            for name in ("A", "B", "both")}  # fmt: skip
    assert keys["A"] == keys["B"] == keys["both"]
    assert len(keys["A"]) == 1


def test_the_facts_name_every_store_and_a_run_resumes_on_them(student, places, joint, tmp_path):
    facts = json.loads((student / "run.json").read_text())["data"]
    assert [store["path"] for store in facts["stores"]] == [str(places / n) for n in "AB"]
    assert [s["plan_sha256"] for s in facts["stores"]] == [
        member.attributes["plan_sha256"] for member in joint.members
    ]
    assert open_run(student).facts["data"] == facts
    config = small_config("student", epochs=2)
    train(joint, config, tmp_path / "R", device="cpu", until=1)
    train(joint, config, tmp_path / "R", device="cpu")
    assert_equal_runs(student, tmp_path / "R")


def test_other_stores_or_another_order_are_refused(student, places):
    config = small_config("student", epochs=2)
    with pytest.raises(StoreError, match="different settings") as caught:
        train(open_stores([places / "B", places / "A"]), config, student, device="cpu")
    assert caught.value.fix.startswith("pass the stores in the order of the run: ")
    assert caught.value.fix.index(str(places / "A")) < caught.value.fix.index(str(places / "B"))
    with pytest.raises(StoreError, match="different settings"):
        train(open_stores([places / "A"]), config, student, device="cpu")


def test_validation_shapes_are_those_of_the_run(student, joint, places):
    report = evaluate(student, joint, split="val", device="cpu")
    assert report.overall_accuracy == pytest.approx(
        max(m["val_accuracy"] for m in metrics(student))
    )
    with pytest.raises(StoreError) as caught:
        evaluate(student, open_stores([places / "A"]), split="val", device="cpu")
    assert str(places / "B") in caught.value.fix


def test_a_single_store_of_the_run_is_no_other_dataset(student, places, messages):
    assert evaluate(student, open_stores([places / "B"]), device="cpu").notes == ()
    assert "note" not in messages()


def test_a_frozen_network_is_probed_on_both_stores(student, joint, both):
    one, other = (probe(student, store, device="cpu")[0] for store in (joint, both))
    assert one.as_json()["trained"] == other.as_json()["trained"]


def command(*arguments):
    return pointcmt(*arguments, "--device", "cpu")


@pytest.mark.slow
def test_the_commands_take_several_stores(student, places, tmp_path):
    data = ("--data", places / "A", "--data", places / "B")
    settings = [f"--set={value}" for value in SMALL["student"]]
    done = command("train", "student", *data, "--out", tmp_path / "R", "--epochs", 2, *settings)
    assert done.returncode == 0, done.stderr
    judged = command("evaluate", tmp_path / "R", *data, "--json")
    assert judged.returncode == 0, judged.stderr
    per_class = json.loads(judged.stdout.splitlines()[-1])["per_class"]
    assert [c["shapes"] for c in per_class.values()] == [3, 3, 3]
    told = json.loads((tmp_path / "R/evaluation.json").read_text())
    assert told["data"] == f"{places / 'A'}, {places / 'B'}"
    found = command("predict", tmp_path / "R", *data, "--out", tmp_path / "P")
    assert found.returncode == 0, found.stderr
    with (tmp_path / "P/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == 11 * [str(places / "A")] + 22 * [str(places / "B")]


def test_shapes_of_equal_ids_in_two_stores_are_told_apart(tmp_path):
    for name in "AB":
        write_store(tmp_path / name, replace(PLAN, parts=False))
    result = pc.train(
        "student", data=[tmp_path / "A", pc.open_store(tmp_path / "B")], out=tmp_path / "R",
        epochs=1, device="cpu", data__points=64, data__batch_size=8,
    )  # fmt: skip
    found = pc.predict(result.folder, tmp_path / "A", tmp_path / "B", device="cpu")
    keys = {(shape.id, shape.source) for shape in found.shapes}
    assert len(keys) == len(found) == 66
    assert len({shape.id for shape in found.shapes}) == 33
    report = pc.evaluate(result.folder, data=[tmp_path / "A", tmp_path / "B"], device="cpu")
    assert report.shapes == 18


def test_a_class_that_one_store_lacks_is_learned_from_the_other(tmp_path):
    for name, classes, known, tested in (
        ("A", ("rod", "ball"), (6, 6), (2, 2)),
        ("B", ("ball", "plate"), (3, 6), (1, 2)),
    ):
        plan = Plan(class_names=classes, train=known, test=tested, val=(0, 0))
        write_store(tmp_path / name, plan)
    store = open_stores([tmp_path / "A", tmp_path / "B"])
    train(store, small_config("student", epochs=1), tmp_path / "R", device="cpu")
    assert open_run(tmp_path / "R").class_names == ["rod", "ball", "plate"]
    report = evaluate(tmp_path / "R", store, device="cpu")
    assert {n: c["shapes"] for n, c in report.per_class.items()} == {
        "rod": 2,
        "ball": 3,
        "plate": 2,
    }


@pytest.mark.slow
def test_two_processes_share_the_batches_of_two_stores(places, tmp_path):
    """As one process that accumulates both halves."""
    small = [f"--set={value}" for value in SMALL["student"]]
    base = ["train", "student", "--data", places / "A", "--data", places / "B", *small]
    base += ["--epochs", 1, "--device", "cpu", "--set=optimizer.learning_rate=1e-4"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for start, name, more in (
        (launch, "two", ()),
        ((), "one", ("--set=data.batch_size=4", "--set=optimizer.accumulate=2")),
    ):
        words = [*start, "-m", "pointcmt", *base, *more, "--out", tmp_path / name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    two, one = (metrics(tmp_path / name)[0] for name in ("two", "one"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["accuracy"] == one["accuracy"]


def test_python_joins_stores_and_trains_on_them(student, places, tmp_path):
    joined = pc.join_stores(places / "A", pc.open_store(places / "B"))
    assert len(joined) == 33
    data = joined.dataset("train", arrays=("points",), batch_size=8, drop_last=True, points=64)
    assert len(data) == 3
    pc.train(
        "student", data=joined, out=tmp_path / "R", epochs=2, device="cpu",
        data__batch_size=8, data__points=64, data__validation=0.2,
    )  # fmt: skip
    assert_equal_runs(student, tmp_path / "R")


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Twelve toy shapes with correspondences in each of two stores, and all in one."""
    folder = tmp_path_factory.mktemp("views")
    listing = select(list_shapes("toy", None), None, 24)
    for name, shapes in (("A", listing.shapes[:12]), ("B", listing.shapes[12:])):
        part = replace(listing, shapes=shapes)
        render_listing(part, folder / name, rig="circle12", shard=5)
    render_listing(listing, folder / "both", rig="circle12", shard=8)
    return folder


def test_pretraining_on_two_stores_and_what_starts_from_it(views, tmp_path):
    joint, both = open_stores([views / "A", views / "B"]), open_stores([views / "both"])
    config = small_config("mvnet", "images.cache=true", epochs=1)
    for store, name in ((joint, "joint"), (both, "both")):
        train(store, config, tmp_path / name, device="cpu")
    one, other = (metrics(tmp_path / name)[0] for name in ("joint", "both"))
    assert one == pytest.approx(other, rel=1e-3)
    cost = json.loads((tmp_path / "joint/cost.json").read_text())
    for name in "AB":  # each store keeps those of its own images
        arrays = (path for path in (views / name / "features").rglob("*") if "c" in path.parts)
        assert 0 < sum(path.stat().st_size for path in arrays) < cost["feature_bytes"]
    online = small_config("mvnet", "images.cache=false", epochs=1)
    train(joint, online, tmp_path / "online", device="cpu")
    assert metrics(tmp_path / "online")[0] == pytest.approx(one, rel=2e-2)
    finetune = small_config("finetune", f"init={tmp_path / 'joint'}", epochs=1)
    train(joint, finetune, tmp_path / "finetuned", device="cpu")
    assert np.isfinite(metrics(tmp_path / "finetuned")[0]["val_loss"])
