"""Published PointNets and PointNet++s, by our names.

- yanx27/Pointnet_Pointnet2_pytorch, with or without normals, for classification and for parts:
  PointNet++ SSG and MSG as `sa1.mlp_convs.0` or `sa1.conv_blocks.0.0`, for parts then `fp3`, `fp2`,
  `fp1`, `conv1`, `bn1`, `conv2`; PointNet as `feat.stn.conv1`, `feat.conv1`, `feat.fstn.fc3`, …,
  for parts without `feat.`, then `convs1`, `bns1`, …, `convs4`. A PointNet for classification
  without `feat.fstn`, as of fxia22/pointnet.pytorch by default, does not align its features: our
  alignment is then the identity.
- PointNet of vinits5/learning3d: `feature_model.conv1` [64, 3, 1], `feature_model.bn1`, …,
  `linear1`, `bn1`, … It has no alignments: ours are then the identity.

A bias before a batch norm only shifts the norm's mean, and is subtracted from it. yanx27's layers
take inputs in another order: in MSG, features before positions; in propagations, a point's own
features before the interpolated ones.
"""

import re

import torch
from torch import Tensor

from pointcmt.training.networks.backbones.pointnet import TransformNet
from pointcmt.training.runs.published.converted import (
    POSITION,
    Converted,
    abstraction_layer,
    flat,
    head_name,
    without_biases,
)

PROPAGATIONS = {"3": ("to_far", 1024), "2": ("to_near", 256), "1": ("to_points", 128)}
PARTS = {  # names in yanx27's heads for parts → ours
    **dict(zip(("conv1", "bn1", "conv2"), ("head.0", "head.1", "classifier"), strict=True)),
    **{f"convs{n}": name for n, name in enumerate(("head.first", "head.rest.2", "head.rest.5"), 1)},
    **{f"bns{n}": name for n, name in enumerate(("head.rest.0", "head.rest.3", "head.rest.6"), 1)},
    "convs4": "classifier",
}
ALIGNMENTS = {"stn": "align_input", "fstn": "align_feature"}


def from_yanx27(weights: dict[str, Tensor]) -> Converted:
    """Convert the names, shapes and input order of yanx27's PointNet++ to ours."""
    block = re.compile(r"sa([123])\.(?:(conv|bn)_blocks\.(\d)|mlp_(conv|bn)s)\.(\d)\.(\w+)")
    step = re.compile(r"fp([123])\.mlp_(conv|bn)s\.(\d)\.(\w+)")
    parts = any(key.startswith("fp1.") for key in weights)
    converted = {}
    for key, value in weights.items():
        name = _part_name(key) if parts else head_name(key, "fc", 0)
        if match := block.fullmatch(key):
            stage, many, scale, one, layer, field = match.groups()
            place = int(stage) - 1, scale or "0", int(layer)
            name = f"{abstraction_layer(*place, (many or one) == 'bn')}.{field}"
            if many == "conv" and layer == "0" and field == "weight":
                value = torch.cat([value[:, -POSITION:], value[:, :-POSITION]], dim=1)
        elif match := step.fullmatch(key):
            number, kind, layer, field = match.groups()
            step_name, coarse = PROPAGATIONS[number]
            name = f"decoder.{step_name}.{_step_layer(int(layer), kind == 'bn')}.{field}"
            if kind == "conv" and layer == "0" and field == "weight":
                value = torch.cat([value[:, -coarse:], value[:, :-coarse]], dim=1)
        converted[name] = flat(value)
    multi = any(key.startswith("sa1.conv_blocks.") for key in weights)
    segmenter = f"pointnet2-part-seg-{'msg' if multi else 'ssg'}" if parts else ""
    return Converted(without_biases(converted), segmenter=segmenter)


