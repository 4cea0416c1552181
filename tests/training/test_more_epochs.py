"""A run continues to more epochs, and a damaged checkpoint does not take the other one with it."""

import json
import os
import shutil

import pytest
import yaml

import pointcmt as pc
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.pointcmt import STAGES
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.export.networks import export
from pointcmt.training.loop import train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.optimization import learning_rate
from pointcmt.training.study import study
from tests.commands import pointcmt
from tests.training.stores import SMALL, small_config
from tests.training.test_whole_recipes import pipeline_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def config_of(epochs, *overrides):
    return small_config("student", "optimizer.ema=0.9", *overrides, epochs=epochs)


def content(folder):
    """Every file's bytes, without what measures time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name not in (".lock", "cost.json", "curve.png") and "tensorboard" not in path.parts
    }


def weights(folder):
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in folder.glob("*/*.safetensors")
    }


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k in ("epoch", "loss", "val_loss", "lr")}
        for line in lines
    ]


@pytest.fixture(scope="module")
def two(store, tmp_path_factory):
    """A finished run of two epochs with a cosine."""
    out = tmp_path_factory.mktemp("two") / "run"
    train(store, config_of(2), out, device="cpu")
    return out


def test_with_a_constant_rate_it_is_the_longer_run(store, tmp_path):
    constant = ("schedule.name=constant", "schedule.warmup=1")
    train(store, config_of(2, *constant), tmp_path / "run", device="cpu")
    train(store, config_of(4, *constant), tmp_path / "run", device="cpu")
    train(store, config_of(4, *constant), tmp_path / "straight", device="cpu")
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


def test_a_cosine_goes_on_as_that_of_all_epochs_and_says_so(two, store, tmp_path, messages):
    run = shutil.copytree(two, tmp_path / "run")
    before = metrics(run)
    result = train(store, config_of(5), run, device="cpu")
    said = messages()
    assert result.epochs == 5
    after = metrics(run)
    assert after[:2] == before
    steps = 33 // 8
    for line in after[2:]:  # of the last step of each epoch
        expected = learning_rate(config_of(5), line["epoch"] * steps - 1, 5 * steps)
        assert line["lr"] == expected
    assert "continuing this run of 2 epochs to 5" in said
    assert "differs from 5 epochs at once" in said
    assert "resuming after epoch 2 of 5" in said
    facts = json.loads((run / "run.json").read_text())
    assert facts["extended"] == [{"from": 2, "to": 5}]
    assert open_run(run).config == config_of(5)
    assert yaml.safe_load((run / "config.yaml").read_text())["epochs"] == 5
    assert evaluate(run, store, device="cpu").shapes == 18


def test_an_interrupted_continuation_ends_with_the_same_bits(two, store, tmp_path):
    straight = shutil.copytree(two, tmp_path / "straight")
    stopped = shutil.copytree(two, tmp_path / "stopped")
    train(store, config_of(4), straight, device="cpu")
    train(store, config_of(4), stopped, device="cpu", until=3)
    train(store, config_of(4), stopped, device="cpu")
    assert weights(stopped) == weights(straight)
    assert metrics(stopped) == metrics(straight)


def test_the_same_command_does_nothing(two, store, tmp_path, messages):
    run = shutil.copytree(two, tmp_path / "run")
    before = content(run)
    train(store, config_of(2), run, device="cpu")
    assert content(run) == before
    said = messages()
    assert "this run is finished" in said
    assert "continuing" not in said


def test_fewer_epochs_or_other_settings_stay_refused(two, store, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    before = content(run)
    for config, says in (
        (config_of(1), "epochs: 2 in the run, 1 requested"),
        (config_of(4, "data.batch_size=4"), r"data\.batch_size: 8 in the run, 4 requested"),
    ):
        with pytest.raises(StoreError, match=says):
            train(store, config, run, device="cpu")
    assert content(run) == before


def test_the_command_continues(two, store, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    command = ["train", "student", "--data", store.path, "--out", run, "--device", "cpu"]
    command += ["--config", run / "config.yaml", "--epochs", 3, "--resume", "--json"]
    done = pointcmt(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["epochs"] == 3
    assert "continuing this run of 2 epochs to 3" in done.stderr


def test_the_student_of_a_whole_recipe_continues_alone(store, tmp_path):
    out = tmp_path / "RUN"
    train_pipeline(store, pipeline_config(epochs=1), out, device="cpu")
    before = content(out)
    with pytest.raises(UsageError, match="more epochs of the teacher would change") as caught:
        train_pipeline(store, pipeline_config(epochs=2), out, device="cpu")
    assert content(out) == before
    assert "--set student.epochs=2" in caught.value.fix
    fixed = [word for word in caught.value.fix.replace(";", "").split() if ".epochs=" in word]
    assert fixed == ["teacher.epochs=1", "cmpg.epochs=1", "student.epochs=2"]
    results = train_pipeline(store, pipeline_config(*fixed), out, device="cpu")
    assert {name: result.epochs for name, result in results.items()} == {
        "teacher": 1, "cmpg": 1, "student": 2,
    }  # fmt: skip


def test_the_same_command_with_more_epochs_of_the_student_continues_it(store, tmp_path):
    """A stage's own --set counts more than --epochs, which is for all stages."""
    small = [f"--set={stage}.{value}" for stage in STAGES for value in SMALL[stage]]
    base = ["train", "--data", store.path, "--device", "cpu", "--out", tmp_path / "RUN"]
    base += [*small, "--set=teacher.model.backbone=resnet-18"]
    every = [*base, "--epochs", "1"]
    for command, says in (
        (every, "stage 3 of 3"),
        ([*every, "--set", "student.epochs=2"], "continuing this run of 1 epochs to 2"),
        ([*every, "--set", "student.epochs=2"], "all 2 epochs have been trained"),
    ):
        done = pointcmt(*command)
        assert done.returncode == 0, done.stderr
        assert says in done.stderr
    refused = pointcmt(*base, "--epochs", 3)
    assert refused.returncode == 2
    fixed = [
        f"--set={word}" for word in refused.stderr.replace(";", "").split() if ".epochs=" in word
    ]
    assert fixed[-1] == "--set=student.epochs=3"
    done = pointcmt(*base, "--epochs", 3, *fixed)
    assert done.returncode == 0, done.stderr
    assert "continuing this run of 2 epochs to 3" in done.stderr


