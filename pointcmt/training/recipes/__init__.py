"""Recipes by name: what to train and with which loss. The loop in `loop.py` runs them all."""

from collections.abc import Callable
from typing import Any

from torch import nn

from pointcmt import plugins
from pointcmt.datasets.store.scene_streams.stream import SceneStreamConfig
from pointcmt.datasets.store.streaming import StreamConfig
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.own_recipes import OwnRecipe, find_recipe
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.recipes import (
    cmpg,
    crosspoint,
    detect,
    finetune,
    mvnet,
    partseg,
    semseg,
    student,
    teacher,
)
from pointcmt.training.recipes.recipe import Recipe

# Each value builds a recipe from its configuration, the number of classes, and whether to load the
# pretrained weights that the configuration names (False if a checkpoint is loaded anyway).
RECIPES: dict[str, Callable[[Any, int, bool], Recipe]] = {
    "teacher": teacher.build,  # PointCMT stage I: views → class
    "cmpg": cmpg.build,  # stage II: the teacher's feature → points
    "student": student.build,  # stage III, with a teacher or without: points → class
    "mvnet": mvnet.build,  # pre-training: points → what images of them show
    "crosspoint": crosspoint.build,  # its baseline: points → a feature, by contrast
    "finetune": finetune.build,  # the student again, from another run's weights
    "partseg": partseg.build,  # points and their class → parts
    "semseg": semseg.build,  # scenes → the class of each point
    "detect": detect.build,  # scenes → boxes
}
_METHODS = ("prepare", "loss", "measure", "pictures", "deployable")
_OF_CLASSIFIERS = ("logits", "test_time_augmentation")


def build_recipe(config: TrainConfig, classes: int, pretrained: bool) -> Recipe:
    """Build the recipe of a configuration, from RECIPES or from outside the package.

    Arguments as in RECIPES. Raises UsageError for a recipe from outside that does not keep the
    contract, and whatever its own code raises.
    """
    if config.recipe in RECIPES:
        return RECIPES[config.recipe](config, classes, pretrained)
    own = find_recipe(config.recipe, "recipe")
    if own is None:
        raise UsageError(f"unknown recipe '{config.recipe}'")
    return _build_own(own, config, classes, pretrained)


def _build_own(own: OwnRecipe, config: TrainConfig, classes: int, pretrained: bool) -> Recipe:
    try:
        built: Any = own.build(config, classes, pretrained)
    except PointcmtError:
        raise
    except Exception as error:  # whatever the recipe's own code raises
        what = f"cannot be built: {type(error).__name__}: {error}"
        raise plugins.mistake(plugins.RECIPES, config.recipe, what) from error
    methods = _METHODS + (_OF_CLASSIFIERS if config.classifies else ())
    lacks = [name for name in methods if not callable(getattr(built, name, None))]
    what = f"returned a {type(built).__name__} without {', '.join(lacks)}" if lacks else ""
    if not isinstance(getattr(built, "model", None), nn.Module):
        what = f"returned a {type(built).__name__} whose model is not an nn.Module"
    if not isinstance(getattr(built, "stream", None), StreamConfig | SceneStreamConfig):
        what = f"returned a {type(built).__name__} whose stream is not a StreamConfig"
    if what:
        raise plugins.mistake(plugins.RECIPES, config.recipe, what)
    recipe: Recipe = built
    return recipe
