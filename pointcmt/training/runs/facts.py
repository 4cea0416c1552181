"""What run.json holds, and what it says of the store that a run was trained on."""

from typing import Any

from pointcmt.datasets.store.locations import absolute
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.differences import brief, differing
from pointcmt.training.runs.tables import Table

UNSEEN = ("layers",)  # render settings that no network notices


class SplitFacts(Table):
    """SHA-256 of the ids of the shapes that train and that validate."""

    train: str
    validation: str


class StoreFacts(Table):
    """The store that the run was trained on. render: its settings; older runs lack them."""

    path: str
    dataset: str
    plan_sha256: str
    render_hash: str
    render: dict[str, Any] | None = None


class Facts(Table):
    """The fields of run.json that are used; `config` is checked by `parse_config`."""

    version: int
    recipe: str
    class_names: list[str]
    id: str
    config: dict[str, Any]
    inputs: dict[str, str]
    split: SplitFacts
    data: StoreFacts


def describe_store(store: ViewStore) -> dict[str, Any]:
    """What run.json says of a store."""
    return {
        "path": absolute(store.path),
        "dataset": store.attributes["source"]["name"],
        "plan_sha256": store.attributes["plan_sha256"],
        "render_hash": store.attributes["render_hash"],
        "render": store.attributes["render"],
    }


def store_notes(data: dict[str, Any], store: ViewStore) -> tuple[str, ...]:
    """What distinguishes a store from the one that a run was trained on, for the user.

    data: the run's facts of its store. The list of shapes may differ without a note.
    """
    here, notes = describe_store(store), []
    if data["dataset"] != here["dataset"]:
        notes.append(
            f"this store holds the data set {brief(here['dataset'])}, the run was trained on "
            f"{brief(data['dataset'])}"
        )
    if data["render_hash"] != here["render_hash"]:
        notes += _render_note(data.get("render"), here["render"])
    return tuple(notes)


def _render_note(trained: dict[str, Any] | None, here: dict[str, Any]) -> list[str]:
    text = "this store was rendered with other settings than the one that the run was trained on: "
    if trained is None:
        return [f"{text}which ones is not known, since an older pointcmt began the run"]
    different = [
        _difference(key, before, now)
        for key, (before, now) in differing(trained, here).items()
        if key not in UNSEEN
    ]
    return [text + "; ".join(different)] if different else []


def _difference(key: str, trained: Any, here: Any) -> str:
    names = [value.get("name") if isinstance(value, dict) else value for value in (trained, here)]
    if names[0] == names[1]:
        return f"{key}: other cameras under the same name, {brief(names[0])}"
    return f"{key}: {brief(names[0])} in the run's store, {brief(names[1])} in this one"
