"""Classes of different sizes: weights in the loss and balanced sampling, exact and resumable."""

import json

import numpy as np
import pytest
import torch

from pointcmt.datasets.store.streaming import StreamConfig, ViewStream, balanced_order
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.sections import Loss
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.losses import smoothed_cross_entropy
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.class_weights import find_weights
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.distributed import join_processes
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.splits import split_train
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")

SIZES = (14, 6, 3)


@pytest.fixture(scope="module")
def uneven(make_store):
    return make_store(train=SIZES, test=(3, 3, 3))


def test_balanced_weights_by_hand(uneven):
    """14, 6 and 3 train shapes: 23/(3·14), 23/(3·6), 23/(3·3)."""
    train_shapes = np.flatnonzero(uneven.splits == 0)
    weights = find_weights(Loss(class_weights="balanced"), uneven, train_shapes)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([23 / 42, 23 / 18, 23 / 9])
    assert float(weights[uneven.labels[train_shapes]].mean()) == pytest.approx(1)
    assert find_weights(Loss(), uneven, train_shapes) is None
    table = Loss(class_weights={"rod": 5, "ball": 0.5})
    assert find_weights(table, uneven, train_shapes).tolist() == [0.5, 1.0, 5.0]


def test_a_class_without_train_shapes_does_not_count(make_store):
    store = make_store(train=(6, 0, 2), test=(2, 2, 2))
    weights = find_weights(Loss(class_weights="balanced"), store, np.flatnonzero(store.splits == 0))
    assert weights.tolist() == pytest.approx([8 / 12, 0, 8 / 4])


def test_the_weighted_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    labels, weights = torch.tensor([0, 2]), torch.tensor([3.0, 7.0, 0.25], dtype=torch.float64)
    first = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
    by_hand = [
        -(0.8 * np.log(first[0]) + 0.1 * np.log(first[1]) + 0.1 * np.log(first[2])),
        -np.log(1 / 3),
    ]
    expected = (3.0 * by_hand[0] + 0.25 * by_hand[1]) / 2
    assert float(smoothed_cross_entropy(logits, labels, 0.2, weights)) == pytest.approx(expected)
    ones = smoothed_cross_entropy(logits, labels, 0.2, torch.ones(3, dtype=torch.float64))
    assert torch.equal(ones, smoothed_cross_entropy(logits, labels, 0.2))


@pytest.mark.parametrize("recipe", ["student", "finetune", "teacher"])
def test_recipes_train_with_the_weights_and_validate_without(recipe, uneven):
    more = {"finetune": ("load=none", "model.backbone=pointnet")}.get(recipe, ())
    override = "loss.class_weights={rod: 5.0}"
    accelerator, device = join_processes("cpu")
    split = split_train(uneven, small_config(recipe, *more).data)
    context = RecipeContext(uneven, split.train, {}, device, accelerator, split.train)
    losses, measures = [], []
    for overrides in ((), (override,)):
        config = small_config(recipe, *more, *overrides)
        torch.manual_seed(0)
        prepared = build_recipe(config, 3, False).prepare(context)
        rods = split.train[uneven.labels[split.train] == 2][:2]
        arrays, points = prepared.stream.arrays, prepared.stream.points
        reads = StreamConfig(arrays, batch_size=2, points=points, shuffle=False)
        (batch,) = ViewStream(uneven, rods, reads)
        model = prepared.model.eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            losses.append(prepared.loss(model, batch, generator)[0])
            measures.append(prepared.measure(model, batch)["loss"])
    assert torch.equal(*measures)
    assert float(losses[0]) > 0.1
    assert torch.allclose(losses[1], 5 * losses[0])  # PointNet's regularizer is 0 at the start


def test_a_balanced_epoch_has_the_same_number_of_each_class(uneven):
    shapes = np.flatnonzero(uneven.splits == 0)
    config = StreamConfig(("points",), batch_size=1, points=8, seed=3, balance=True)
    stream = ViewStream(uneven, shapes, config)
    seen = []
    for _ in range(3):
        batches = list(stream)
        drawn = np.array([int(batch["shape"]) for batch in batches])
        labels = np.array([int(batch["label"]) for batch in batches])
        assert len(drawn) == len(shapes) == 23
        assert sorted(np.bincount(labels).tolist()) == [7, 8, 8]
        for label, size in enumerate(SIZES):
            times = np.bincount(np.searchsorted(shapes, drawn[labels == label]), minlength=23)
            own = times[uneven.labels[shapes] == label]
            assert len(own) == size
            assert own.max() - own.min() <= 1  # no shape a second time before all have come
        seen.append(drawn.tolist())
    assert seen[0] != seen[1] != seen[2]
    again = ViewStream(uneven, shapes, config)
    assert [[int(b["shape"]) for b in again] for _ in range(3)] == seen