def from_yanx27_pointnet(weights: dict[str, Tensor]) -> Converted:
    """Convert the names and shapes of yanx27's PointNet to ours."""
    parts = any(key.startswith("convs1.") for key in weights)
    converted = {}
    for key, value in weights.items():
        inner = key.removeprefix("feat.")
        first, _, rest = inner.partition(".")
        if first in ALIGNMENTS:
            name = f"{ALIGNMENTS[first]}.{_alignment_name(rest)}"
        elif parts:
            name = _own_name(inner, 3, True) if first not in PARTS_ALONE else _part_name(inner)
        else:
            name = head_name(key, "fc", 0) if key == inner else _own_name(inner, 1, False)
        converted[name] = flat(value)
    for part in ALIGNMENTS.values():  # there the identity is added to the matrix
        bias = converted.get(f"{part}.matrix.bias")
        width = round(len(bias) ** 0.5) if bias is not None else 0
        if bias is not None and width * width == len(bias):
            converted[f"{part}.matrix.bias"] = bias + torch.eye(width).to(bias).flatten()
    notes: tuple[str, ...] = ()
    if not parts and not any(name.startswith("align_feature.") for name in converted):
        converted |= _identity("align_feature", 64)
        notes = (
            "this PointNet has no alignment of features: that of `pointnet-yanx27` is set to the "
            "identity",
        )
    segmenter = "pointnet-part-seg" if parts else ""
    return Converted(without_biases(converted), notes, segmenter)


def from_learning3d(weights: dict[str, Tensor]) -> Converted:
    """Convert learning3d's PointNet to ours, whose alignments become the identity."""
    layer = re.compile(r"feature_model\.(conv|bn)([1-5])\.(\w+)")
    places = (("local", 0), ("local", 1), ("lift", 0), ("lift", 1), ("lift", 2))
    converted = _identity("align_input", 3) | _identity("align_feature", 64)
    for key, value in weights.items():
        name = head_name(key, "linear", 0)
        if match := layer.fullmatch(key):
            part, number = places[int(match[2]) - 1]
            name = f"{part}.{3 * number + (match[1] == 'bn')}.{match[3]}"
        converted[name] = flat(value)
    note = "this PointNet has no alignments: those of `pointnet` are set to the identity"
    return Converted(without_biases(converted), (note,))


def _identity(part: str, width: int) -> dict[str, Tensor]:
    """Return the weights of an alignment that leaves everything as it is."""
    with torch.random.fork_rng(devices=[]):  # the layers before the matrix are random, but unused
        network = TransformNet(width)
    return {f"{part}.{name}": value for name, value in network.state_dict().items()}


def _part_name(key: str) -> str:
    """Return our name of a tensor of a head for parts; others keep theirs."""
    layer, _, field = key.partition(".")
    return f"{PARTS[layer]}.{field}" if layer in PARTS else key


def _step_layer(layer: int, norm: bool) -> str:
    """Return our name of a propagation's linear layer or batch norm, numbered from 0."""
    return "first" if not (layer or norm) else f"rest.{3 * layer - 1 + norm}"


def _alignment_name(key: str) -> str:
    """Return our name within an alignment: conv1 … conv3, fc1, fc2 and bn1 … bn5, then fc3."""
    match = re.fullmatch(r"(conv|fc|bn)([1-5])\.(\w+)", key)
    if match is None:
        return key
    kind, number, field = match[1], int(match[2]), match[3]
    if (kind, number) == ("fc", 3):
        return f"matrix.{field}"
    place = number - 1 if kind != "fc" else number + 2  # among all layers that a norm follows
    part, layer = ("lift", place) if place < 3 else ("head", place - 3)
    return f"{part}.{3 * layer + (kind == 'bn')}.{field}"


def _own_name(key: str, local: int, apart: bool) -> str:
    """Return our name of one of PointNet's shared layers, `conv1` and `bn1` and so on.

    local: how many come before the second alignment. apart: each layer is a module of its own.
    """
    match = re.fullmatch(r"(conv|bn)([1-5])\.(\w+)", key)
    if match is None:
        return key
    number = int(match[2]) - 1
    part, layer = ("local", number) if number < local else ("lift", number - local)
    norm = match[1] == "bn"
    return f"{part}.{f'{layer}.{int(norm)}' if apart else 3 * layer + norm}.{match[3]}"


PARTS_ALONE = tuple(name for name in PARTS if name.startswith(("convs", "bns")))
