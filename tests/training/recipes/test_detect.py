"""Detection: runs on box rooms, compared bit for bit and with detections by hand."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError
from pointcmt.scenes import SceneLabels
from pointcmt.training import loop
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.classifier import open_classifier
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.prediction import open_predictor
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
from pointcmt.training.networks.detection.seeds import Level, PointSeeds
from pointcmt.training.networks.detection.votenet import VoteNet
from pointcmt.training.ops.detection.losses import WEIGHTS
from pointcmt.training.ops.detection.proposals import detect
from pointcmt.training.ops.detection.scores import TrueBoxes, detection_scores
from pointcmt.training.recipes import detect as recipes
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.report.page import write_report
from pointcmt.training.runs.optimization import learning_rate, norm_momentum
from pointcmt.training.runs.pretrained import open_network
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.networks.test_sparse_backbones import SMALL
from tests.training.stores import small_config

LEVELS = (
    Level(128, 0.3, 12, (8, 8, 16)),
    Level(64, 0.6, 8, (16, 16, 16)),
    Level(32, 1.0, 8, (16, 16, 16)),
    Level(16, 1.5, 8, (16, 16, 16)),
)
UNET = "sparse-unet-tiny"
SETTINGS = ("data.points=300", "data.batch_size=2", "data.validation=0.25", "model.proposals=16")


GUESSING = 12  # bins of headings of a network that guesses


def build(seeds, classes, headings, proposals):
    return (Guessing if headings == GUESSING else VoteNet)(seeds, classes, headings, proposals)


def config(*overrides, **flags):
    return load_config("detect", None, [*SETTINGS, *overrides], **{"epochs": 2, **flags})


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    """Replace both kinds of networks by hundredths of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "PointSeeds", partial(PointSeeds, levels=LEVELS))
        patch.setattr(recipes, "VoteNet", build)
        patch.setitem(DENSE, UNET, partial(DenseSparseUNet, config=SMALL))
        patch.setitem(BACKBONES, UNET, partial(SparseUNetEncoder, config=SMALL))
        yield


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Six rooms, the first of them for the test."""
    out = tmp_path_factory.mktemp("detect") / "S"
    return render_rooms(out, count=6, config=replace(CONFIG, frames=6, voxel=0.1))


class Guessing(VoteNet):
    """A network that proposes boxes of the mean size on a grid, near two places the likelier.

    One is near the block's middle, the other, which is even likelier, is beside the block. The
    network is trained, but never says what it has learned.
    """

    def forward(self, points, features):
        found = super().forward(points, features)
        places = torch.cartesian_prod(torch.linspace(-1.8, 1, 8), torch.linspace(-1.3, 1.5, 8))
        block, beside = (
            (places - torch.tensor(place)).norm(dim=1) for place in ((1.0, 0.1), (0.2, 0.1))
        )
        likely = 2 - 3 * torch.minimum(block, beside - 0.2)
        centers = torch.cat([places, torch.full((64, 1), 0.35)], dim=1)
        return found._replace(
            centers=centers + 0 * found.centers,
            objectness=torch.stack([0 * likely, likely], dim=1) + 0 * found.objectness,
            heading=0 * found.heading,
            turn=0 * found.turn,
            growth=0 * found.growth,
        )


@pytest.fixture(scope="module")
def run(rooms, tmp_path_factory):
    """A run whose network guesses."""
    folder = tmp_path_factory.mktemp("detect") / "run"
    settings = (f"model.headings={GUESSING}", "augmentation.yaw=180", "model.proposals=64")
    train(rooms, config(*settings, epochs=3), folder, device="cpu")
    return folder


@pytest.mark.slow
def test_training_learns_to_find_the_block(rooms):
    """500 steps on four rooms, the last 150 of them with a tenth of the rate; others are tested."""
    radii = (0.4, 0.8, 1.2, 2.0)
    levels = [
        Level(level.centers, radius, 16, (32, 32, 32))
        for level, radius in zip(LEVELS, radii, strict=True)
    ]
    torch.manual_seed(0)
    model = VoteNet(PointSeeds(0, tuple(levels)), 1, 1, 48)
    still = ("augmentation.yaw=0", "augmentation.flip_x=0", "augmentation.flip_y=0")
    recipe = recipes.Detect(model, config("data.batch_size=4", *still), 1)
    context = RecipeContext(rooms, np.arange(6), {}, None, None, np.arange(2, 6))
    recipe = recipe.prepare(context)
    optimizer, generator = torch.optim.Adam(model.parameters(), 0.003), torch.Generator()
    stream, tested = (
        open_stream(rooms, shapes, reads)
        for shapes, reads in (
            (np.arange(2, 6), recipe.stream),
            (np.arange(2), evaluation_config(recipe.stream, 2)),
        )
    )
    for step in range(500):
        (batch,) = stream
        optimizer.param_groups[0]["lr"] = 0.003 if step < 350 else 0.0003
        recipe.loss(model, batch, generator)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        (batch,) = tested
        found = recipe.measure(model.eval(), batch)
    assert recipe.score(found["counts"])["ap25"] > 0.9


def test_metrics_of_each_epoch_are_logged(run):
    names = {f"{name}_loss" for name in WEIGHTS}
    for record in metrics(run):
        assert names < set(record)
        total = sum(weight * record[f"{name}_loss"] for name, weight in WEIGHTS.items())
        assert record["loss"] == pytest.approx(10 * total, rel=1e-5)
    assert (run / "scenes.png").read_bytes().startswith(b"\x89PNG")


def test_validation_scores_as_evaluation_does(run, rooms):
    report = evaluate(run, rooms, "val", device="cpu")
    assert report.epoch == 3  # of equal scores, the latest
    assert 0 < report.measures["ap50"] < 1
    for record in metrics(run):
        for name in ("ap25", "ap50"):
            assert record[f"val_{name}"] == pytest.approx(report.measures[name], abs=0.01)


def test_scores_are_those_of_detections_by_hand(run, rooms):
    """The points are drawn from all of the scene by a fixed seed, and boxes are as stored."""
    opened = open_classifier(run, "best", 1, "cpu")
    drawn = np.random.default_rng([0, 0, 0, 0]).choice(
        rooms.counts(0)["point_count"], 300, replace=False
    )
    points = torch.from_numpy(rooms.read("points", 0)[drawn])[None]
    model = opened.recipe.model.eval()
    with torch.no_grad():
        found = model(points, points[..., :0])
    detections = detect(found, model.mean_sizes, points, "hull")
    true = TrueBoxes(rooms.read("boxes", 0), rooms.read("box_label", 0))
    report = evaluate(run, rooms, device="cpu")
    for ending, threshold in (("25", 0.25), ("50", 0.5)):
        expected = detection_scores(detections, [true], 1, threshold)
        assert 0 < expected.mean_average_precision < 1
        assert report.measures[f"ap{ending}"] == expected.mean_average_precision
        assert report.measures[f"ar{ending}"] == expected.mean_recall


def test_evaluate_reports_every_class_and_writes_files(run, rooms):
    result = CliRunner().invoke(app, ["evaluate", str(run), "--data", rooms.path, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert (found["nms"], found["points"]) == ("hull", 300)
    names = ("ap25", "ap50", "ar25", "ar50")
    assert found["per_class"] == {"block": {"boxes": 1, **{name: found[name] for name in names}}}
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved["ap25"] == found["ap25"]
    assert saved["shapes"] == 1
    for name in ("precision.png", "boxes.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_mean_sizes_of_the_train_boxes_are_in_the_checkpoint(run):
    model = open_classifier(run, "last", 1, "cpu").recipe.model
    sizes = box_room.BLOCK[1] - box_room.BLOCK[0]
    assert model.mean_sizes.numpy() == pytest.approx(sizes[None].astype(np.float32))


def test_classes_are_matched_by_name(run, tmp_path):
    """A store with one more class, and the known one under another number and spelling."""
    labels = replace(box_room.LABELS, boxes=("lamp", "Block"))
    few = replace(CONFIG, frames=6, voxel=0.1)
    store = render_rooms(tmp_path / "S", 2, 1, few, labels=labels)
    with pytest.raises(StoreError, match="no box of a class that the run knows"):
        evaluate(run, store, device="cpu")  # all of its boxes are lamps
    store = render_rooms(tmp_path / "T", 2, 1, few, labels=SceneLabels(boxes=("sofa",)))
    with pytest.raises(StoreError, match="no class in common"):
        evaluate(run, store, device="cpu")


def test_a_run_interrupted_at_any_step_equals_an_uninterrupted_one(rooms, tmp_path, monkeypatch):
    settings = config("optimizer.ema=0.9")
    train(rooms, settings, tmp_path / "straight", device="cpu")
    monkeypatch.setattr(loop, "SAVE", 0.0)
    original, done = loop.learning_rate, []

    def interrupting(settings, step, steps):
        if step not in done:
            done.append(step)
            raise KeyboardInterrupt
        return original(settings, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", interrupting)
        for _ in range(4):  # two epochs of two batches
            with pytest.raises(KeyboardInterrupt):
                train(rooms, settings, tmp_path / "parts", device="cpu")
        train(rooms, settings, tmp_path / "parts", device="cpu")
    assert done == [*range(4)]
    assert_equal_runs(tmp_path / "straight", tmp_path / "parts")


def test_votes_into_boxes_of_aligned_scenes(rooms, tmp_path):
    """As SUN RGB-D has them, with accumulated batches; nothing is read but points and boxes."""
    more = ("data.votes=boxes", "data.batch_size=2", "optimizer.accumulate=2")
    train(rooms, config(*more, epochs=1), tmp_path, device="cpu")
    (record,) = metrics(tmp_path)
    assert 0 < record["vote_loss"] < 10
    report = evaluate(tmp_path, rooms, which="last", device="cpu")
    assert (report.found[0].boxes[:, 6] == 0).all()  # headings=1


def test_points_and_boxes_move_together_in_training(rooms):
    """Votes lead from moved points to the moved box's middle, whatever the motion."""
    settings = ("data.votes=boxes", "augmentation.yaw=90", f"model.backbone={UNET}")
    recipe = recipes.build(config(*settings), 1, False)
    (batch,) = open_stream(rooms, np.arange(1, 6), evaluation_config(recipe.stream, 5))
    moved, targets = recipe._augmented(batch, torch.Generator().manual_seed(0))
    plain = recipe._targets(batch)
    assert torch.equal(targets.owned, plain.owned)
    assert 20 < targets.owned.sum() < targets.owned.numel()
    offsets = [
        (found.centers[..., 0, :] - points)[found.owned].norm(dim=1)
        for found, points in ((plain, batch["points"]), (targets, moved["points"]))
    ]
    torch.testing.assert_close(*offsets)
    assert not torch.allclose(moved["points"], batch["points"])
    assert (targets.boxes[..., 6] == 0).all()
    assert (targets.boxes[..., 3] >= batch["box"][..., 3]).all()  # hulls of the turned boxes


