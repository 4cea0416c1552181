"""Scenes are scored at full resolution: votes beside the plain scores, folds as one matrix."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import pointcmt as pc
from pointcmt.cli import app
from pointcmt.datasets.sources.s3dis import list_s3dis
from pointcmt.datasets.store.scene_streams.scenes import find_scenes
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.classifier import open_classifier
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.folds import FoldReport, evaluate_folds
from pointcmt.training.evaluation.scene_frames import find_frames
from pointcmt.training.evaluation.scenes import Drawn, SceneReport
from pointcmt.training.figures.frames import draw_frames
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet
from pointcmt.training.ops.semantic import confusion
from pointcmt.training.runs.splits import split_shapes, split_test
from tests.fake_s3dis import room_points, write_room
from tests.scene_stores import render_rooms
from tests.stores import render_scenes
from tests.training.networks.test_sparse_backbones import SMALL
from tests.training.recipes.test_semseg import NAME, VOXEL, config

AREAS = range(1, 7)
TINY = {"frames": 1, "height": 8, "width": 8, "points": 2000}


@pytest.fixture(scope="module", autouse=True)
def _small_unet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DENSE, NAME, partial(DenseSparseUNet, config=SMALL))
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """S3DIS with two rooms in each area."""
    root = tmp_path_factory.mktemp("s3dis")
    for area in AREAS:
        for number in (1, 2):
            parts = room_points(seed=10 * area + number, at=(area, -2.0, 0.5))
            write_room(root / f"Area_{area}", f"office_{number}", parts)
    return root


@pytest.fixture(scope="module")
def store(release, tmp_path_factory):
    out = tmp_path_factory.mktemp("s3dis") / "S"
    return render_scenes(list_s3dis("s3dis", release), out, **TINY)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Runs that hold out Area_2, Area_4 and, by the store's own test split, Area_5."""
    folder, found = tmp_path_factory.mktemp("folds"), {}
    for area in (2, 4, 0):
        found[area or 5] = folder / str(area)
        more = ("data.crop=0", f"data.test_area={area}")
        train(store, config(*more, epochs=1), found[area or 5], device="cpu")
    return found


def by_hand(run, store, scene, motions=(None,)):
    """Counts of a scene, by the network on the first point of each voxel, for each motion [3,3]."""
    points, colors = store.read("points", scene), store.read("color", scene)
    places = np.floor(points.astype(np.float64) / VOXEL).astype(np.int64)
    _, first, voxel = np.unique(places, axis=0, return_index=True, return_inverse=True)
    chosen = points[first].astype(np.float64)
    chosen[:, :2] -= chosen[:, :2].mean(axis=0)
    inputs = torch.from_numpy(chosen.astype(np.float32))
    color = torch.from_numpy(colors[first]).float() / 255 - 0.5
    opened = open_classifier(run, "best", 1, "cpu")
    model, probability = opened.recipe.model.eval(), 0
    with torch.no_grad():
        for motion in motions:
            moved = inputs if motion is None else (inputs[:, :, None] * motion).sum(dim=1)
            batch = torch.zeros(len(first), dtype=torch.int64)
            probability = probability + model(moved, batch, color).softmax(dim=1)
    predicted = probability.argmax(dim=1).numpy()[voxel.ravel()]
    return confusion(store.read("semantic", scene), predicted, len(opened.run.class_names)).counts


def rooms_of(store, area):
    return [n for n, shape in enumerate(store.shapes) if shape.id.startswith(f"Area_{area}/")]


def motions_of(run, count):
    """The motions of votes: a generator with the run's seed draws a yaw, two flips and a scale.

    Of each turn it first draws whether it happens: here the yaw always does, and tilts never.
    """
    found, a = [], open_classifier(run, "best", 1, "cpu").run.config.augmentation
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        turns = []
        for angle in (torch.pi, 0.0, 0.0):
            torch.rand(1, generator=generator)
            turns.append(torch.empty(1).uniform_(-angle, angle, generator=generator))
        yaw = turns[0]
        mirrored = torch.rand(1, 2, generator=generator)[0] < a.flip
        scale = torch.empty(1).uniform_(*a.scale, generator=generator)
        turn = torch.eye(3)
        turn[0, 0], turn[0, 1], turn[1, 0], turn[1, 1] = yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()
        found.append(scale * turn @ torch.diag(torch.tensor([*(1 - 2.0 * mirrored), 1])))
    return found


