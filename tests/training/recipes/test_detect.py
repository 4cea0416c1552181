"""Detection: runs on box rooms, compared bit for bit and with detections by hand."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.errors import StoreError, UsageError
from pointcmt.scenes import SceneLabels
from pointcmt.training import loop
from pointcmt.training.config.detection import Detector
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.classifier import open_classifier
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.prediction import open_predictor
from pointcmt.training.loop import train
from pointcmt.training.networks.detection.seeds import Level, PointSeeds
from pointcmt.training.networks.detection.votenet import VoteNet
from pointcmt.training.ops.detection.proposals import detect
from pointcmt.training.ops.detection.scores import TrueBoxes, detection_scores
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes import detect as recipes
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.report.page import write_report
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.optimization import learning_rate, norm_momentum
from pointcmt.training.runs.pretrained import open_network
from tests.render.scenes import box_room
from tests.scene_stores import CONFIG, render_rooms
from tests.training.detectors import GUESSING, LEVELS, UNET, config, small_networks
from tests.training.equal_runs import assert_equal_runs, metrics
from tests.training.stores import small_config

DETR = ("model.head=3detr", "schedule.warmup=0")
WEIGHTS = {  # of the terms of VoteNet's loss, by default
    **dict.fromkeys(("vote", "center", "heading_residual", "size_residual"), 1.0),
    **dict.fromkeys(("heading_class", "size_class", "class"), 0.1),
    "objectness": 0.5,
}


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    with small_networks():
        yield


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Six rooms, the first of them for the test."""
    out = tmp_path_factory.mktemp("detect") / "S"
    return render_rooms(out, count=6, config=replace(CONFIG, frames=6, voxel=0.1))


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


def weighted(terms, weights):
    """VoteNet's loss from its terms."""
    return 10 * sum(weight * float(terms[f"{name}_loss"]) for name, weight in weights.items())


def test_metrics_of_each_epoch_are_logged(run):
    for record in metrics(run):
        assert record["loss"] == pytest.approx(weighted(record, WEIGHTS), rel=1e-5)
    assert (run / "scenes.png").read_bytes().startswith(b"\x89PNG")


def test_each_term_of_the_loss_has_a_weight_of_its_own(rooms):
    weights = {name: number + 1 for number, name in enumerate(WEIGHTS)}
    settings = [f"votenet.{name}={weight}" for name, weight in weights.items()]
    renamed = [setting.replace(".class=", ".classes=") for setting in settings]
    given = config(*renamed, "model.headings=4", "model.backbone=pointnet2-votenet")
    recipe = recipes.build(given, 1, False)
    recipe = recipe.prepare(RecipeContext(rooms, np.arange(6), {}, None, None, np.arange(2, 6)))
    (batch,) = open_stream(rooms, np.arange(2, 6), evaluation_config(recipe.stream, 4))
    loss, terms = recipe.loss(recipe.model, batch, torch.Generator())
    assert loss.item() == pytest.approx(weighted(terms, weights), rel=1e-5)


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
    counts = np.array(saved["confusion"])
    assert counts[0].sum() == 1  # the block is found as a block, or missed
    assert counts[1, 0] > 0  # and so are boxes elsewhere
    for name in ("precision.png", "confusion.png", "boxes.png", "frames.png"):
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


def test_a_final_run_holds_out_nothing(rooms, tmp_path):
    final = config(epochs=1, **{"data.validation": 0})
    result = train(rooms, final, tmp_path / "run", device="cpu")
    assert result.best == result.last
    assert not any(name.startswith("val_") for name in result.last)


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
    plain = recipe.head.targets(batch, None)
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
    with pytest.raises(UsageError, match="dgcnn cannot detect boxes") as refused:
        recipes.build(config().model_copy(update={"model": dense}), 1, False)
    takes = set(get_args(Detector.model_fields["backbone"].annotation)) - {""}
    assert set(refused.value.fix.partition(": ")[2].split(", ")) == takes


