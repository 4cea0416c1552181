"""Weights of published networks by our names, and what the conversion of all layouts shares."""

from dataclasses import dataclass

from torch import Tensor

from pointcmt.errors import printable
from pointcmt.training.networks.backbones import LINEAR, PUBLISHED

STAGES = ("near.mlps.{scale}", "far.mlps.{scale}", "all")  # our names of the set abstractions
FIRST = ("local.0.weight", "local.0.0.weight", "near.mlps.0.first.weight")  # layers, by our names
POSITION = 3  # values of a point
MOST_NAMED = 6  # groups of tensors in a note


@dataclass(frozen=True)
class Converted:
    """Weights with our names, as far as they have any.

    notes: for the user. segmenter: the name of the network for part segmentation that they belong
    to, one of PART_NETWORKS; "" if they classify.
    """

    weights: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    segmenter: str = ""

    @property
    def head(self) -> str:
        """The kind of head that they have, one of HEADS."""
        return PUBLISHED if LAST in self.weights else LINEAR

    @property
    def inputs(self) -> int:
        """The values that the first layer takes of each point besides its position."""
        return inputs_of(self.weights, self.segmenter)


def inputs_of(weights: dict[str, Tensor], segmenter: str = "") -> int:
    """Return the values that a PointNet or a PointNet++ takes of each point besides its position.

    0 for other networks. segmenter: see `Converted`; such a PointNet++ takes positions twice.
    """
    name = next((name for name in FIRST if name in weights), None)
    if name is None or weights[name].dim() != 2:
        return 0
    twice = bool(segmenter) and name == FIRST[-1]
    return max(weights[name].shape[1] - (2 if twice else 1) * POSITION, 0)


def left_out(names: list[str]) -> str:
    """Return a note on tensors that are not used. Names are grouped by their first parts."""
    groups = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    more = f" and {len(groups) - MOST_NAMED} more" if len(groups) > MOST_NAMED else ""
    listed = ", ".join(map(printable, groups[:MOST_NAMED])) + more
    return f"{len(names)} tensors of this file are not part of the network: {listed}"


def head_name(key: str, linear: str, before: int) -> str:
    """Return our name of a tensor of a published head; others keep theirs.

    linear: what its linear layers are called, from 1. before: how many norms come before the head.
    """
    layer, _, field = key.partition(".")
    layers = {f"{linear}{number}": name for number, name in enumerate(LINEARS, 1)}
    norms = {f"bn{before + number}": name for number, name in enumerate(NORMS, 1)}
    return f"{(layers | norms)[layer]}.{field}" if layer in layers | norms else key


def without_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Subtract biases before batch norms from the norms' means: (Wx + b) - m = Wx - (m - b)."""
    kept = dict(weights)
    for mean in [name for name in weights if name.endswith(".running_mean")]:
        bias = f"{linear_before(mean.removesuffix('.running_mean'))}.bias"
        if bias in kept and kept[bias].shape == kept[mean].shape:
            kept[mean] = kept[mean].double() - kept.pop(bias).double()
    return kept


def linear_before(norm: str) -> str:
    """Return our name of the linear layer before a batch norm."""
    prefix, _, last = norm.rpartition(".")
    if last == "norm":
        return f"{prefix}.hidden"
    if last == "0":  # of a group's MLP, whose first layer has a name of its own
        return f"{prefix.removesuffix('rest')}first"
    return f"{prefix}.{int(last) - 1}" if last.isdecimal() else norm


def abstraction_layer(stage: int, scale: str, layer: int, norm: bool) -> str:
    """Return our name of a set abstraction's linear layer or batch norm, numbered from 0."""
    prefix = STAGES[stage].format(scale=scale)
    if prefix == "all":
        return f"{prefix}.{3 * layer + norm}"
    return f"{prefix}.first" if not (layer or norm) else f"{prefix}.rest.{3 * layer - 1 + norm}"


def flat(weight: Tensor) -> Tensor:
    """Return a 1×1 convolution's weight [O, I, 1, 1] as a linear layer's [O, I]."""
    return weight.flatten(1) if weight.dim() > 2 and set(weight.shape[2:]) == {1} else weight


LINEARS = ("head.0", "classifier.hidden", "classifier.last")  # our names in published heads
NORMS = ("head.1", "classifier.norm")
LAST = f"{LINEARS[-1]}.weight"
