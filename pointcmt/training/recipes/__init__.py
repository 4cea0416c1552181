"""Recipes by name: what is trained and with which loss. The one loop in `loop.py` runs them all."""

from collections.abc import Callable
from typing import Any

from pointcmt.training.recipes import cmpg, finetune, mvnet, partseg, student, teacher
from pointcmt.training.recipes.task import Task

# Each builds its task from its own configuration, the number of classes, and whether to start from
# the pretrained weights that the configuration names (not where a checkpoint is loaded anyway).
RECIPES: dict[str, Callable[[Any, int, bool], Task]] = {
    "teacher": teacher.build,  # PointCMT stage I: views → class
    "cmpg": cmpg.build,  # stage II: the teacher's feature → points
    "student": student.build,  # stage III, with a teacher or without: points → class
    "mvnet": mvnet.build,  # pre-training: points → what images of them show
    "finetune": finetune.build,  # the student again, from another run's weights
    "partseg": partseg.build,  # points and their class → parts
}