def test_building_without_a_network_is_refused():
    for recipe in ("detect", "semseg"):
        with pytest.raises(UsageError, match="the network is not given"):
            build_recipe(load_config(recipe), 2, False)


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
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def of_3detr(rooms, tmp_path_factory):
    """A run of 3DETR-m with headings."""
    folder = tmp_path_factory.mktemp("detect") / "3detr"
    train(rooms, config(*DETR, "model.headings=12", "data.color=true"), folder, device="cpu")
    return folder


def test_3detr_is_trained_evaluated_and_predicts(of_3detr, rooms):
    first, last = metrics(of_3detr)
    names = ("class", "giou", "center", "size", "heading_class", "heading_residual")
    weights = dict(zip(names, (1, 1, 5, 1, 0.1, 0.5), strict=True))
    for record in (first, last):
        total = sum(weight * record[f"{name}_loss"] for name, weight in weights.items())
        assert record["loss"] == pytest.approx(total, rel=1e-5)
    report = evaluate(of_3detr, rooms, "val", which="last", device="cpu")
    assert last["val_ap25"] == pytest.approx(report.measures["ap25"], abs=0.01)
    predictor = open_predictor(of_3detr, "last", 1, "cpu")
    (batch,) = predictor.of_store(rooms, np.arange(1))
    found, (scored,) = (
        predictor.detect(batch),
        evaluate(of_3detr, rooms, which="last", device="cpu").found,
    )
    assert np.array_equal(found.boxes, scored.boxes)
    assert (of_3detr / "scenes.png").read_bytes().startswith(b"\x89PNG")


def test_one_step_of_3detr_lowers_its_loss(rooms):
    """On the same batch, without dropout."""
    recipe = recipes.build(config(*DETR), 1, False)
    recipe = recipe.prepare(RecipeContext(rooms, np.arange(6), {}, None, None, np.arange(2, 6)))
    (batch,) = open_stream(rooms, np.arange(2, 6), evaluation_config(recipe.stream, 4))
    model = recipe.model.eval()
    targets = recipe.head.targets(batch, None)
    assert (targets.boxes[..., 6] == 0).all()
    optimizer, losses = torch.optim.SGD(model.parameters(), 0.001), []
    for _ in range(3):
        loss, _ = recipe.head.losses(recipe.predict(model, batch), targets, model)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_3detr_starts_from_the_encoder_of_another_head(of_3detr, rooms, tmp_path):
    """Heads and backbones go together as one likes."""
    start = ("data.color=true", "model.encoder=frozen", "model.proposals=16")
    small = config(*start, init=str(of_3detr), epochs=1)  # VoteNet on 3DETR's encoder
    train(rooms, small, tmp_path / "votes", device="cpu")
    theirs, mine = (open_network(folder).weights for folder in (of_3detr, tmp_path / "votes"))
    assert {name for name in mine if torch.equal(theirs[name], mine[name])} == {*theirs}
    assert open_run(tmp_path / "votes").config.model.backbone == "3detr-masked"
    queries = config(*DETR, f"model.backbone={UNET}", "data.voxel=0.2", epochs=1)
    train(rooms, queries, tmp_path / "voxels", device="cpu")  # 3DETR's decoder on voxels
    assert metrics(tmp_path / "voxels")[0]["giou_loss"] > 0


def test_settings_of_3detr():
    """Those of its scripts; and a run to start from decides about the backbone."""
    found = load_config("detect", None, ["model.head=3detr"])
    assert (found.epochs, found.model.backbone, found.model.proposals) == (
        1080,
        "3detr-masked",
        256,
    )
    assert (found.optimizer.name, found.optimizer.learning_rate) == ("adamw", 0.0005)
    assert (found.optimizer.weight_decay, found.optimizer.clip_norm) == (0.1, 0.1)
    assert (found.schedule.name, found.schedule.warmup) == ("cosine", 9)
    assert load_config("detect", None, ["model.head=3detr"], init="RUN").model.backbone == ""
    sunrgbd = load_config("detect", "detect-sunrgbd-3detr")
    assert (sunrgbd.queries.giou_cost, sunrgbd.queries.no_object, sunrgbd.epochs) == (3, 0.1, 1080)
    assert sunrgbd.optimizer.learning_rate == 0.0007
    assert load_config("detect", "detect-scannet-3detr") == found


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