def test_balanced_ranks_share_the_same_batches(uneven):
    shapes = np.flatnonzero(uneven.splits == 0)
    alone = ViewStream(uneven, shapes, StreamConfig(("points",), 4, points=8, balance=True))
    halves = [
        ViewStream(
            uneven,
            shapes,
            StreamConfig(("points",), 4, points=8, balance=True, rank=r, world_size=2),
        )
        for r in range(2)
    ]
    for whole, first, second in zip(alone, *halves, strict=True):
        assert torch.equal(whole["shape"], torch.cat([first["shape"], second["shape"]]))


def test_equal_classes_are_drawn_once_each():
    shapes, labels = np.arange(12) * 3, np.repeat([0, 1, 2], 4)
    drawn = balanced_order(shapes, labels, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == shapes.tolist()


@pytest.mark.parametrize(
    "override",
    ["data.sampling=balanced", "loss.class_weights=balanced"],
    ids=["sampling", "weights"],
)
def test_an_interrupted_run_ends_with_the_same_bits(override, uneven, tmp_path):
    config = small_config("student", override, epochs=3)
    train(uneven, config, tmp_path / "straight", device="cpu")
    train(uneven, config, tmp_path / "stopped", device="cpu", until=1)
    train(uneven, config, tmp_path / "stopped", device="cpu")
    plain = small_config("student", epochs=3)
    train(uneven, plain, tmp_path / "plain", device="cpu")
    weights = [
        next((tmp_path / name / "last").glob("weights-*")).read_bytes()
        for name in ("straight", "stopped", "plain")
    ]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    with pytest.raises(StoreError, match="different settings"):
        train(uneven, plain, tmp_path / "straight", device="cpu")


def test_sampling_of_parts_and_views(make_store, tmp_path):
    store = make_store(train=(6, 3, 2), test=(2, 2, 2), parts=True)
    config = small_config("partseg", "load=none", "data.sampling=balanced", epochs=1)
    assert train(store, config, tmp_path / "parts", device="cpu").epochs == 1
    config = small_config("teacher", "data.sampling=balanced", epochs=1)
    assert train(store, config, tmp_path / "views", device="cpu").epochs == 1


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("loss.class_weights=blanced", "none, balanced, or a table"),
        ("loss.class_weights={rod: -1}", "weights of 0 or more"),
        ("loss.class_weights={}", "none, balanced, or a table"),
        ("loss.class_weights={rod: yes}", "none, balanced, or a table"),
        ("data.sampling=even", "'shuffle' or 'balanced'"),
    ],
)
def test_what_cannot_be_meant(override, says):
    with pytest.raises(UsageError, match=says) as caught:
        small_config("student", override)
    assert override.partition("=")[0] in caught.value.what


def test_an_unknown_class_is_said_before_anything_is_made(uneven, tmp_path):
    config = small_config("student", "loss.class_weights={rodd: 2}")
    with pytest.raises(UsageError, match="no class 'rodd'") as caught:
        train(uneven, config, tmp_path / "run", device="cpu")
    assert "did you mean 'rod'?" in caught.value.fix
    assert not (tmp_path / "run").exists()


def test_runs_of_earlier_versions_are_opened_and_resumed(uneven, tmp_path):
    """They have neither key."""
    train(uneven, small_config("student", epochs=2), tmp_path / "run", device="cpu", until=1)
    path = tmp_path / "run/run.json"
    facts = json.loads(path.read_text())
    del facts["config"]["data"]["sampling"], facts["config"]["loss"]["class_weights"]
    path.write_text(json.dumps(facts))
    assert open_run(tmp_path / "run").config.data.sampling == "shuffle"
    assert evaluate(tmp_path / "run", uneven, device="cpu").shapes == 9
    resumed = train(uneven, small_config("student", epochs=2), tmp_path / "run", device="cpu")
    assert resumed.epochs == 2
