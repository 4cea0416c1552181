"""Differences of runs that detect boxes: intervals from scenes that are drawn again."""

import json
import shutil

import numpy as np
import pytest

from pointcmt.files import MOST_BYTES
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
    pack_counts,
    unpack_counts,
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
    packed = [pack_counts(count_detections(*scene, len(CLASSES))) for scene in scenes]
    ids = [f"scene{n}" for n in range(SCENES)]
    return box_counts_of({"ids": ids, "classes": CLASSES, "counts": packed})


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


def dense_counts(packed, shape):
    dense = np.zeros(shape, np.int64)
    places, counts = unpack_counts(packed)
    dense.ravel()[places] = counts
    return dense


@pytest.mark.parametrize("counts", [[0, 0, 0], [1, 0, 2], [3, 1, 1], [0, 1, 900], []])
def test_packed_counts_are_exact(counts):
    dense = np.array(counts, np.int64)
    packed = json.loads(json.dumps(pack_counts(dense)))
    assert np.array_equal(dense_counts(packed, dense.shape), dense)


def test_counts_of_as_many_scenes_as_sun_rgbd_has_can_be_read():
    """5,050 scenes, each with 600 different scores of 10 classes and a thousand scores of nearly 0:
    they are in a file that `report` reads, and take far less memory than dense ones.
    """
    rng, packed = np.random.default_rng(0), []
    for _ in range(20):
        dense = np.zeros((10, BINS + 1, 2), np.int64)
        np.add.at(dense, (rng.integers(0, 10, 600), rng.integers(0, BINS, 600), 1), 1)
        dense[:, 0, 1] += 100
        dense[:, BINS, 0] = rng.integers(0, 4, 10)
        packed.append(pack_counts(dense))
    many = (packed * 253)[:5050]
    text = json.dumps({"counts": many}, separators=(",", ":"))
    assert len(text) < 0.9 * MOST_BYTES
    ids = [f"{number:06}" for number in range(len(many))]
    found = box_counts_of({"ids": ids, "classes": list("abcdefghij"), "counts": many})
    assert sum(counts.values().numel() for counts in found.counts) < 630 * len(many)


def test_detectors_are_compared_with_intervals(rooms, tmp_path, caplog):
    with small_networks():
        settings = (f"model.headings={GUESSING}", "model.proposals=64")
        train(rooms, config(*settings, epochs=1), tmp_path / "A", device="cpu")
        report = evaluate(tmp_path / "A", rooms, "train", device="cpu")
    for name in ("predictions", "evaluation"):  # as if these were the test split
        (tmp_path / f"A/{name}-train-best.json").rename(tmp_path / f"A/{name}.json")
    stored = json.loads((tmp_path / "A/predictions.json").read_text())
    for packed, dense in zip(stored["counts"], report.counts, strict=True):
        assert np.array_equal(dense_counts(packed, dense.shape), dense)
    assert len(stored["ids"]) == report.shapes
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    without_hits = report.counts
    without_hits[:, :, :BINS, 0] = 0
    worse = [pack_counts(dense) for dense in without_hits]
    (tmp_path / "B/predictions.json").write_text(json.dumps({**stored, "counts": worse}))
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
    (tmp_path / "B/predictions.json").write_bytes(b" " * (MOST_BYTES + 1))  # too many scenes
    baseline, other = read_sources([tmp_path / "A", tmp_path / "B"])
    assert "B/predictions.json has 17 MB" in caplog.text  # long paths are shortened
    plain = differences(other, baseline)
    assert plain[OVERALL].value == gains[OVERALL].value
    assert plain[OVERALL].low is None
