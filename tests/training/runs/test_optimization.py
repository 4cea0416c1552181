"""Learning rates, gradient clipping, and the choice of the best epoch."""

import math

import pytest
import torch
from torch import nn

from pointcmt.training.config.files import load_config
from pointcmt.training.config.sections import Optimizer
from pointcmt.training.loop import train
from pointcmt.training.runs.metrics import best_of
from pointcmt.training.runs.optimization import learning_rate, make_optimizer, set_momentum
from tests.training.equal_runs import assert_equal_runs, tensors
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def test_clipping_bounds_the_gradient_norm(store, tmp_path):
    """Adam's step hides the size of the gradient, so its first moments are checked."""
    config = small_config("student", "optimizer.clip_norm=1e-3", epochs=1)
    train(store, config, tmp_path, device="cpu")
    moments = [t for name, t in tensors(tmp_path).items() if name.endswith("/exp_avg")]
    assert 0 < math.sqrt(sum(t.square().sum() for t in moments)) <= 1e-3


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_biases_and_norms_need_not_decay(name):
    """Without a gradient, a step only decays: by the factor 1 - rate · decay with adamw."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    settings = Optimizer(name=name, weight_decay=0.5, learning_rate=0.1, decay="matrices")
    make_optimizer(model, settings).step()
    after = {key: p.flatten()[0].item() for key, p in model.named_parameters()}
    assert after["0.bias"] == after["1.weight"] == after["1.bias"] == 1
    assert after["0.weight"] == after["2.weight"] < 0.96
    if name == "adamw":
        assert after["0.weight"] == pytest.approx(1 - 0.1 * 0.5)
    tokens = nn.ParameterList([torch.ones(1, 1, 5), torch.ones(2, 1, 5)])
    decaying, others = make_optimizer(tokens, settings).param_groups
    assert [p.shape[0] for p in others["params"]] == [1]  # a class token
    assert [p.shape[0] for p in decaying["params"]] == [2]
    every = make_optimizer(model, settings.model_copy(update={"decay": "all"}))
    assert [group["weight_decay"] for group in every.param_groups] == [0.5]


def test_a_run_whose_norms_do_not_decay_resumes_bit_for_bit(store, tmp_path):
    config = small_config("student", "optimizer.decay=matrices", epochs=2)
    train(store, config, tmp_path / "whole", "cpu")
    train(store, config, tmp_path / "resumed", "cpu", until=1)
    train(store, config, tmp_path / "resumed", "cpu")
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")


def test_schedules_of_the_learning_rate():
    constant, cosine = load_config("teacher"), load_config("student")
    assert {learning_rate(constant, step, 100) for step in range(100)} == {1e-3}
    rates = [learning_rate(cosine, step, 100) for step in range(101)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1e-3
    assert rates[50] == pytest.approx(5e-4)
    assert rates[100] == pytest.approx(0)
    poly = load_config("student", None, ["schedule.name=poly"])
    assert [learning_rate(poly, step, 100) for step in (0, 50, 100)] == pytest.approx(
        [1e-3, 1e-3 * 0.5**0.9, 0]
    )


def rates_of(config, per_epoch=4):
    """The rate of each epoch's steps, as a set for each epoch."""
    steps = config.epochs * per_epoch
    rates = [learning_rate(config, step, steps) for step in range(steps)]
    return [rates[first : first + per_epoch] for first in range(0, steps, per_epoch)]


