"""Load published weights into a network of ours, or say why they do not fit and what would."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pointcmt.errors import StoreError
from pointcmt.training.networks.backbones import BACKBONES, DENSE
from pointcmt.training.runs.checkpoint import require_fit
from pointcmt.training.runs.published.files import read_weights
from pointcmt.training.runs.published.layouts import (
    convert,
    encoder_of,
    find_backbone,
    other_network,
    strip,
)

HEADLESS = "the classifier was not loaded: this checkpoint has a 512-256-C head"
DOCS = "docs/training.md lists the checkpoints that can be read"
AXES = 3  # numbers that our networks take for each point


@dataclass(frozen=True)
class Published:
    """Weights with a model's names, as far as they are known.

    headless: their head differs from ours. notes: for the user. fix: what helps if they do not fit.
    """

    weights: dict[str, Tensor]
    headless: bool
    notes: tuple[str, ...]
    fix: str


def load_published(path: Path, model: nn.Module) -> tuple[str, ...]:
    """Load a file of published weights into the model; return notes for the user.

    path: as in `files.read_weights`. Raises StoreError if it cannot be read, or does not fit, with
    the tensors that differ; the model is then unchanged.
    """
    found = read_published(path, model)
    weights, expected = found.weights, model.state_dict()
    if found.headless:
        weights |= {key: value for key, value in expected.items() if key.startswith("classifier.")}
    require_fit(weights, expected, str(path), found.fix)
    model.load_state_dict(weights)
    return (*found.notes, HEADLESS) if found.headless else found.notes


def read_published(path: Path, model: nn.Module, dense: bool = False) -> Published:
    """Read published weights by the model's names.

    dense: whether the model is one of DENSE. Raises StoreError like `load_published`, except that
    the caller checks whether they fit; one of another layout is refused here.
    """
    expected = model.state_dict()
    stored, notes = read_weights(path)
    weights = strip(stored, expected)
    other = other_network(weights)
    if other and not encoder_of(weights).keys() <= expected.keys():
        what, help_ = other
        raise StoreError(
            f"this checkpoint is a {what}, which cannot be loaded", where=str(path), fix=help_
        )
    found = convert(weights)
    fix = advise(path, found.weights, expected, dense)
    return Published(found.weights, found.headless, notes, fix)


def find_backbone_of(path: Path) -> str:
    """Return the name of the backbone that a file's weights belong to, "" if there is none.

    Raises StoreError for a file that cannot be read.
    """
    return find_backbone(convert(strip(read_weights(path)[0], ())).weights, BACKBONES)


def advise(path: Path, weights: dict[str, Tensor], expected: dict[str, Tensor], dense: bool) -> str:
    """Return what would help where weights do not fit a model."""
    name = find_backbone(weights, DENSE if dense else BACKBONES)
    ours, theirs = encoder_of(expected), encoder_of(weights)
    if name and ours.keys() != theirs.keys():
        return f"use the network that it belongs to: --set model.backbone={name}"
    if name:
        here, there = (w["classifier.weight"].shape[0] if "classifier.weight" in w else 0
                       for w in (expected, weights))  # fmt: skip
        classes = f" ({there} classes in the checkpoint, {here} here)" if here and there else ""
        return (
            f"the encoder fits, but not what follows it{classes}: start from the encoder alone with "
            f"`pointcmt train finetune --init {path} --set model.backbone={name}`"
        )
    wide = next((n for n, shape in ours.items() if _takes_points(shape, theirs.get(n))), None)
    if wide is not None:
        return (
            f"its first layer takes {theirs[wide][1]} numbers for each point, most likely positions "
            "and normals, but networks here take positions alone: use the checkpoint that was "
            "trained without normals"
        )
    return f"use the model.backbone that the checkpoint was trained with; {DOCS}"


def _takes_points(ours: tuple[int, ...], theirs: tuple[int, ...] | None) -> bool:
    """Return whether these are the shapes of first layers, theirs of more than positions."""
    if theirs is None or len(ours) != 2 or len(theirs) != 2:
        return False
    return ours[0] == theirs[0] and ours[1] == AXES < theirs[1]
