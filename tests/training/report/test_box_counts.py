"""Differences of runs that detect boxes: intervals from scenes that are drawn again."""

import json
import shutil

import numpy as np
import pytest

from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.detection.scores import (
    BINS,
    Detections,
    TrueBoxes,
    count_detections,
    counted_precision,
    detection_scores,
    known_mean,
    sparse_counts,
)
from pointcmt.training.report.box_counts import box_counts_of
from pointcmt.training.report.differences import OVERALL, differences
from pointcmt.training.report.source import read_sources
from tests.training.detectors import GUESSING, config, small_networks

SCENES, CLASSES = 6, ["a", "b", "c"]


def random_scene(rng):
    """Three to six true boxes of classes a and b, and detections near them or anywhere."""
    count = rng.integers(3, 7)
    true = np.concatenate([rng.uniform(0, 4, (count, 3)), np.ones((count, 3))], axis=1)
    true = np.pad(true, ((0, 0), (0, 1)))
    near = true + np.pad(rng.normal(0, 0.2, (count, 3)), ((0, 0), (0, 4)))
    label = rng.integers(0, 2, count)
    score = rng.integers(0, 1000, 2 * count) / 1000 + 0.0005  # the middle of a bin
    found = Detections(np.concatenate([near, near[::-1]]), np.tile(label, 2), score)
    return found, TrueBoxes(true, label)


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    return [random_scene(rng) for _ in range(SCENES)]


@pytest.fixture(scope="module")
def counts(scenes):
    rows = [sparse_counts(count_detections(*scene, len(CLASSES))) for scene in scenes]
    ids = [f"scene{n}" for n in range(SCENES)]
    return box_counts_of({"ids": ids, "classes": CLASSES, "detections": rows})


@pytest.mark.parametrize("times", [(1, 1, 1, 1, 1, 1), (2, 0, 1, 3, 0, 1), (0, 0, 0, 0, 0, 1)])
def test_precision_of_drawn_scenes_is_that_of_the_repeated_scenes(scenes, counts, times):
    (found,) = counts.measures(np.array([times], float))
    repeated = [scene for scene, often in zip(scenes, times, strict=True) for _ in range(often)]
    dense = sum(count_detections(*scene, len(CLASSES)) for scene in repeated)
    expected = counted_precision(dense)
    np.testing.assert_allclose(found[:-1], expected)
    assert np.isnan(found[2])  # class c has no true boxes
    assert found[-1] == pytest.approx(known_mean(expected))


def test_precision_of_all_scenes_is_the_exact_one(scenes, counts):
    """Different scores are in different bins here, mostly."""
    exact = detection_scores(*map(list, zip(*scenes, strict=True)), len(CLASSES))
    found = counts.measures(np.ones(SCENES))
    np.testing.assert_allclose(found[:-1], exact.average_precision, atol=0.02)


def test_order_of_scenes_does_not_matter(counts):
    times = np.array([2, 0, 1, 3, 0, 1.0])
    places = [3, 1, 5, 0, 2, 4]
    moved = counts.ordered(places)
    assert moved.ids == [f"scene{n}" for n in places]
    np.testing.assert_allclose(moved.measures(times[places]), counts.measures(times))


def test_detectors_are_compared_with_intervals(rooms, tmp_path):
    with small_networks():
        settings = (f"model.headings={GUESSING}", "model.proposals=64")
        train(rooms, config(*settings, epochs=1), tmp_path / "A", device="cpu")
        report = evaluate(tmp_path / "A", rooms, "train", device="cpu")
    for name in ("predictions", "evaluation"):  # as if these were the test split
        (tmp_path / f"A/{name}-train-best.json").rename(tmp_path / f"A/{name}.json")
    stored = json.loads((tmp_path / "A/predictions.json").read_text())
    assert len(stored["detections"]) == len(stored["ids"]) == report.shapes
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    worse = [[r for r in rows if r[1] == BINS or r[2] == 0] for rows in stored["detections"]]
    (tmp_path / "B/predictions.json").write_text(json.dumps({**stored, "detections": worse}))
    facts = json.loads((tmp_path / "B/evaluation.json").read_text())
    table = {n: {**row, "ap25": None if row["ap25"] is None else 0.0}
             for n, row in facts["per_class"].items()}  # fmt: skip
    (tmp_path / "B/evaluation.json").write_text(
        json.dumps({**facts, "per_class": table, "ap25": 0.0})
    )
    baseline, other = read_sources([tmp_path / "A", tmp_path / "B"])
    gains = differences(other, baseline)
    assert gains[OVERALL].value == pytest.approx(-report.measures["ap25"])
    assert -1 <= gains[OVERALL].low <= gains[OVERALL].value <= gains[OVERALL].high <= 0
    for name, row in report.per_class.items():
        if row["ap25"] is None:
            assert gains[name].value is None
        else:
            assert gains[name].value == pytest.approx(-row["ap25"])
            assert gains[name].low <= gains[name].value + 0.01
    same = differences(baseline, baseline)
    assert (same[OVERALL].low, same[OVERALL].high) == (0, 0)
