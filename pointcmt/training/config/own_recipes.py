"""Recipes from outside the package. Imports no torch; the modules that define them may."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pointcmt import plugins
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.config.tables import first_problem

if TYPE_CHECKING:
    from pointcmt.training.recipes.recipe import Recipe


@dataclass(frozen=True)
class OwnRecipe:
    """A recipe from outside the package.

    config: all settings, each with a default (pointcmt sets `recipe`, the name). Class variables
    declare what the commands may do with a run: see `TrainConfig`. build(config, classes,
    pretrained) returns a `Recipe`, or a `ClassifyingRecipe` if the configuration sets `classifies`
    (the default). classes: their number in the store. pretrained: whether to read weights that the
    configuration names; False if a checkpoint is loaded afterward.
    """

    config: type[TrainConfig]
    build: "Callable[[Any, int, bool], Recipe]"


def find_recipe(name: str, where: str = "") -> OwnRecipe | None:
    """Return the recipe of an entry point of `pointcmt.recipes` or of `module:name`, or None.

    where: what names it, for messages. Raises UsageError if it cannot be imported, or is not an
    `OwnRecipe` whose settings all have defaults.
    """
    found: Any = plugins.find(plugins.RECIPES, name, where)
    if found is None:
        return None
    config = getattr(found, "config", None)
    build: Any = getattr(found, "build", None)
    if not isinstance(found, OwnRecipe):
        what = f"must be an OwnRecipe, not a {type(found).__name__}"
    elif not (isinstance(config, type) and issubclass(config, TrainConfig)):
        what = "has a config that is not a subclass of TrainConfig"
    elif not callable(build):
        what = "has a build that is not callable"
    else:
        try:
            config.model_validate({"recipe": name})
            return found
        except ValidationError as error:
            what = f"has a config that is not valid with its defaults: {first_problem(error)}"
    raise plugins.mistake(plugins.RECIPES, name, what)
