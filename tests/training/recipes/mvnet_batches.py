"""The recipe mvnet, ready to train, and batches for it."""

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator

from pointcmt.datasets.store.streaming import ViewStream
from pointcmt.datasets.streams import evaluation_config
from pointcmt.training.recipes import RECIPES
from pointcmt.training.recipes.recipe import RecipeContext
from tests.stores import render_box
from tests.training.stores import small_config

CPU = torch.device("cpu")


def prepared(store, *overrides, shapes=None):
    """Return the recipe with these settings, ready to train."""
    torch.manual_seed(0)
    recipe = RECIPES["mvnet"](small_config("mvnet", *overrides), 1, True)
    shapes = np.arange(store.schema.shapes) if shapes is None else shapes
    context = RecipeContext(store, shapes, {}, CPU, Accelerator(cpu=True))
    return recipe.prepare(context)


def evaluation_stream(recipe, store, shapes, batch_size, all_views=True, **share):
    """Batches of these shapes in order, as in validation. share: rank and world_size."""
    config = evaluation_config(recipe.stream, batch_size, all_views)
    return ViewStream(store, shapes, replace(config, **share))


def batch_of(recipe, store, shapes=range(6)):
    (batch,) = ViewStream(store, np.array(shapes), replace(recipe.stream, batch_size=len(shapes)))
    return batch


def front_and_back(folder, count):
    """A store of cubes with two views, which share no visible face."""
    (folder / "two.toml").write_text("".join(f"[[views]]\nazimuth = {a}\n" for a in (0, 180)))
    (folder / "meshes").mkdir()
    return render_box(folder / "S", folder / "meshes", count, rig=str(folder / "two.toml"))