def test_votes_are_the_mean_of_moved_copies_and_stand_beside_the_plain_scores(runs, store):
    run = runs[5]
    plain = evaluate(run, store, device="cpu")
    voted = evaluate(run, store, votes=4, device="cpu")
    motions = [None, *motions_of(run, 3)]
    expected = sum(by_hand(run, store, scene, motions) for scene in rooms_of(store, 5))
    assert voted.total_of_votes.counts.tolist() == expected.tolist()
    assert voted.measures == plain.measures
    assert plain.total_of_votes is None
    told, before = voted.as_json(), plain.as_json()
    assert {key: told[key] for key in before} == before
    extra = told["with_votes"]
    assert (extra["votes"], extra["miou"]) == (4, voted.total_of_votes.miou)
    assert "mean of 4 votes" in voted.describe()
    saved = json.loads((run / "evaluation.json").read_text())
    assert np.array(saved["confusion_with_votes"]).tolist() == expected.tolist()
    assert evaluate(run, store, votes=4, device="cpu").as_json() == told


def test_an_area_is_held_out_whatever_the_splits_of_the_store_are(store):
    for area in AREAS:
        data = config(f"data.test_area={area}").data
        split, test = split_shapes(store, data), split_test(store, data)
        assert test.tolist() == rooms_of(store, area)
        known = {*split.train.tolist(), *split.validation.tolist()}
        assert known == set(range(12)) - set(test.tolist())
        assert not set(split.train.tolist()) & set(split.validation.tolist())
    assert split_test(store, config().data).tolist() == rooms_of(store, 5)


