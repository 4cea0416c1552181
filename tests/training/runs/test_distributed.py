"""Two processes on loopback make the same steps as one that accumulates both halves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.folder import open_run
from tests.training.plain_student import PlainStudent, train_plain
from tests.training.stores import SMALL

ROOT = Path(__file__).parents[3]
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def launch(arguments, code=0):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done


def command(store, out, *overrides, processes=1, epochs=3, code=0):
    settings = [f"--set={override}" for override in (*SMALL["student"], *overrides)]
    options = ["--data", store.path, "--out", str(out), "--epochs", str(epochs), "--device", "cpu"]
    start = LAUNCH if processes > 1 else ["-m"]
    return launch([*start, "pointcmt", "train", "student", *options, *settings, "--json"], code)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(next((folder / "last").glob("weights-*")))


@pytest.fixture(scope="module")
def pair(store, tmp_path_factory):
    """The same training by two processes, and by one that accumulates their halves."""
    folder = tmp_path_factory.mktemp("pair")
    said = command(store, folder / "two", "optimizer.learning_rate=1e-4", processes=2)
    halves = ("data.batch_size=4", "optimizer.accumulate=2", "optimizer.learning_rate=1e-4")
    command(store, folder / "one", *halves)
    return folder, said


def test_two_processes_equal_one_that_accumulates(pair):
    folder, _ = pair
    for two, one in zip(records(folder / "two"), records(folder / "one"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["accuracy"] == one["accuracy"]
    two, one = weights(folder / "two"), weights(folder / "one")
    for name, tensor in one.items():
        # two processes average the statistics of halves; one process updates them in turn
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=2e-5)


def test_only_the_main_process_prints_messages(pair):
    _, said = pair
    assert len(said.stdout.splitlines()) == 3  # the summary, the cost and the JSON object
    assert json.loads(said.stdout.splitlines()[2])["epochs"] == 3
    assert said.stderr.count("training: student") == 1
    assert "and 1 more" in said.stderr


@pytest.mark.slow
def test_a_study_by_two_processes_with_one_shape_to_validate(make_store, tmp_path):
    """A process without validation shapes does not affect the means."""
    store = make_store(train=(9, 9, 1), test=(2, 2, 2), val=(1, 0, 0))
    settings = [f"--set={override}" for override in SMALL["student"]]
    options = ["--data", store.path, "--out", str(tmp_path / "S"), "--epochs", "1", "--device=cpu"]
    said = launch(
        [*LAUNCH, "pointcmt", "train", "student", *options, *settings, "--seeds=0,1", "--json"]
    )
    facts = json.loads(said.stdout.splitlines()[-1])
    assert facts == json.loads((tmp_path / "S" / "study.json").read_text())
    assert len(facts["results"][0]["overall_accuracy"]) == 2
    assert said.stdout.count("vanilla    last") == 1


def test_two_processes_resume(pair, store, tmp_path):
    """Stopped after two epochs and resumed, it ends as without the interruption."""
    folder, _ = pair
    code = (
        "import sys; from pathlib import Path\n"
        "from pointcmt.training import loop\n"
        "from pointcmt.training.runs import distributed\n"
        "loop.SAVE, distributed.ASK_EVERY = 0.0, 3  # saved in the middle of epochs, too\n"
        "from pointcmt.datasets.store.view_store import ViewStore\n"
        "from pointcmt.training.loop import train\n"
        "from pointcmt.training.runs.folder import open_run\n"
        "train(ViewStore.open(sys.argv[1]), open_run(Path(sys.argv[2])).config, "
        "Path(sys.argv[3]), device='cpu', until=2)\n"
    )
    script = tmp_path / "begin.py"
    script.write_text(code)
    arguments = [store.path, str(folder / "two"), str(tmp_path / "run")]
    launch([*LAUNCH[:-1], str(script), *arguments])
    assert len(records(tmp_path / "run")) == 2
    command(store, tmp_path / "run", "optimizer.learning_rate=1e-4", processes=2)
    assert open_run(tmp_path / "run").config == open_run(folder / "two").config
    straight, resumed = weights(folder / "two"), weights(tmp_path / "run")
    for name, tensor in straight.items():
        if "running" in name:  # averaged over processes once more, at each save
            torch.testing.assert_close(resumed[name], tensor)
        else:
            assert torch.equal(resumed[name], tensor)


def test_too_few_labels_for_the_processes_are_reported(store, tmp_path):
    """The message does not ask for a larger batch, as there are no more labels."""
    said = command(store, tmp_path / "run", "data.fraction=0.01", processes=2, code=1)
    assert "a batch of 3 gives some of the 2 processes fewer than two shapes" in said.stderr
    assert "use fewer processes, or a larger data.fraction" in said.stderr
    assert not (tmp_path / "run").exists()


def test_shares_of_unequal_size_give_the_mean_gradient(store, tmp_path, monkeypatch):
    """A batch of 9 is split into 5 and 4; the gradient is the mean over nine shapes."""
    script = ROOT / "tests" / "training" / "plain_student.py"
    launch([*LAUNCH[:-1], str(script), store.path, str(tmp_path / "two"), "9", "1"])
    monkeypatch.setitem(BACKBONES, "pointnet", PlainStudent)
    train_plain(store, tmp_path / "one", 9, 1)
    two, one = (
        load_file(next((tmp_path / name / "last").glob("training-*"))) for name in ("two", "one")
    )
    for name, moment in one.items():
        torch.testing.assert_close(two[name], moment, rtol=1e-3, atol=1e-6)
    (two,), (one,) = records(tmp_path / "two"), records(tmp_path / "one")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