def test_the_advice_names_the_epochs_that_the_student_was_to_have(store, tmp_path):
    out = tmp_path / "RUN"
    train_pipeline(store, pipeline_config(epochs=1), out, device="cpu")
    config = pipeline_config("teacher.epochs=9", "student.epochs=3", epochs=1)
    with pytest.raises(UsageError, match="more epochs of the teacher") as caught:
        train_pipeline(store, config, out, device="cpu")
    assert "teacher.epochs=1" in caught.value.fix
    assert "student.epochs=3" in caught.value.fix


def test_all_seeds_continue(store, tmp_path):
    study(store, small_config("student", epochs=1), (0, 1), tmp_path / "S", "cpu")
    result = study(store, small_config("student", epochs=2), (0, 1), tmp_path / "S", "cpu")
    assert all(open_run(tmp_path / f"S/seed-{n}/vanilla").config.epochs == 2 for n in (0, 1))
    last = [
        report.epoch for (_, which), r in result.reports.items() if which == "last" for report in r
    ]
    assert last == [2, 2]


def damage(checkpoint, how):
    if how == "marker":
        (checkpoint / "checkpoint.json").write_text("{")
        return
    (file,) = checkpoint.glob("weights-*.safetensors")
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["marker", "weights"])
def test_best_is_usable_where_last_is_damaged(how, two, store, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    damage(run / "last", how)
    assert (
        evaluate(run, store, device="cpu").measures == evaluate(two, store, device="cpu").measures
    )
    export(run, "safetensors", tmp_path / "out.safetensors")
    assert pc.load_run(run).recipe == "student"
    assert len(pc.predict(run, store.path, split="test", device="cpu")) == 18
    started = small_config("student", epochs=1, init=str(run))
    assert train(store, started, tmp_path / "next", device="cpu").epochs == 1
    for use in (
        lambda: evaluate(run, store, which="last", device="cpu"),
        lambda: pc.load_run(run, checkpoint="last"),
        lambda: pc.predict(run, store.path, checkpoint="last", device="cpu"),
        lambda: export(run, "safetensors", tmp_path / "last.safetensors", "last"),
    ):
        with pytest.raises(StoreError, match="damaged") as caught:
            use()
        assert "--checkpoint best" in caught.value.fix
    with pytest.raises(StoreError, match="damaged") as caught:  # to continue needs all of `last`
        train(store, config_of(3), run, device="cpu")
    assert f"--init {run}" in caught.value.fix
    assert "best" in caught.value.fix


def test_last_is_usable_where_best_is_damaged(two, store, tmp_path):
    run = shutil.copytree(two, tmp_path / "run")
    damage(run / "best", "weights")
    with pytest.raises(StoreError, match="damaged") as caught:
        evaluate(run, store, device="cpu")
    assert "--checkpoint last" in caught.value.fix
    assert evaluate(run, store, which="last", device="cpu").shapes == 18
    damage(run / "last", "weights")
    with pytest.raises(StoreError, match="damaged") as caught:
        evaluate(run, store, device="cpu")
    assert "--checkpoint" not in caught.value.fix
    assert os.path.exists(run / "run.json")
