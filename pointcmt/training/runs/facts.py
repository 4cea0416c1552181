"""The contents of run.json, and what it says about the store that a run was trained on."""

from typing import Any

from pydantic import Field

from pointcmt import plugins
from pointcmt.datasets.joint import describe_difference
from pointcmt.datasets.store.locations import absolute
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import brief, differing
from pointcmt.training.config.pointcmt import CONFIGS, TeacherConfig
from pointcmt.training.config.sections import (
    DENSE_BACKBONES,
    IMAGE_BACKBONES,
    POINT_BACKBONES,
    TrainConfig,
)
from pointcmt.training.config.tables import Table

_BACKBONES = (*POINT_BACKBONES, *DENSE_BACKBONES)
UNSEEN = ("layers",)  # render settings that do not affect what a network reads


class SplitFacts(Table):
    """SHA-256 of the ids of the training and validation shapes."""

    train: str
    validation: str


class StoreFacts(Table):
    """What the run was trained on. render: the render settings; older runs lack them.

    stores: each store, if there are several; the other fields then describe them together.
    """

    path: str
    dataset: str
    plan_sha256: str
    render_hash: str
    render: dict[str, Any] | None = None
    stores: list["StoreFacts"] = Field(default=[])


class Facts(Table):
    """The fields of run.json that are used; `parse_config` checks `config`.

    unlearned: classes without train shapes, which cannot be predicted; older runs lack it.
    """

    version: int
    recipe: str
    class_names: list[str]
    id: str
    config: dict[str, Any]
    inputs: dict[str, str]
    split: SplitFacts
    data: StoreFacts
    unlearned: list[str] = Field(default=[])


def describe_store(store: StoreReader) -> dict[str, Any]:
    """Return what run.json says about a store; of several that are joined, also about each."""
    about = {
        "path": ", ".join(absolute(member.path) for member in store.members),
        "dataset": store.attributes["source"]["name"],
        "plan_sha256": store.attributes["plan_sha256"],
        "render_hash": store.attributes["render_hash"],
        "render": store.attributes["render"],
    }
    if len(store.members) > 1:
        about["stores"] = [describe_store(member) for member in store.members]
    return about


def each_store(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the facts about each of a run's stores, in order."""
    return data.get("stores") or [data]


def as_options(data: dict[str, Any]) -> str:
    """Return the options that name a run's stores, in order."""
    return " ".join(f"--data {one['path']}" for one in each_store(data))


def order_of_run(trained: dict[str, Any], here: dict[str, Any]) -> str:
    """Return how to pass a run's stores if `here` are the same ones in another order, else ""."""
    before, now = ({_shapes_of(one): one for one in each_store(data)} for data in (trained, here))
    if before.keys() != now.keys() or [*before] == [*now]:
        return ""
    ordered = {"stores": [now[shapes] for shapes in before]}
    return f"pass the stores in the order of the run: {as_options(ordered)}"


def _shapes_of(data: dict[str, Any]) -> tuple[str, ...]:
    """What identifies a store to a run."""
    return data["dataset"], data["plan_sha256"], data["render_hash"]


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


def store_notes(data: dict[str, Any], store: StoreReader) -> tuple[str, ...]:
    """Return notes for the user on how a store differs from the one that a run was trained on.

    data: the run's facts about its store. The list of shapes may differ without a note.
    """
    here, notes = describe_store(store), []
    known = [one["dataset"] for one in each_store(data)]
    if any(one["dataset"] not in known for one in each_store(here)):
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
        describe_difference(key, values, ("the run's store", "this one"))
        for key, values in differing(trained, here).items()
        if key not in UNSEEN
    ]
    return [text + "; ".join(different)] if different else []