def test_a_run_on_voxels_starts_from_the_encoder_of_a_classifier(rooms, store, tmp_path):
    small = small_config("student", f"model.backbone={UNET}", epochs=1)
    train(store, small, tmp_path / "pre", device="cpu")
    start = {"init": str(tmp_path / "pre"), "epochs": 1}
    frozen = ("model.encoder=frozen", "data.voxel=0.2")
    train(rooms, config(*frozen, **start), tmp_path / "run", device="cpu")
    theirs, mine = (open_network(tmp_path / name).weights for name in ("pre", "run"))
    encoder = [name for name in mine if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(theirs[name], mine[name]) for name in encoder)
    assert evaluate(tmp_path / "run", rooms, which="last", device="cpu").points == 300
    with pytest.raises(StoreError, match="different architecture") as caught:
        train(rooms, config("data.color=true", **start), tmp_path / "color", device="cpu")
    assert "data.color" in caught.value.fix
    dense = config().model.model_copy(update={"backbone": "dgcnn"})  # as from a run of it
    with pytest.raises(UsageError, match="scenes need a network on voxels, and dgcnn is not one"):
        recipes.build(config().model_copy(update={"model": dense}), 1, False)


def test_stores_without_boxes_are_refused(rooms, run, store, tmp_path):
    few = replace(CONFIG, frames=2, voxel=0.2)
    bare = render_rooms(tmp_path / "S", 4, config=replace(few, boxes=0))
    for use in (lambda: train(bare, config(), tmp_path / "run"), lambda: evaluate(run, bare)):
        with pytest.raises(StoreError, match="this store has no boxes") as caught:
            use()
        assert caught.value.where == bare.path
    with pytest.raises(UsageError, match="store of objects, which the recipe 'detect' cannot use"):
        train(store, config(), tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match="votes are not available"):
        evaluate(run, rooms, votes=2, device="cpu")
    with pytest.raises(UsageError, match="find boxes, which `predict` cannot write yet"):
        open_predictor(run, "best", 1, "cpu")
    assert not (tmp_path / "run").exists()


def test_schedules_of_votenet():
    """Rates fall at 80, 120 and 160 of 180 epochs; momenta are halved every 20."""
    settings = load_config("detect", None, epochs=180)
    rates = [learning_rate(settings, 10 * epoch, 1800) for epoch in range(180)]
    expected = [1e-3] * 80 + [1e-4] * 40 + [1e-5] * 40 + [1e-6] * 20
    assert rates == pytest.approx(expected, rel=1e-12)
    momenta = [norm_momentum(0.5, 10 * epoch, 1800) for epoch in range(180)]
    assert momenta == [max(0.5 * 0.5 ** (epoch // 20), 0.001) for epoch in range(180)]
    assert norm_momentum(0.1, 1799, 1800) == 0.001


def test_a_run_has_a_report_with_its_classes(run, rooms, tmp_path):
    evaluate(run, rooms, device="cpu")
    write_report([run], tmp_path / "R")
    assert "AP25" in (tmp_path / "R/evaluation.csv").read_text()
    assert len((tmp_path / "R/classes.csv").read_text().splitlines()) > 1
