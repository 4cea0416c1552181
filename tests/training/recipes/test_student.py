"""The student's losses, against an independent plain implementation."""

import json
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from pointcmt.errors import StoreError, UsageError
from pointcmt.training.loop import train
from pointcmt.training.ops.augment import choose, scale_and_shift
from pointcmt.training.recipes import RECIPES
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.recipes.teacher_features import teacher_features
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import open_run
from pointcmt.training.runs.metrics import read_metrics
from tests.training.equal_runs import assert_equal_runs, tensors
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


@pytest.fixture(scope="module")
def stages(small_resnet, store, tmp_path_factory):
    """A finished teacher and a finished generator."""
    folder = tmp_path_factory.mktemp("stages")
    train(store, small_config("teacher", epochs=2), folder / "teacher", device="cpu")
    config = small_config("cmpg", epochs=3, teacher=str(folder / "teacher"))
    train(store, config, folder / "cmpg", device="cpu")
    return folder


def student_config(stages, *overrides, **flags):
    given = {"teacher": str(stages / "teacher"), "generator": str(stages / "cmpg"), **flags}
    return small_config("student", *overrides, **given)


def context(store, shapes):
    return RecipeContext(store, shapes, {}, torch.device("cpu"), Accelerator(cpu=True))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def unit_boxes(clouds):
    low, high = clouds.min(axis=1, keepdims=True), clouds.max(axis=1, keepdims=True)
    return (clouds - (low + high) / 2) / (high - low).max(axis=2, keepdims=True)


def off_center_boxes(clouds):
    low, high = clouds.min(axis=1, keepdims=True), clouds.max(axis=1, keepdims=True)
    size = (high - low).max(axis=2, keepdims=True)
    return clouds / size - 0.5 - ((low - (size - (high - low))) / 2) / size


def emd(x, y):
    costs = [cdist(a, b) for a, b in zip(x, y, strict=True)]
    return np.mean([cost[linear_sum_assignment(cost)].mean() for cost in costs])


def plain_losses(found, teacher, weights, classifier, labels, boxes):
    """Every term by the specification in float64; found, teacher: dicts of logits and feature."""
    C = found["logits"].shape[1]
    target = np.full_like(found["logits"], 0.2 / (C - 1))
    target[np.arange(len(labels)), labels] = 0.8
    log_p = log_softmax(found["logits"])
    cross = log_softmax(teacher["feature"] @ classifier["weight"].T + classifier["bias"])
    clouds = [
        (f @ weights.T).reshape(len(f), -1, 3) for f in (found["feature"], teacher["feature"])
    ]
    hot, cold = log_softmax(teacher["logits"] / 4), log_softmax(found["logits"] / 4)
    return {
        "class": -(target * log_p).sum(axis=1).mean(),
        "fe": emd(boxes(clouds[0]), boxes(clouds[1])),
        "ce_sum": (np.exp(cross) * (cross - log_p)).sum(),
        "logits": 16 * (np.exp(hot) * (hot - cold)).sum(axis=1).mean(),
        "features": ((found["feature"] - teacher["feature"]) ** 2).mean(),
    }


@pytest.fixture(scope="module")
def stored(stages, store):
    """One batch with everything that goes into the losses, in float64."""
    shapes = np.flatnonzero(store.splits == 0)[:12]
    batch = {
        "points": torch.from_numpy(store.read("points", shapes)),
        "label": torch.from_numpy(store.labels[shapes]),
        "shape": torch.from_numpy(shapes),
    }
    known = teacher_features(store, open_run(stages / "teacher"), shapes, torch.device("cpu"))
    generator = load_file(next((stages / "cmpg" / "best").glob("weights-*")))["decode.weight"]
    teacher = {"feature": known.feature.double().numpy(), "logits": known.logits.double().numpy()}
    return batch, shapes, teacher, generator.double().numpy()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {"fe": 30, "ce_sum": 9.6 / 12}),
        (("distillation.classifier=0",), {"fe": 30}),
        (("distillation.feature.weight=0",), {"ce_sum": 9.6 / 12}),
        (("distillation.feature.norm=pointcmt",), {"fe": 30, "ce_sum": 9.6 / 12}),
        (("distillation.method=logits",), {"logits": 1}),
        (("distillation.method=features", "distillation.weight=3"), {"features": 3}),
        (("distillation.method=none",), {}),
    ],
)
def test_losses_equal_the_specification(overrides, expected, stages, store, stored):
    batch, shapes, teacher, weights = stored
    still = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "model.orthogonality=0")
    exact = ("distillation.feature.solver=exact",)
    config = student_config(stages, *still, *exact, *overrides)
    torch.manual_seed(1)
    recipe = RECIPES["student"](config, 3, True)
    recipe = recipe.prepare(context(store, shapes))
    recipe.model.train()
    loss, metrics = recipe.loss(recipe.model, batch, torch.Generator())
    with torch.no_grad():
        prediction = recipe.model(batch["points"])  # in train mode, the batch's own statistics
    found = {"logits": prediction.logits, "feature": prediction.feature}
    classifier = {"weight": recipe.model.classifier.weight, "bias": recipe.model.classifier.bias}
    found, classifier = (
        {name: tensor.detach().double().numpy() for name, tensor in table.items()}
        for table in (found, classifier)
    )
    boxes = off_center_boxes if "pointcmt" in "".join(overrides) else unit_boxes
    terms = plain_losses(found, teacher, weights, classifier, batch["label"].numpy(), boxes)
    total = terms["class"] + sum(weight * terms[name] for name, weight in expected.items())
    assert loss.item() == pytest.approx(total, rel=1e-4)
    for name in ("fe", "logits", "features"):
        if name in metrics:
            assert metrics[name].item() == pytest.approx(terms[name], rel=1e-4)


