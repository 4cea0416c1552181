"""Final runs on the whole train split: nothing is held out, and the last epoch counts."""

import json

import numpy as np
import pytest
import torch

from pointcmt.errors import StoreError
from pointcmt.training.commands import _summary
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import LAST_EPOCH, evaluate
from pointcmt.training.loop import train
from pointcmt.training.recipes import build_recipe
from pointcmt.training.runs.splits import split_shapes, split_train
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import small_config


@pytest.fixture(scope="module")
def final(store, tmp_path_factory):
    """A finished run of two epochs without validation."""
    out = tmp_path_factory.mktemp("final") / "run"
    return out, train(store, small_config("student", "data.validation=0", epochs=2), out, "cpu")


def test_nothing_is_held_out(store, make_store):
    data = small_config("student", "data.validation=0").data
    for divide in (split_train, split_shapes):
        split = divide(store, data)
        assert np.array_equal(split.train, np.flatnonzero(store.splits == 0))
        assert not len(split.validation)
        assert any("last epoch" in note for note in split.notes)
    own = make_store(train=(4, 4, 4), val=(2, 2, 2), test=(1, 1, 1))
    assert len(split_train(own, data).train) == 12  # its val split is not trained on


def test_the_last_epoch_counts_and_is_said_to(store, final):
    out, result = final
    assert result.best == result.last
    assert result.last["epoch"] == 2
    assert not any(name.startswith("val_") for name in result.last)
    assert json.loads((out / "best/checkpoint.json").read_text())["epoch"] == 2
    assert "2 epochs, without validation" in _summary(out, result)
    report = evaluate(out, store, device="cpu")
    assert report.epoch == 2
    assert LAST_EPOCH in report.notes
    with pytest.raises(StoreError, match="held out no validation shapes"):
        evaluate(out, store, "val", device="cpu")


def test_a_run_without_validation_resumes_bit_for_bit(store, final, tmp_path):
    config = small_config("student", "data.validation=0", epochs=2)
    train(store, config, tmp_path / "run", "cpu", until=1)
    train(store, config, tmp_path / "run", "cpu")
    assert_equal_runs(final[0], tmp_path / "run")


def test_votes_vary_as_the_configuration_says():
    settings = ["data.points=20", "votes.scale=[0.5, 0.6]", "votes.shift=0.1", "votes.resample=30"]
    recipe = build_recipe(load_config("student", None, settings), 3, False)
    assert recipe.stream.points == 30
    points = torch.rand(50, 30, 3) + 1
    varied = recipe.test_time_augmentation({"points": points}, torch.Generator().manual_seed(0))
    found = varied["points"]
    assert found.shape == (50, 20, 3)
    assert found.min() >= 0.5 - 0.1
    assert found.max() <= 2 * 0.6 + 0.1
    extent = (found.amax(dim=1) - found.amin(dim=1)) / (points.amax(dim=1) - points.amin(dim=1))
    assert extent.max() <= 0.6 * (1 + 1e-6)
    assert len(extent.unique()) > 140
    plain = load_config("student", None, ["data.points=20"])
    still = build_recipe(plain, 3, False).test_time_augmentation(
        {"points": points[:, :20]}, torch.Generator()
    )["points"]
    ratio = still / points[:, :20]
    assert ratio.min() >= 0.9 * (1 - 1e-6)
    assert ratio.max() <= 1.1 * (1 + 1e-6)