def test_folds_are_pooled_from_the_rooms_that_each_run_held_out(runs, store):
    names = [str(runs[area]) for area in (4, 2, 5)]
    done = CliRunner().invoke(app, ["evaluate", *names, "--data", store.path, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    counts = {a: sum(by_hand(runs[a], store, n) for n in rooms_of(store, a)) for a in (2, 4, 5)}
    for area in counts:
        saved = json.loads((runs[area] / "evaluation.json").read_text())
        assert saved["confusion"] == counts[area].tolist()
        assert found["areas"][str(area)]["miou"] == saved["miou"]
    total = sum(counts.values())
    hits = np.diag(total)
    union = total.sum(axis=1) + total[:, :-1].sum(axis=0) - hits
    assert found["miou"] == pytest.approx((hits[union > 0] / union[union > 0]).mean(), abs=1e-12)
    assert found["overall_accuracy"] == hits.sum() / total.sum()
    assert list(found["areas"]) == ["2", "4", "5"]
    report = pc.evaluate([runs[5], str(runs[2]), runs[4]], data=store.path, device="cpu")
    assert report.as_json() == found
    assert (report.measures["miou"], report.shapes) == (found["miou"], 6)
    with pytest.raises(UsageError, match="several runs are only evaluated as folds"):
        pc.evaluate([runs[2], runs[4]], data=store.path, split="val")
    assert "3 of 6 areas, 6 rooms" in done.output
    assert "each area by the run that held it out" in done.output


def report(counts):
    empty = Drawn([], [], [])
    return SceneReport("semseg", "test", "last", 3, 1, ["a", "b", "c", "d"], counts, [], empty)


def test_the_score_of_folds_is_not_a_mean_of_scores():
    """The golden case of `ops.semantic`, its points spread over six areas."""
    true = np.array([0, 0, 0, 1, 1, 2, -1, -1])
    predicted = np.array([0, 0, 1, 1, 2, 2, 0, 2])
    parts = ([0, 6], [1], [2], [3, 7], [4], [5])
    areas = {
        area: report([confusion(true[part], predicted[part], 4)])
        for area, part in enumerate(parts, 1)
    }
    found = FoldReport(areas)
    assert found.pooled.total.iou[:3] == pytest.approx([2 / 3, 1 / 3, 1 / 2])
    assert found.as_json()["miou"] == pytest.approx(0.5)
    assert found.as_json()["averaged"] == 3
    assert found.as_json()["mean_class_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    mean = np.mean([each.measures["miou"] for each in areas.values()])
    assert mean == pytest.approx(4 / 6)  # another number
    assert "all 6 areas, 6 rooms, 6 points:" in found.describe()
    assert "50.00%  (mean over 3 of 4 classes)" in found.describe()


def test_no_run_is_scored_on_an_area_that_it_learned(runs, store, release, tmp_path):
    other = render_scenes(list_s3dis("s3dis-area3", release), tmp_path / "S3", **TINY)
    with pytest.raises(StoreError, match="was trained on Area_3 of S3DIS") as caught:
        evaluate(runs[5], other, device="cpu")
    assert "it held out Area_5" in caught.value.what
    assert "data.test_area=3" in caught.value.fix
    found = evaluate(runs[2], other, device="cpu")  # chooses its own area there, not the split
    again = evaluate(runs[2], store, device="cpu")
    assert found.total.counts.tolist() == again.total.counts.tolist()
    with pytest.raises(UsageError, match="two runs held out Area_2"):
        evaluate_folds([runs[2], runs[4], runs[2]], store, device="cpu")


def test_what_is_no_fold_is_refused(runs, store, tmp_path):
    rooms = render_rooms(tmp_path / "S", 3)
    with pytest.raises(StoreError, match="no rendered room of Area_2") as caught:
        train(rooms, config("data.test_area=2"), tmp_path / "run", device="cpu")
    assert "data.test_area" in caught.value.fix
    assert not (tmp_path / "run").exists()
    train(rooms, config("data.crops=2", epochs=1), tmp_path / "plain", device="cpu")
    with pytest.raises(UsageError, match="only as folds of S3DIS"):
        evaluate_folds([runs[2], tmp_path / "plain"], store, device="cpu")
    with pytest.raises(UsageError, match="no run is given"):
        evaluate_folds([], store, device="cpu")
    words = ["evaluate", str(runs[2]), str(runs[4]), "--data", store.path]
    for more in (["--split", "val"], ["--probe", "svm"]):
        done = CliRunner().invoke(app, [*words, *more])
        assert "several runs are only evaluated as folds" in str(done.exception)


def test_frames_show_the_classes_of_the_points_that_they_see(tmp_path):
    """With the true classes as prediction, a frame's labels are those of its own label image."""
    store = render_rooms(tmp_path / "S", 1, 1)
    scene = find_scenes(store, np.array([0]))[0]
    true = store.read("semantic", 0).astype(np.int64)
    frames = find_frames(scene, "room", true, (true + 1) % 4, 2)
    assert len(frames) == 2
    numbers = store.read("frame", 0).tolist()
    for frame in frames:
        view = numbers.index(int(frame.name.split("frame ")[1]))
        stored = store.read("semantic_image", 0, view)
        assert np.array_equal(frame.image, store.read("rgb", 0, view))
        assert frame.shown.mean() > 0.9
        assert (frame.true == stored)[frame.shown].mean() > 0.95  # points of 5 cm, not pixels
        assert np.array_equal(frame.predicted[frame.shown], (frame.true[frame.shown] + 1) % 4)
        assert np.all(frame.true[~frame.shown] == -1)
    picture = draw_frames(frames, list("abcd"), [[0, 0, 0]] * 4)
    assert picture.startswith(b"\x89PNG")


def test_pictures_are_written_beside_the_scores(runs, store):
    evaluate(runs[4], store, "val", device="cpu")
    for name in ("classes", "segmentation", "confusion"):
        with Image.open(runs[4] / f"{name}-val-best.png") as picture:
            assert min(picture.size) > 200
    assert not (runs[4] / "frames-val-best.png").exists()  # S3DIS without 2D-3D-S has no frames
