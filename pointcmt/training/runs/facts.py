"""The contents of run.json, and what it says about the store that a run was trained on."""

from typing import Any

from pydantic import Field

from pointcmt import plugins
from pointcmt.datasets.store.locations import absolute
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.differences import brief, differing
from pointcmt.training.config.pointcmt import CONFIGS, TeacherConfig
from pointcmt.training.config.sections import (
    DENSE_BACKBONES,
    IMAGE_BACKBONES,
    POINT_BACKBONES,
    TrainConfig,
)
from pointcmt.training.config.tables import Count, Table

_BACKBONES = (*POINT_BACKBONES, *DENSE_BACKBONES)
UNSEEN = ("layers",)  # render settings that do not affect what a network reads


class SplitFacts(Table):
    """SHA-256 of the ids of the training and validation shapes."""

    train: str
    validation: str


class StoreFacts(Table):
    """The store that the run was trained on. render: its render settings; older runs lack them."""

    path: str
    dataset: str
    plan_sha256: str
    render_hash: str
    render: dict[str, Any] | None = None


class Facts(Table):
    """The fields of run.json that are used; `parse_config` checks `config`."""

    version: int
    recipe: str
    class_names: list[str]
    id: str
    config: dict[str, Any]
    inputs: dict[str, str]
    split: SplitFacts
    data: StoreFacts
    train_counts: dict[str, Count] = Field(default={})  # by class; older runs lack them


def describe_store(store: ViewStore) -> dict[str, Any]:
    """Return what run.json says about a store."""
    return {
        "path": absolute(store.path),
        "dataset": store.attributes["source"]["name"],
        "plan_sha256": store.attributes["plan_sha256"],
        "render_hash": store.attributes["render_hash"],
        "render": store.attributes["render"],
    }


def outside_parts(config: TrainConfig) -> dict[str, str]:
    """The parts from outside the package that a configuration names, and what their code is."""
    network, images = (getattr(config, key, None) for key in ("model", "images"))
    of_images = isinstance(config, TeacherConfig)
    model = plugins.IMAGE_NETWORKS if of_images else plugins.BACKBONES
    named = [
        (plugins.RECIPES, config.recipe, (*CONFIGS,)),
        (model, getattr(network, "backbone", ""), IMAGE_BACKBONES if of_images else _BACKBONES),
        (plugins.IMAGE_NETWORKS, getattr(images, "backbone", ""), IMAGE_BACKBONES),
    ]
    return {
        name: plugins.origin(group, name)
        for group, name, known in named
        if name and name not in known
    }


def store_notes(data: dict[str, Any], store: ViewStore) -> tuple[str, ...]:
    """Return notes for the user on how a store differs from the one that a run was trained on.

    data: the run's facts about its store. The list of shapes may differ without a note.
    """
    here, notes = describe_store(store), []
    if data["dataset"] != here["dataset"]:
        notes.append(
            f"this store contains the dataset {brief(here['dataset'])}, but the run was trained "
            f"on {brief(data['dataset'])}"
        )
    if data["render_hash"] != here["render_hash"]:
        notes += _render_note(data.get("render"), here["render"])
    return tuple(notes)


def _render_note(trained: dict[str, Any] | None, here: dict[str, Any]) -> list[str]:
    text = "this store was rendered with different settings than the run's store: "
    if trained is None:
        return [f"{text}unknown which, since the run was started with an older version of pointcmt"]
    different = [
        _difference(key, before, now)
        for key, (before, now) in differing(trained, here).items()
        if key not in UNSEEN
    ]
    return [text + "; ".join(different)] if different else []


def _difference(key: str, trained: Any, here: Any) -> str:
    names = [value.get("name") if isinstance(value, dict) else value for value in (trained, here)]
    if names[0] == names[1]:
        return f"{key}: different cameras with the same name, {brief(names[0])}"
    return f"{key}: {brief(names[0])} in the run's store, {brief(names[1])} in this one"
