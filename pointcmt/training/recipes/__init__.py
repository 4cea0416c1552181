"""Recipes by name: what to train and with which loss. The loop in `loop.py` runs them all."""

from collections.abc import Callable
from typing import Any

from pointcmt.training.recipes import cmpg, finetune, mvnet, partseg, student, teacher
from pointcmt.training.recipes.recipe import Recipe

# Each value builds a recipe from its configuration, the number of classes, and whether to load the
# pretrained weights that the configuration names (False if a checkpoint is loaded anyway).
RECIPES: dict[str, Callable[[Any, int, bool], Recipe]] = {
    "teacher": teacher.build,  # PointCMT stage I: views → class
    "cmpg": cmpg.build,  # stage II: the teacher's feature → points
    "student": student.build,  # stage III, with a teacher or without: points → class
    "mvnet": mvnet.build,  # pre-training: points → what images of them show
    "finetune": finetune.build,  # the student again, from another run's weights
    "partseg": partseg.build,  # points and their class → parts
}
