"""The recipe mvnet learns: its losses fall, and probes of its features beat random weights."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.networks.backbones.pointvit import DensePointViT, Size
from tests.stores import render_toy
from tests.training.recipes.mvnet_batches import prepared
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet", "plain_dgcnn")


@pytest.fixture
def transformer(monkeypatch):
    """Replace `pointvit-s` by one of about a third of its width and a quarter of its depth."""
    monkeypatch.setitem(DENSE, "pointvit-s", partial(DensePointViT, size=Size(128, 3)))


def fit(recipe, store, shapes, steps, rate=2e-3):
    """Train on the same shapes repeatedly; return the terms of each step."""
    model, generator = recipe.model.train(), torch.Generator().manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0)
    history = []
    stream = ViewStream(store, shapes, replace(recipe.stream, batch_size=len(shapes)))
    while len(history) < steps:
        for batch in stream:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (len(history) + 1) / 10)
            loss, terms = recipe.loss(model, batch, generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            history.append({name: term.item() for name, term in terms.items()})
    return history


STILL = ("augmentation.scale=[1, 1]", "augmentation.shift=0", "model.backbone=pointvit-s")


@pytest.mark.slow  # a minute
def test_mvnet_can_memorize_eight_shapes(rendered, transformer):
    """L_k falls to a fifth, and coordinates are predicted within 5 % of the image."""
    shapes = np.arange(0, 24, 3)
    recipe = prepared(rendered, *STILL, "masking=0", shapes=shapes)
    history = fit(recipe, rendered, shapes, steps=250)
    last = {name: np.mean([terms[name] for terms in history[-10:]]) for name in history[0]}
    assert last["transfer"] < history[0]["transfer"] / 5
    recipe.model.eval()
    errors = []
    for batch in ViewStream(rendered, shapes, replace(recipe.stream, batch_size=8)):
        matches = recipe.match(batch)
        found = recipe.model(batch["points"], recipe.project(batch), recipe.grids).matching
        errors.append((found - matches.uv / 32).abs()[matches.valid])
    assert torch.cat(errors).mean() < 0.05


def test_both_losses_fall_in_a_few_steps(rendered, transformer):
    """A quick version of memorizing eight shapes."""
    shapes = np.arange(0, 24, 3)
    recipe = prepared(rendered, *STILL, shapes=shapes)
    history = fit(recipe, rendered, shapes, steps=30)
    first, last = history[0], history[-1]
    assert last["transfer"] < first["transfer"] * 0.65
    assert last["matching"] < first["matching"] * 0.75


@pytest.mark.slow  # a minute
def test_few_shot_probes_of_pretrained_features_beat_random_weights(transformer, tmp_path):
    """With few labels, on 200 test shapes, with the same episodes for both, for two seeds."""
    store = render_toy(tmp_path / "S", limit=400, rig="circle12")
    gains = []
    for seed in (0, 1):
        overrides = ("data.batch_size=16", "model.backbone=pointvit-s", "schedule.warmup=2")
        rate = "optimizer.learning_rate=0.002"
        config = small_config("mvnet", *overrides, rate, epochs=10, seed=seed)
        train(store, config, tmp_path / str(seed), device="cpu")
        found = probe(
            tmp_path / str(seed), store, svm=False, episodes=((10, 1), (10, 5)), device="cpu"
        )
        gains += [each.gain.mean for each in found]
    assert min(gains) > 0
    assert np.mean(gains) > 0.01
