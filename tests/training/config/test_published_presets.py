"""Published recipes: each trains a step with the published settings, as docs/published.md says."""

import pytest
import torch

from docs.make_tables import NETWORKS, PAGE, TABLES, split, written_differences
from pointcmt.datasets.streams import read_batch
from pointcmt.training.config.files import load_config, load_pipeline
from pointcmt.training.config.presets import PRESETS, SOURCES
from pointcmt.training.loop import reseed
from pointcmt.training.recipes import build_recipe
from pointcmt.training.runs.optimization import learning_rate, make_optimizer

LEAST = {"pointnet2-ssg": 512, "pointmlp": 192}  # points that the network needs
CLASSIFIERS = [name for name in SOURCES if name != "pointcmt"]


@pytest.mark.parametrize("preset", CLASSIFIERS)
def test_a_published_recipe_trains_a_step(preset, modelnet_clouds):
    store = modelnet_clouds[1]
    config = load_config("student", None, [f"preset={preset}"])
    points = LEAST.get(config.model.backbone, 64)
    smaller = [
        f"data.points={points}",
        f"data.resample={points + 9 if config.data.resample else 0}",
    ]
    votes = [f"votes.resample={points + 9}"] if config.votes.resample else []
    config = load_config("student", None, [f"preset={preset}", *smaller, *votes])
    torch.manual_seed(0)
    recipe, generator = build_recipe(config, 40, False), torch.Generator()
    batch = read_batch(store, store.splits.nonzero()[0][:3], recipe.stream)
    optimizer = make_optimizer(recipe.model, config.optimizer)
    before = [p.detach().clone() for p in recipe.model.parameters()]
    reseed(generator, 0, 1, 0)
    loss, metrics = recipe.loss(recipe.model.train(), batch, generator)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert 0 <= metrics["accuracy"] <= 1
    changed = [
        not torch.equal(p, old) for p, old in zip(recipe.model.parameters(), before, strict=True)
    ]
    # PointNet's alignments begin at 0: of them, only the last layer learns from the first step
    assert sum(changed) > (0.4 if preset == "pointnet" else 0.9) * len(changed)
    varied = recipe.test_time_augmentation(batch, generator)["points"]
    assert recipe.logits(recipe.model.eval(), {**batch, "points": varied}).shape == (3, 40)


@pytest.mark.parametrize("preset", CLASSIFIERS)
def test_a_published_recipe_is_the_same_from_other_weights(preset):
    """The recipe `finetune` has other defaults, none of which may remain."""
    student, finetune = (
        load_config(r, None, [f"preset={preset}"]) for r in ("student", "finetune")
    )
    sections = ("data", "optimizer", "schedule", "loss", "augmentation", "votes")
    for name in sections:
        assert getattr(student, name) == getattr(finetune, name), name
    assert student.epochs == finetune.epochs
    shared = student.model.model_dump().items() & finetune.model.model_dump().items()
    assert dict(shared) == student.model.model_dump()


def rate(config, epoch):
    """The learning rate at the beginning of an epoch, counted from 0."""
    return learning_rate(config, 10 * epoch, 10 * config.epochs)


def test_published_learning_rates():
    """At epochs where the authors' schedules are easily computed by hand."""
    rates = {
        "pointnet": {0: 1e-3, 20: 1e-3, 21: 7e-4, 249: 1e-3 * 0.7**12},
        "pointnet2": {0: 1e-3, 19: 1e-3, 20: 7e-4, 199: 1e-3 * 0.7**9},
        "dgcnn": {0: 0.1, 125: 0.0505},
        "pointmlp": {0: 0.1, 150: 0.0505},
        "pointmlp-scanobjectnn": {0: 0.01, 100: 0.00505},
        "pointnext": {0: 1e-3, 300: 5.005e-4},
        "pointnext-scanobjectnn": {0: 2e-3, 100: 1.05e-3, 200: 1e-4, 249: 1e-4},
        "point-mae": {10: 5e-4, 155: 2.505e-4},
    }
    assert set(rates) == set(CLASSIFIERS)
    for preset, expected in rates.items():
        config = load_config("student", None, [f"preset={preset}"])
        for epoch, value in expected.items():
            assert rate(config, epoch) == pytest.approx(value, rel=1e-6), (preset, epoch)


def test_the_preset_of_pointcmt_is_its_reference_code():
    config = load_pipeline(None, ["preset=pointcmt"])
    assert config.teacher.model.weights == "hub"  # ImageNet's
    assert config.student.model.backbone == "pointnet2-msg"
    assert config.cmpg.matching.norm == config.student.distillation.feature.norm == "pointcmt"
    assert (config.cmpg.augmentation.scale, config.cmpg.augmentation.shift) == ((2 / 3, 3 / 2), 0.2)
    assert config.student.votes.scale == (0.85, 1.15)
    stages = config.teacher, config.cmpg, config.student
    assert [stage.epochs for stage in stages] == [50, 50, 1000]
    assert not any(stage.data.validation for stage in stages)


def test_every_published_preset_names_its_source():
    assert set(SOURCES) == set(PRESETS) - {"official", "modern", "mvnet-style"}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_page_are_up_to_date(name):
    written = split(PAGE.read_text(), name)[1]
    assert written == TABLES[name](), "run `python docs/make_tables.py`"


def test_the_page_has_the_difference_of_every_network_from_a_plain_one():
    """They are measured by the command; runs/test_published_layouts.py holds the networks."""
    found = written_differences()
    assert set(found) == set(NETWORKS)
    assert all(0 <= float(difference) < 1e-9 for difference in found.values())
