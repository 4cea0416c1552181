"""Pipelines and studies of seeds: what is trained, what is reused, and their statistics."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pointcmt.errors import StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_pipeline
from pointcmt.training.config.pointcmt import STAGES
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.ops.semantic import Confusion
from pointcmt.training.ops.statistics import (
    accuracy_interval,
    paired_difference,
    paired_sum_difference,
    spread,
)
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.folder import open_run
from pointcmt.training.study import study
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import SMALL, small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def pipeline_config(*overrides, **flags):
    """A pipeline that fits the small stores."""
    small = [f"{stage}.{override}" for stage in STAGES for override in SMALL[stage]]
    return load_pipeline(None, [*small, *overrides], **flags)


@pytest.fixture(scope="module")
def finished(small_resnet, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("pipeline") / "run"
    return out, train_pipeline(store, pipeline_config(epochs=2), out, device="cpu")


def test_the_pipeline_trains_three_stages(finished):
    out, results = finished
    assert list(results) == ["teacher", "cmpg", "student"]
    assert sorted(os.listdir(out)) == ["cmpg", "student", "teacher"]
    facts = {name: open_run(out / name).facts["inputs"] for name in results}
    assert facts["teacher"] == {}
    assert facts["student"]["teacher"] == facts["cmpg"]["teacher"]
    assert facts["student"].keys() == {"teacher", "generator"}


def test_an_interrupted_pipeline_resumes_and_reuses_finished_stages(
    finished, store, tmp_path, monkeypatch
):
    """Ctrl-C in the second stage."""
    out, _ = finished
    original = loop.learning_rate

    def interrupting(config, step, steps):
        if config.recipe == "cmpg" and step == 5:
            raise KeyboardInterrupt
        return original(config, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train_pipeline(store, pipeline_config(epochs=2), tmp_path, device="cpu")
    before = (tmp_path / "teacher" / "last" / "checkpoint.json").stat().st_mtime_ns
    train_pipeline(store, pipeline_config(epochs=2), tmp_path, device="cpu")
    assert (tmp_path / "teacher" / "last" / "checkpoint.json").stat().st_mtime_ns == before
    for stage in ("teacher", "cmpg", "student"):
        assert_equal_runs(out / stage, tmp_path / stage)


def test_another_setting_of_a_finished_stage_is_refused(finished, store):
    out, _ = finished
    config = pipeline_config("teacher.optimizer.learning_rate=0.01", epochs=2)
    with pytest.raises(StoreError, match=r"optimizer\.learning_rate: 0\.001 in the run"):
        train_pipeline(store, config, out, device="cpu")


def test_without_feature_enhancement_no_generator_is_trained(store, tmp_path):
    config = pipeline_config("student.distillation.feature.weight=0", epochs=1)
    assert list(train_pipeline(store, config, tmp_path, device="cpu")) == ["teacher", "student"]


def test_a_study_trains_and_compares_seeds(finished, store, tmp_path):
    config = pipeline_config(epochs=1)
    found = study(store, config, (0, 1, 2), tmp_path, device="cpu")
    folders = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("run.json"))
    pairs = [f"seed-{seed}/{kind}" for seed in (0, 1, 2) for kind in ("distilled", "vanilla")]
    assert folders == sorted(["cmpg", "teacher", *pairs])
    gains = []
    for seed in (0, 1, 2):
        accuracy = {}
        for kind in ("distilled", "vanilla"):
            folder = tmp_path / f"seed-{seed}" / kind
            assert open_run(folder).config.seed == seed
            accuracy[kind] = evaluate(folder, store, which="last", device="cpu").overall_accuracy
        gains.append(accuracy["distilled"] - accuracy["vanilla"])
    difference = found.differences["distilled", "last"]
    assert difference.mean == pytest.approx(np.mean(gains))
    assert difference.std == pytest.approx(np.std(gains, ddof=1))
    assert difference.low <= difference.mean <= difference.high
    stored = json.loads((tmp_path / "study.json").read_text())
    assert stored == json.loads(json.dumps(found.as_json()))
    for row in stored["results"]:
        mean, std = row["mean_std"]["overall_accuracy"]
        assert mean == pytest.approx(np.mean(row["overall_accuracy"]))
        assert std == pytest.approx(np.std(row["overall_accuracy"], ddof=1))
    again = study(store, config, (0, 1, 2), tmp_path, device="cpu")  # finished: nothing is trained
    assert again.as_json() == found.as_json()
    assert "distilled - vanilla, last" in found.describe()


def test_pipelines_and_studies_inside_a_store_are_refused(store):
    inside = Path(store.path) / "runs"
    with pytest.raises(UsageError, match="inside a view store"):
        train_pipeline(store, pipeline_config(epochs=1), inside, device="cpu")
    for config in (pipeline_config(epochs=1), small_config("student", epochs=1)):
        with pytest.raises(UsageError, match="inside a view store"):
            study(store, config, (0, 1), inside, device="cpu")
    assert not inside.exists()


def test_a_study_of_generators_is_refused(store, tmp_path):
    with pytest.raises(UsageError, match="predict no classes"):
        study(store, small_config("cmpg", epochs=1), (0, 1), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_study_of_vanilla_students_has_no_pairs(store, tmp_path):
    found = study(store, small_config("student", epochs=1), (3, 4), tmp_path, device="cpu")
    assert found.differences == {}
    assert {variant for variant, _ in found.reports} == {"vanilla"}


def test_confidence_intervals_have_their_coverage():
    """In 400 experiments with an accuracy of 0.8, the interval contains it in about 95 %."""
    rng = np.random.default_rng(0)
    held = 0
    for correct in rng.binomial(500, 0.8, 400):
        low, high = accuracy_interval(int(correct), 500)
        held += low <= 0.8 <= high
    assert 0.92 <= held / 400 <= 0.975


def test_paired_differences_equal_their_formula():
    rng = np.random.default_rng(1)
    b = rng.random((5, 400)) < 0.7
    a = b | (rng.random((5, 400)) < 0.2)  # right wherever B is right, and on some more shapes
    a, b = a.astype(float), b.astype(float)
    found = paired_difference(a, b)
    gains = (a - b).mean(axis=1)
    assert (found.mean, found.std) == pytest.approx((gains.mean(), gains.std(ddof=1)))
    assert 0 < found.low < found.mean < found.high
    swapped = paired_difference(b, a)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    same = paired_difference(a, a)
    assert (same.mean, same.std, same.low, same.high) == (0, 0, 0, 0)


def test_the_spread_of_one_value_is_0():
    assert spread([0.5]) == (0.5, 0.0)


def test_differences_of_a_measure_of_sums():
    """The mean IoU of a sum of counts; equal runs differ by 0, whatever is drawn."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 50, (2, 3, 6, 4, 5))
    found = paired_sum_difference(a, b, lambda total: Confusion(total).miou, draws=200)
    gains = [Confusion(a[s].sum(0)).miou - Confusion(b[s].sum(0)).miou for s in range(3)]
    assert found.mean == pytest.approx(np.mean(gains))
    assert found.std == pytest.approx(np.std(gains, ddof=1))
    assert found.low < found.mean < found.high
    same = paired_sum_difference(a, a, lambda total: Confusion(total).miou, draws=20)
    assert (same.mean, same.std, same.low, same.high) == (0, 0, 0, 0)