def torchs_rates(scheduler, epochs, rate, **options):
    """The rate of each epoch when torch's scheduler is stepped after each of them."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), rate)
    schedule = scheduler(optimizer, **options)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("epochs", [7, 250])
def test_a_cosine_per_epoch_with_a_floor_equals_torchs(epochs):
    settings = ["schedule.per=epoch", "schedule.floor=0.001", "optimizer.learning_rate=0.1"]
    config = load_config("student", None, settings, epochs=epochs)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = torchs_rates(schedule, epochs, 0.1, T_max=epochs, eta_min=0.001)
    for found, rate in zip(rates_of(config), expected, strict=True):
        assert len(set(found)) == 1
        assert found[0] == pytest.approx(rate, rel=1e-6)


def test_a_cosine_may_end_before_the_run():
    config = load_config("student", None, ["schedule.floor=1e-4", "schedule.length=6"], epochs=10)
    rates = [rate for epoch in rates_of(config) for rate in epoch]
    assert rates[:24] == sorted(rates[:24], reverse=True)
    assert rates[12] == pytest.approx(1e-4 + 9e-4 / 2)
    assert set(rates[24:]) == {1e-4}


def test_steps_at_intervals_equal_torchs_with_a_floor():
    settings = ["schedule.name=steps", "schedule.interval=20", "schedule.factor=0.7"]
    config = load_config("student", None, [*settings, "schedule.floor=1e-4"], epochs=200)
    expected = torchs_rates(torch.optim.lr_scheduler.StepLR, 200, 1e-3, step_size=20, gamma=0.7)
    for found, rate in zip(rates_of(config), expected, strict=True):
        assert len(set(found)) == 1
        assert found[0] == pytest.approx(max(rate, 1e-4))


def test_steps_fall_within_an_epoch_if_their_interval_ends_there():
    settings = ["schedule.name=steps", "schedule.interval=2.5", "schedule.factor=0.5"]
    rates = rates_of(load_config("student", None, settings, epochs=6))
    assert rates[2] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    whole = rates_of(load_config("student", None, [*settings, "schedule.per=epoch"], epochs=6))
    assert whole[2] == pytest.approx([1e-3] * 4)
    assert whole[3] == pytest.approx([5e-4] * 4)


def test_sgd_has_nesterovs_momentum_unless_told_otherwise():
    for nesterov in (True, False):
        settings = Optimizer(name="sgd", weight_decay=0.0, nesterov=nesterov)
        (group,) = make_optimizer(nn.Linear(1, 1), settings).param_groups
        assert (group["nesterov"], group["momentum"]) == (nesterov, 0.9)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_cycle_equals_torchs(name):
    """Its learning rate and momentum at every step, with the settings of Pointcept for ScanNet."""
    settings = [f"optimizer.name={name}", "schedule.name=onecycle", "schedule.warmup=2"]
    config = load_config("semseg", None, settings, epochs=40)
    optimizer = make_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    theirs = make_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    (group,), (expected,) = optimizer.param_groups, theirs.param_groups
    options = {"pct_start": 0.05, "div_factor": 10.0, "final_div_factor": 1e4}
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs, config.optimizer.learning_rate, 200, **options
    )
    for step in range(200):
        assert learning_rate(config, step, 200) == pytest.approx(expected["lr"], rel=1e-9)
        set_momentum(group, config, step, 200)
        momentum, other = (g.get("momentum") or g["betas"][0] for g in (group, expected))
        assert momentum == pytest.approx(other, rel=1e-9)
        theirs.step()
        if step < 199:
            schedule.step()


@pytest.mark.parametrize("warmup", [0, 0.01, 40])
def test_one_cycle_is_defined_for_any_warm_up(warmup):
    settings = ["schedule.name=onecycle", f"schedule.warmup={warmup}"]
    config = load_config("semseg", None, settings, epochs=40)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert max(rates) <= config.optimizer.learning_rate
    assert min(rates) >= config.optimizer.learning_rate * 1e-5 * (1 - 1e-9)


def test_other_schedules_leave_the_momentum():
    group = {"momentum": 0.9}
    set_momentum(group, load_config("semseg"), 5, 100)
    assert group == {"momentum": 0.9}


def test_the_best_epoch_is_the_last_of_the_most_accurate_ones():
    accuracies = (0.5, 0.6, 0.6, 0.4)
    records = [{"epoch": i + 1, "val_accuracy": value} for i, value in enumerate(accuracies)]
    assert best_of(records)["epoch"] == 3