def test_gradients_of_terms_are_compared_at_the_feature(stages, store, stored):
    """The first step of a run that only has one term in place of the cross entropy."""
    batch, shapes, teacher, _ = stored
    still = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "model.orthogonality=0")
    logged = ("distillation.gradients=true", "distillation.method=features")
    losses, metrics = {}, {}
    for weight in (3, 6):
        config = student_config(stages, *still, *logged, f"distillation.weight={weight}")
        torch.manual_seed(1)
        recipe = RECIPES["student"](config, 3, True).prepare(context(store, shapes))
        losses[weight], metrics[weight] = recipe.loss(recipe.model, batch, torch.Generator())
    # By hand: the cross entropy by that of the logits, the mean square in closed form.
    predicted = recipe.model(batch["points"])
    target = torch.full((12, 3), 0.1).scatter_(1, batch["label"][:, None], 0.8)
    own = (predicted.logits.softmax(1) - target) / 12 @ recipe.model.classifier.weight
    difference = predicted.feature - torch.from_numpy(teacher["feature"]).float()
    other = 2 * difference / difference.numel()
    cosine = (own * other).sum() / own.norm() / other.norm()
    for weight in (3, 6):
        assert metrics[weight]["features_cosine"].item() == pytest.approx(cosine.item(), abs=1e-5)
        ratio = weight * other.norm() / own.norm()
        assert metrics[weight]["features_ratio"].item() == pytest.approx(ratio.item(), rel=1e-4)
    losses[3].backward()  # the graph is still whole


def test_logging_gradients_does_not_change_a_run(stages, store, tmp_path):
    for name, overrides in (("plain", ()), ("logged", ("distillation.gradients=true",))):
        train(store, student_config(stages, *overrides, epochs=1), tmp_path / name, "cpu")
    plain, logged = (read_metrics(tmp_path / name, 1)[0] for name in ("plain", "logged"))
    assert logged.keys() - plain.keys() == {"fe_cosine", "fe_ratio", "ce_cosine", "ce_ratio"}
    assert plain["loss"] == logged["loss"]
    assert plain["val_loss"] == logged["val_loss"]


def test_the_official_weights_equal_the_reference_codes_sum(stages, store):
    """0.3 · sum over 32 shapes and classes = 9.6 · mean over the batch."""
    official = student_config(stages).distillation
    assert official.classifier == pytest.approx(0.3 * 32)
    assert (official.feature.weight, official.feature.norm) == (30, "unitbox")


@pytest.mark.parametrize("detach", ["true", "false"])
def test_gradients_of_ce_with_and_without_detaching(detach, stages, store, stored):
    """Detached, CE trains the student's prediction; attached, also its classifier through f_t."""
    batch, shapes, *_ = stored
    overrides = ("distillation.feature.weight=0", f"distillation.detach={detach}")
    found = {}
    for ce in (0, 9.6):
        config = student_config(stages, *overrides, f"distillation.classifier={ce}")
        torch.manual_seed(1)
        recipe = RECIPES["student"](config, 3, True)
        recipe = recipe.prepare(context(store, shapes))
        loss, _ = recipe.loss(recipe.model.train(), batch, torch.Generator().manual_seed(0))
        loss.backward()
        found[ce] = recipe.model.classifier.weight.grad.clone()
    with torch.no_grad():  # the direct term: 9.6 · mean (softmax(s) - softmax(x)) f_s
        a = config.augmentation
        generator = torch.Generator().manual_seed(0)
        moved = choose(batch["points"], 64, generator)
        p = recipe.model(scale_and_shift(moved, a.scale, a.shift, generator))
        cross = recipe.model.classifier(recipe.knowledge.feature(batch))
        direct = 9.6 * (p.logits.softmax(1) - cross.softmax(1)).T @ p.feature / len(shapes)
    difference = found[9.6] - found[0]
    if detach == "true":
        torch.testing.assert_close(difference, direct, rtol=1e-3, atol=1e-5)
    else:
        assert (difference - direct).abs().max() > 1e-3


