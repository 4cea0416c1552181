"""Trainings on scenes with small networks: by this process alone, or as one of several.

Under torchrun: `-m tests.training.runs.scene_trainings STORE OUT`.
"""

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pointcmt import plugins
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.files import load_config
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.loop import train
from tests.scene_stores import NAME
from tests.training.conftest import SMALL_RESNET
from tests.training.detectors import SETTINGS, small_networks

UNET = "model.backbone=sparse-unet-tiny"
RECIPES = {
    "semseg": (
        UNET,
        "data.voxel=0.2",
        "data.crop=400",
        "data.crops=2",
        "data.labeled_points=100",
        "data.validation=0.25",
        "schedule.name=onecycle",
        "optimizer.name=sgd",
        "augmentation.dropout_probability=0.5",
        "augmentation.elastic_probability=0.5",
        "augmentation.mix=0.5",
    ),
    "detect": (*SETTINGS, "model.norm_momentum=0"),
    "mvnet": (
        UNET,
        "scenes.voxel=0.2",
        "scenes.pairs=2",
        "data.points=512",
        "data.validation=0.25",
        "images.backbone=resnet-18",
        "images.weights=random",
        "images.size=32",
        "projection.size=16",
        "schedule.warmup=0",
        "loop.precision=fp32",
    ),
}


@contextmanager
def small():
    """Replace all networks by small ones."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        resnet = replace(NETWORKS["resnet-18"], config=SMALL_RESNET)
        patch.setitem(NETWORKS, "resnet-18", resnet)
        yield


def train_all(store, out, *more):
    """Train each recipe for an epoch into a folder of its name."""
    for recipe, settings in RECIPES.items():
        config = load_config(recipe, None, (*settings, *more), epochs=1)
        train(store, config, Path(out) / recipe, device="cpu")


if __name__ == "__main__":
    plugins.trust(NAME)
    with small():
        train_all(ViewStore.open(sys.argv[1]), sys.argv[2], "data.batch_size=4")
