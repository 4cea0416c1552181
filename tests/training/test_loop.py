"""The training loop: it learns, and a resumed run equals an uninterrupted one bit for bit."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pointcmt.console import show_messages
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import PointcmtError, StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_config, to_yaml
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.metrics import best_of
from pointcmt.training.runs.pretrained import start_from
from tests.training import textbooks
from tests.training.equal_runs import TIMING, assert_equal_runs, metrics, tensors
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


@pytest.fixture(scope="module")
def straight(store, tmp_path_factory):
    """A student trained for six epochs without interruption."""
    out = tmp_path_factory.mktemp("straight") / "run"
    train(store, small_config("student", epochs=6), out, device="cpu")
    return out


@pytest.mark.parametrize(("recipe", "epochs"), [("student", 20), ("teacher", 6)])
def test_training_learns_to_classify(recipe, epochs, make_store, tmp_path):
    """Shapes seen in training, and unseen shapes of the same classes."""
    store = make_store(train=(10, 10, 10), test=(0, 0, 0))
    config = small_config(recipe, "loss.label_smoothing=0", "schedule.name=cosine", epochs=epochs)
    result = train(store, config, tmp_path / "run", device="cpu")
    assert result.best["val_accuracy"] == 1
    assert evaluate(tmp_path / "run", store, "train", "last", device="cpu").overall_accuracy == 1
    assert result.as_json()["metrics"]["last"]["epoch"] == epochs


def test_a_run_records_its_configuration_data_and_metrics(straight, store):
    facts = json.loads((straight / "run.json").read_text())
    assert facts["recipe"] == "student"
    assert facts["class_names"] == list(store.class_names)
    assert facts["data"]["plan_sha256"] == store.attributes["plan_sha256"]
    assert facts["data"]["render_hash"] == store.attributes["render_hash"]
    assert facts["versions"].keys() >= {"pointcmt", "torch", "numpy"}
    config = small_config("student", epochs=6)
    assert (straight / "config.yaml").read_text() == to_yaml(config)
    assert load_config("student", straight / "config.yaml") == config
    assert (straight / "curve.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    for record in records:
        assert record.keys() == {
            "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", *TIMING,
        }  # fmt: skip
        assert 0 <= record["data_wait"] < 1
    best = checkpoint.read_scalars(straight / "best")
    assert best["epoch"] == best_of(records)["epoch"]


def test_a_finished_run_is_not_changed(straight, store, messages):
    before = {file: file.read_bytes() for file in straight.rglob("*") if file.is_file()}
    result = train(store, small_config("student", epochs=6), straight, device="cpu")
    assert "this run is finished: all 6 epochs" in messages()
    assert (result.epochs, result.last["epoch"]) == (6, 6)
    assert before == {file: file.read_bytes() for file in straight.rglob("*") if file.is_file()}


@pytest.mark.parametrize("stops", [(1, 5), (3,)])
def test_a_resumed_run_equals_an_uninterrupted_one(straight, store, tmp_path, stops):
    config = small_config("student", epochs=6)
    for epoch in stops:
        torch.manual_seed(999)  # earlier random state must not matter
        assert train(store, config, tmp_path, device="cpu", until=epoch).epochs == epoch
    train(ViewStore.open(store.path), config, tmp_path, device="cpu")
    assert_equal_runs(straight, tmp_path)


def test_a_resumed_teacher_equals_an_uninterrupted_one(store, tmp_path):
    config = small_config("teacher", epochs=2)
    train(store, config, tmp_path / "a", device="cpu")
    for epoch in (1, 2):
        train(store, config, tmp_path / "b", device="cpu", until=epoch)
    assert_equal_runs(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("moment", ["step", "append_metrics", "last", "best"])
def test_a_run_interrupted_anywhere_equals_an_uninterrupted_one(
    straight, store, tmp_path, monkeypatch, moment
):
    """Ctrl-C between two steps of an epoch, and before each file that the epoch writes."""
    config, records = small_config("student", epochs=6), metrics(straight)
    epoch = max(e for e in (1, 2, 3, 4, 5) if best_of(records[:e])["epoch"] == e)
    due = {
        "step": lambda losses, when, out: any(step == 4 * epoch - 1 for step, _ in losses),
        "append_metrics": lambda folder, record: record["epoch"] == epoch,
        "last": lambda folder, step, *_: (folder.name, step) == ("last", 4 * epoch),
        "best": lambda folder, number, *_: (folder.name, number) == ("best", epoch),
    }[moment]
    module, name = {
        "step": (loop, "require_finite"),
        "append_metrics": (loop, "append_metrics"),
    }.get(moment, (checkpoint, "save"))
    original = getattr(module, name)

    def interrupted(*arguments):
        if due(*arguments):
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(store, config, tmp_path, device="cpu")
    train(store, config, tmp_path, device="cpu", until=epoch)
    assert checkpoint.read_scalars(tmp_path / "best")["epoch"] == epoch
    train(store, config, tmp_path, device="cpu")
    assert_equal_runs(straight, tmp_path)


def test_a_run_killed_at_random_moments_equals_an_uninterrupted_one(straight, store, tmp_path):
    """The process is killed with SIGKILL twice, then the command runs to the end."""
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from pointcmt.console import show_messages\n"
        "from pointcmt.datasets.store.view_store import ViewStore\n"
        "from pointcmt.training.loop import train\n"
        "from tests.training.stores import small_config\n"
        "show_messages()\n"
        "train(ViewStore.open(sys.argv[1]), small_config('student', epochs=6), "
        "Path(sys.argv[2]), device='cpu')"
    )
    command = [sys.executable, "-W", "error", "-c", code, store.path, str(tmp_path / "run")]
    marker = tmp_path / "run" / "last" / "checkpoint.json"
    for wait in (0.0, 0.2):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
        before = marker.read_bytes() if marker.exists() else b""
        while process.poll() is None and (not marker.exists() or marker.read_bytes() == before):
            time.sleep(0.005)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch" in done.stderr
    assert_equal_runs(straight, tmp_path / "run")


def test_another_configuration_is_refused_with_the_difference(straight, store):
    config = small_config("student", "optimizer.learning_rate=0.01", epochs=7)
    with pytest.raises(StoreError, match="different settings") as caught:
        train(store, config, straight, device="cpu")
    assert "optimizer.learning_rate: 0.001 in the run, 0.01 requested" in str(caught.value)
    assert "epochs: 6 in the run, 7 requested" in str(caught.value)
    with pytest.raises(StoreError, match="recipe: student in the run, teacher requested"):
        train(store, small_config("teacher", epochs=6), straight, device="cpu")


def test_other_data_is_refused(straight, make_store):
    other = make_store(train=(10, 10, 10))
    with pytest.raises(StoreError, match=r"store\.plan_sha256: \w+ in the run"):
        train(other, small_config("student", epochs=6), straight, device="cpu")


def test_foreign_files_in_a_run_are_kept(straight, store, tmp_path):
    """Beside each checkpoint, while the run trains, resumes, and is repeated when finished."""
    config = small_config("student", epochs=6)
    train(store, config, tmp_path, device="cpu", until=1)
    names = [f"{where}/{name}" for where in ("best", "last") for name in ("x.onnx", ".nfs/a.txt")]
    for name in ("notes.txt", *names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    for until in (3, None, None):
        train(store, config, tmp_path, device="cpu", until=until)
        assert [(tmp_path / name).read_text() for name in names] == names
    assert_equal_runs(straight, tmp_path)


def test_figures_that_a_killed_run_did_not_draw_are_drawn(store, tmp_path, monkeypatch):
    """It is interrupted right after the last checkpoint."""
    config = small_config("student", epochs=2)
    train(store, config, tmp_path / "straight", device="cpu")

    def interrupt_at_the_end(session, records):
        if len(records) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "keep_checkpoints", interrupt_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            train(store, config, tmp_path / "run", device="cpu")
    train(store, config, tmp_path / "run", device="cpu")
    assert_equal_runs(tmp_path / "straight", tmp_path / "run")
    pictures = [(tmp_path / name / "curve.png").read_bytes() for name in ("straight", "run")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("override", ["optimizer.learning_rate=1e30", "augmentation.shift=1e38"])
def test_a_loss_that_is_not_finite_stops_the_run(store, tmp_path, override):
    config = small_config("student", override, "optimizer.weight_decay=0", epochs=3)
    with pytest.raises(PointcmtError, match=r"the loss is (nan|inf) at (step \d+|validation)") as e:
        train(store, config, tmp_path, device="cpu")
    assert "optimizer.learning_rate" in e.value.fix
    assert checkpoint.read_scalars(tmp_path / "last") is None  # nothing broken is kept


@pytest.mark.parametrize(
    ("recipe", "override", "says"),
    [
        ("student", "data.points=65", "65 points per shape, but the store has 64"),
        ("teacher", "data.views=5", "5 views per shape, but the store has 4"),
        ("teacher", "model.weights=/nowhere", "no such folder of weights"),
    ],
)
def test_settings_that_do_not_fit_are_reported_before_writing_anything(
    recipe, override, says, store, tmp_path
):
    with pytest.raises(UsageError, match=says):
        train(store, small_config(recipe, override), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_training_starts_from_the_weights_of_a_run(straight, store, tmp_path):
    config = small_config("student", "optimizer.learning_rate=1e-30", epochs=1, init=str(straight))
    result = train(store, config, tmp_path / "run", device="cpu")
    started = {k.split(":")[1]: v for k, v in tensors(straight).items() if k.startswith("best")}
    ended = {k.split(":")[1]: v for k, v in tensors(tmp_path / "run").items() if "best" in k}
    assert all(torch.equal(started[k], ended[k]) for k in started if k.endswith("weight"))
    assert result.last["accuracy"] > 0.8
    with pytest.raises(StoreError, match="no run here"):
        train(store, small_config("student", init="/nowhere"), tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()


def test_training_starts_from_a_published_file(store, tmp_path):
    """A file of weights named as in other code; the classifier starts from its weights."""
    theirs = textbooks.msg(3)
    weights = {f"module.model.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"model_state": weights}, tmp_path / "published.pth")
    model = BACKBONES["pointnet2-msg"](3)
    config = small_config(
        "student", "model.backbone=pointnet2-msg", init=str(tmp_path / "published.pth")
    )
    assert start_from(config, model, ["a", "b", "c"]) == ()
    assert torch.equal(model.classifier.weight, theirs.state_dict()["fc_layer2.0.weight"])
    config = small_config("student", init=str(tmp_path / "published.pth"))
    with pytest.raises(StoreError, match="a different architecture"):  # this one is PointNet
        train(store, config, tmp_path / "run", device="cpu")


def test_progress_is_one_line_per_epoch(store, tmp_path, messages):
    show_messages("json")
    train(store, small_config("student", epochs=2), tmp_path, device="cpu")
    lines = [json.loads(line) for line in messages().splitlines()]
    assert [line["epoch"] for line in lines[1:]] == [1, 2]
    assert all(line["loss"] > 0 and "eta_seconds" in line for line in lines[1:])
    assert lines[-1]["done"] == lines[-1]["total"]