def test_fe_trains_the_student_and_not_the_generator(stages, store, stored):
    batch, shapes, *_ = stored
    config = student_config(stages, "distillation.classifier=0")
    recipe = RECIPES["student"](config, 3, True)
    recipe = recipe.prepare(context(store, shapes))
    before = recipe.generator.decode.weight.clone()
    loss, _ = recipe.loss(recipe.model.train(), batch, torch.Generator())
    loss.backward()
    assert recipe.generator.decode.weight.grad is None
    assert not recipe.generator.training
    assert torch.equal(before, recipe.generator.decode.weight)
    assert all(p.grad is not None for p in recipe.model.parameters())


def test_without_fe_and_ce_the_student_is_vanilla_bit_for_bit(stages, store, tmp_path):
    vanilla = small_config("student", epochs=3)
    train(store, vanilla, tmp_path / "vanilla", device="cpu")
    off = ("distillation.feature.weight=0", "distillation.classifier=0")
    train(store, student_config(stages, *off, epochs=3), tmp_path / "off", device="cpu")
    assert_equal_runs(tmp_path / "vanilla", tmp_path / "off")
    none = student_config(stages, "distillation.method=none", epochs=3)
    train(store, none, tmp_path / "none", device="cpu")
    assert_equal_runs(tmp_path / "vanilla", tmp_path / "none")


@pytest.mark.parametrize("method", ["pointcmt", "logits", "features"])
def test_a_distilled_student_has_the_vanilla_architecture_and_resumes(
    method, stages, store, tmp_path
):
    config = student_config(stages, f"distillation.method={method}", epochs=2)
    train(store, config, tmp_path / "a", device="cpu")
    train(store, config, tmp_path / "b", device="cpu", until=1)
    train(store, config, tmp_path / "b", device="cpu")
    assert_equal_runs(tmp_path / "a", tmp_path / "b")
    vanilla = RECIPES["student"](small_config("student"), 3, True).model
    load_weights(tmp_path / "a" / "best", vanilla)  # raises where a tensor differs
    record = json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[-1])
    assert record.keys() >= {"pointcmt": {"fe", "ce"}}.get(method, {method})


def test_a_generator_learns_the_shapes(stages, store):
    lines = (stages / "cmpg" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records[-1]["val_loss"] < records[0]["val_loss"]
    assert records[-1]["loss"] == pytest.approx(30 * records[-1]["emd"])


def test_another_teachers_generator_is_refused(stages, store, tmp_path):
    train(store, small_config("teacher", seed=5, epochs=1), tmp_path / "other", device="cpu")
    config = student_config(stages, teacher=str(tmp_path / "other"))
    with pytest.raises(StoreError, match="trained with a different teacher"):
        train(store, config, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "last").exists()


def test_a_teachers_run_may_be_moved_but_not_replaced(stages, store, tmp_path):
    shutil.copytree(stages, tmp_path / "moved")
    config = student_config(stages, epochs=2)
    train(store, config, tmp_path / "run", device="cpu", until=1)
    moved = student_config(tmp_path / "moved", epochs=2)
    train(store, moved, tmp_path / "run", device="cpu")
    assert len(tensors(tmp_path / "run"))
    train(store, small_config("teacher", seed=5, epochs=1), tmp_path / "other", device="cpu")
    other = student_config(stages, "distillation.method=logits", teacher=str(tmp_path / "other"))
    with pytest.raises(StoreError, match=r"teacher: \w+ in the run, \w+ requested"):
        train(store, other, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("recipe", "flags", "kind", "says"),
    [
        ("cmpg", {}, UsageError, "a generator needs a teacher"),
        ("cmpg", {"teacher": "/nowhere"}, StoreError, "no run here"),
        ("cmpg", {"teacher": "cmpg"}, UsageError, "not a teacher; its recipe is cmpg"),
        ("student", {"teacher": "teacher"}, UsageError, "needs a generator"),
        (
            "student",
            {"teacher": "teacher", "generator": "teacher"},
            UsageError,
            "not a generator; its recipe is teacher",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_reported(recipe, flags, kind, says, stages, store, tmp_path):
    flags = {key: str(stages / name) for key, name in flags.items()}
    with pytest.raises(kind, match=says):
        train(store, small_config(recipe, **flags), tmp_path / "run", device="cpu")


def test_a_teacher_of_other_classes_is_refused(stages, make_store, tmp_path):
    other = make_store(class_names=("ball", "plate", "cone"))
    with pytest.raises(StoreError, match="the store's classes differ"):
        train(other, student_config(stages), tmp_path / "run", device="cpu")
