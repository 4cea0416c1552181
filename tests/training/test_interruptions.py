"""A run interrupted at any step, with any option that has state, equals an uninterrupted one."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pointcmt.training import loop
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.optimization import ModelEMA
from tests.training.equal_runs import assert_equal_runs
from tests.training.plain_student import PlainStudent, train_plain
from tests.training.stores import SMALL, small_config

OPTIONS = {
    "plain": (),
    "accumulated": ("optimizer.accumulate=2", "data.batch_size=4"),
    "averaged": ("optimizer.ema=0.9",),
    "bf16": ("loop.precision=bf16",),
    "clipped": ("optimizer.clip_norm=0.5", "schedule.warmup=1.5"),
    "resampled": ("data.points=48", "data.resample=64"),
}


@pytest.fixture(scope="module", params=OPTIONS)
def option(request, store, tmp_path_factory):
    """A student's configuration and its uninterrupted run."""
    config = small_config("student", *OPTIONS[request.param], epochs=3)
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(store, config, folder, device="cpu")
    return config, folder


def test_a_run_interrupted_at_any_step_equals_an_uninterrupted_one(
    option, store, tmp_path, monkeypatch
):
    """Runs save at each step; Ctrl-C after all of them, and in other than plain runs after some."""
    config, straight = option
    plain = config == small_config("student", epochs=3)
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original, last = loop.learning_rate, 0

    def interrupting(settings, step, steps):
        nonlocal last
        if step > last and (plain or step % 4 == 1):
            last = step
            raise KeyboardInterrupt
        return original(settings, step, steps)

    monkeypatch.setattr(loop, "learning_rate", interrupting)
    interruptions = 0
    while True:
        torch.manual_seed(999)  # earlier random state must not matter
        try:
            train(store, config, tmp_path, device="cpu")
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == (11 if plain else 3)  # 12 steps, none of them twice
    assert_equal_runs(straight, tmp_path)


def test_the_averaged_weights_are_validated_and_saved(store, tmp_path):
    config = small_config("student", "optimizer.ema=0.9", epochs=2)
    train(store, config, tmp_path, device="cpu")
    kept = load_file(next((tmp_path / "last").glob("weights-*")))
    state = load_file(next((tmp_path / "last").glob("training-*")))
    own = {k.removeprefix("model/"): t for k, t in state.items() if k.startswith("model/")}
    assert own.keys() == kept.keys()
    assert not torch.equal(own["classifier.weight"], kept["classifier.weight"])
    for name in own:
        if "running" in name:
            assert torch.equal(own[name], kept[name])


def test_averaged_weights_follow_their_formula():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema, expected = ModelEMA(model, 0.5), model.weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(ema.model.weight.detach(), expected)


def test_bf16_computes_in_bf16_and_keeps_fp32(store, tmp_path):
    runs = {}
    for precision in ("fp32", "bf16"):
        config = small_config("student", f"loop.precision={precision}", epochs=1)
        runs[precision] = train(store, config, tmp_path / precision, device="cpu").last
    assert runs["bf16"]["loss"] != runs["fp32"]["loss"]
    assert math.isclose(runs["bf16"]["loss"], runs["fp32"]["loss"], rel_tol=0.05)
    weights = load_file(next((tmp_path / "bf16" / "last").glob("weights-*")))
    assert {t.dtype for n, t in weights.items() if not n.endswith("tracked")} == {torch.float32}


def test_micro_batches_make_the_same_step_without_batch_norm(store, tmp_path, monkeypatch):
    """The mean over two halves equals that over the whole batch."""
    monkeypatch.setitem(BACKBONES, "pointnet", PlainStudent)
    found = {}
    for size, count in ((8, 1), (4, 2), (2, 4)):
        train_plain(store, tmp_path / str(count), size, count)
        found[count] = load_file(next((tmp_path / str(count) / "last").glob("training-*")))
    for count in (2, 4):
        for name, moment in found[1].items():
            torch.testing.assert_close(found[count][name], moment, rtol=1e-3, atol=1e-6)


@pytest.mark.slow  # the compiler takes half a minute
def test_compiled_training_equals_uncompiled_training(store, tmp_path):
    """In a separate process, because torch's compiler emits warnings."""
    losses = {}
    for mode in ("eager", "compiled"):
        options = ["--data", store.path, "--out", str(tmp_path / mode), "--epochs", "2"]
        overrides = [
            f"--set={override}" for override in (*SMALL["student"], "optimizer.learning_rate=1e-5")
        ]
        switch = ["--compile"] if mode == "compiled" else []
        subprocess.run(
            [sys.executable, "-m", "pointcmt", "train", "student", *options, *overrides, *switch],
            check=True,
            capture_output=True,
        )
        lines = (tmp_path / mode / "metrics.jsonl").read_text().splitlines()
        losses[mode] = [json.loads(line)["loss"] for line in lines]
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-3)
    names = [
        set(load_file(next((tmp_path / mode / "best").glob("weights-*"))))
        for mode in ("eager", "compiled")
    ]
    assert names[0] == names[1]


def test_the_requested_checkpoints_are_kept(store, tmp_path):
    config = small_config("student", "loop.keep_every=2", epochs=5)
    train(store, config, tmp_path, device="cpu")
    kept = sorted(path.name for path in tmp_path.glob("epoch-*"))
    assert kept == ["epoch-000002", "epoch-000004"]
    assert checkpoint.read_scalars(tmp_path / "epoch-000004")["epoch"] == 4


def test_tensorboard_holds_the_metrics(store, tmp_path, monkeypatch):
    """Also for a run killed between an event and its checkpoint: that event is purged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small_config("student", epochs=4)
    train(store, config, tmp_path, device="cpu", until=2)
    train(store, config, tmp_path, device="cpu")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("train/loss", "loss"), ("validation/accuracy", "val_accuracy")):
        told = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in told] == [1, 2, 3, 4]
        assert [value for _, value in told] == pytest.approx([record[key] for record in records])
