"""Load published weights into a network of ours, or say why they do not fit and what would."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pointcmt.errors import MisfitError, StoreError
from pointcmt.training.networks.backbones import BACKBONES, DENSE, PUBLISHED
from pointcmt.training.runs.checkpoint import require_fit
from pointcmt.training.runs.published.converted import (
    LAST,
    POSITION,
    Converted,
    inputs_of,
    left_out,
)
from pointcmt.training.runs.published.files import read_weights
from pointcmt.training.runs.published.layouts import (
    convert,
    encoder_of,
    find_backbone,
    other_network,
    strip,
)

HEADLESS = (
    "the classifier was not loaded: this checkpoint has the published head (model.head=published)"
)
DOCS = "docs/training.md lists the checkpoints that can be read"
LAST_LAYERS = ("classifier.weight", LAST)
MOST_INPUTS = 12  # values of each point, at most
NORMAL = 3  # values of a normal


@dataclass(frozen=True)
class Published:
    """Weights with a model's names, as far as they are known.

    head: the kind that they have, one of HEADS. notes: for the user. segmenter: as in `Converted`.
    """

    weights: dict[str, Tensor]
    head: str
    notes: tuple[str, ...]
    segmenter: str = ""


def load_published(path: Path, model: nn.Module) -> tuple[str, ...]:
    """Load a file of published weights into the model; return notes for the user.

    path: as in `files.read_weights`. Raises StoreError if it cannot be read, or does not fit, with
    the tensors that differ; the model is then unchanged.
    """
    found = read_published(path, model)
    weights, expected = found.weights, model.state_dict()
    headless = found.head == PUBLISHED and LAST not in expected
    if headless:
        own = {key: value for key, value in expected.items() if key.startswith("classifier.")}
        encoder = {k: value for k, value in weights.items() if not k.startswith("classifier.")}
        weights = encoder | own
    with advising(path, weights, model):
        require_fit(weights, expected, str(path), "")
    model.load_state_dict(weights)
    return (*found.notes, HEADLESS) if headless else found.notes


def read_published(path: Path, model: nn.Module) -> Published:
    """Read published weights by the model's names.

    Raises StoreError like `load_published`, except that the caller checks whether they fit; a
    network of another layout is refused here.
    """
    expected = model.state_dict()
    stored, notes = read_weights(path)
    weights = strip(stored, expected)
    other = other_network(weights)
    if other and not encoder_of(weights).keys() <= expected.keys():
        what, help_ = other
        raise MisfitError(
            f"this checkpoint is a {what}, which cannot be loaded", where=str(path), fix=help_
        )
    found = convert(weights, path)
    notes = (*notes, *_outside(stored, weights), *found.notes)
    return Published(found.weights, found.head, notes, found.segmenter)


def _outside(stored: dict[str, Tensor], kept: dict[str, Tensor]) -> tuple[str, ...]:
    """Return a note on the file's tensors that are outside of the network, if there are any."""
    left = [name for name in stored if not any(name.endswith(inner) for inner in kept)]
    return (left_out(left),) if left and len(kept) < len(stored) else ()


@contextmanager
def advising(
    path: Path, weights: dict[str, Tensor], model: nn.Module, dense: bool = False
) -> Iterator[None]:
    """Let the error of weights that do not fit a model say what they are and what would help.

    dense: whether the model is one of DENSE.
    """
    try:
        yield
    except StoreError as error:
        expected = model.state_dict()
        name, different = find_backbone(weights, DENSE if dense else BACKBONES)
        wide = next((weights[key].shape for key in different if _takes_more(weights[key])), None)
        theirs, ours = inputs_of(weights), inputs_of(expected)
        if name and not different and theirs != ours and {theirs, ours} == {0, NORMAL}:
            error.fix = (
                f"the checkpoint was trained {'with' if theirs else 'without'} normals: set "
                f"data.normals={str(bool(theirs)).lower()} and model.backbone={name}"
            )
        elif wide is not None:
            error.fix = (
                f"its first layer takes {wide[1]} numbers for each point, which is neither "
                f"positions alone, {POSITION}, nor positions and normals, {POSITION + NORMAL}: use "
                "a checkpoint that was trained with these"
            )
        elif not name or different:
            error.fix = f"use the model.backbone that the checkpoint was trained with; {DOCS}"
        elif encoder_of(weights).keys() != encoder_of(expected).keys():
            error.what = f"this checkpoint belongs to a different architecture, {name}"
            error.fix = f"use it: --set model.backbone={name}"
        else:
            error.fix = (
                f"the encoder fits, but not what follows it{_classes(weights, expected)}: start "
                f"from the encoder alone, with `pointcmt train finetune --init {path} "
                f"--set model.backbone={name}`"
            )
        raise


def find_backbone_of(path: Path) -> str:
    """Return the name of the network that a file's weights belong to, "" if there is none.

    It is one of BACKBONES, or of PART_NETWORKS. Raises StoreError for a file that cannot be read.
    """
    found = peek(path)
    if found.segmenter:
        return found.segmenter
    name, different = find_backbone(found.weights, BACKBONES)
    return "" if different else name


def peek(path: Path) -> Converted:
    """Read published weights by our names, for no particular network.

    Raises StoreError for a file that cannot be read.
    """
    return convert(strip(read_weights(path)[0], ()), path)


def _takes_more(weight: Tensor) -> bool:
    """Return whether this can be a first layer's weight, for more than positions."""
    return weight.dim() == 2 and POSITION < weight.shape[1] <= MOST_INPUTS


def _classes(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Return how many classes both have, if they differ in it."""
    last = next((k for k in LAST_LAYERS if k in weights), LAST_LAYERS[0])
    if last not in weights or last not in expected:
        return ""
    theirs, ours = rows(weights[last]), rows(expected[last])
    return "" if theirs == ours else f" ({theirs} classes in the checkpoint, {ours} here)"


def rows(weight: Tensor) -> int:
    """Return the outputs of a layer: the first size of its weight, 0 of a damaged file's scalar."""
    return len(weight) if weight.dim() else 0
