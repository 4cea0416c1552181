"""The layouts of published networks: their names and shapes, turned into ours.

- PointNet++ of PointCMT's reference code (ZhanHeshen/PointCMT, whose layers are those of
  etw_pytorch_utils): `SA_modules.0.mlps.0.layer0.conv.weight` [32, 3, 1, 1], its norm under
  `normlayer.bn` or, in older releases, `bn.bn`; then `fc_layer1`, `fc_layer2`.
- PointNet++ SSG and MSG of yanx27/Pointnet_Pointnet2_pytorch, without normals:
  `sa1.mlp_convs.0` or `sa1.conv_blocks.0.0`. A bias before a batch norm only shifts the norm's
  mean, and is subtracted from it.
- DGCNN of WangYueFt/dgcnn and antao97/dgcnn.pytorch: `conv1.0` [64, 6, 1, 1], its norm as `conv1.1`
  or `bn1`, …, `conv5`, `linear1`, `bn6`, `linear2`, `bn7`, `linear3`.
- The encoder of Pang-Yatian/Point-MAE: `encoder.first_conv.0` [128, 3, 1], `blocks.blocks.0.norm1`,
  …; in files of pre-training under `MAE_encoder.`, without a class token. Its heads are left out.
- MVCNN and generator of PointCMT's reference code (`mvcnn.t7`, `cmpg.pth`): torchvision's ResNet as
  `net.0`, …, `net.7`, then `fc.0`; and `fc_l.1`.
- PointNet of vinits5/learning3d: `feature_model.conv1` [64, 3, 1], `feature_model.bn1`, …,
  `linear1`, `bn1`, … It has no alignments: ours are then the identity.

Files of yanx27, DGCNN and learning3d have heads of 512-256-C, as `blocks.PublishedHead` is; with
one linear layer instead, their last two layers do not fit. DGCNN's feature ends in a LeakyReLU
there; with our linear layer, it ends in a ReLU.

Others are recognized, so that an error can say what they are.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pointcmt.training.networks.backbones import LINEAR, PUBLISHED
from pointcmt.training.networks.backbones.pointnet import TransformNet

MAE = "MAE_encoder."  # in files of Point-MAE's pre-training
STAGES = ("near.mlps.{scale}", "far.mlps.{scale}", "all")  # our names of the set abstractions
PREFIXES = (  # that wrapping modules put before the names
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder."),
    *("base_model.", "student.", "point_encoder.", "ema_model."),
)
MOST_PREFIXES = 8
LATER = ("head.", "classifier.", "decoder.")  # what follows an encoder of ours
OTHERS = {  # names that begin so → what the network is, and what helps
    "local_grouper_list.": (
        "PointMLP in its authors' layout",
        "train it here with --set model.backbone=pointmlp, or rename its tensors",
    ),
    "feat.stn.": (
        "PointNet with a spatial transformer",
        "train a PointNet here with --set model.backbone=pointnet",
    ),
    "transform_net.": (
        "DGCNN for segmentation",
        "use its checkpoint for classification, with --set model.backbone=dgcnn",
    ),
    **dict.fromkeys(
        ("transformer_q.", "reduce_dim."),
        (
            "transformer of Point-BERT, which takes the maximum over a patch before its last layer",
            "use Point-MAE's, with --set model.backbone=pointvit-s, or pre-train one with mvnet",
        ),
    ),
}


@dataclass(frozen=True)
class Converted:
    """Weights with our names, as far as they have any. notes: for the user."""

    weights: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The kind of head that they have, one of HEADS."""
        deep = any(name.startswith("classifier.hidden.") for name in self.weights)
        return PUBLISHED if deep else LINEAR


def convert(weights: dict[str, Tensor]) -> Converted:
    """Give the tensors of a known layout our names and shapes; others stay the same."""
    for first, turn in CONVERT.items():
        if any(name.startswith(first) for name in weights):
            return turn(weights)
    return Converted(weights)


def other_network(weights: dict[str, Tensor]) -> tuple[str, str] | None:
    """Return what a network of another layout is, and what helps."""
    return next((OTHERS[f] for f in OTHERS if any(n.startswith(f) for n in weights)), None)


def strip(weights: dict[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Remove the prefixes that DataParallel, compilers and wrapping modules put before names.

    expected: a model's own names. A prefix that not all names have is removed if the names after
    it are known; the other names are then outside of the network, and left out.
    """
    known = set(expected)
    for _ in range(MOST_PREFIXES):
        if _is_known(weights, known):
            break
        inside = [
            {n.removeprefix(p): t for n, t in weights.items() if n.startswith(p)} for p in PREFIXES
        ]
        whole = [found for found in inside if len(found) == len(weights)]
        if not whole:
            whole = [found for found in inside if found and _leads(found, known)]
        if not whole:
            break
        weights = max(whole, key=len)
    return weights


def _leads(weights: dict[str, Tensor], known: set[str]) -> bool:
    """Return whether names are known, or are after removing more prefixes that all of them have."""
    for _ in range(MOST_PREFIXES):
        if _is_known(weights, known):
            return True
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            return False
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return False


def _is_known(weights: dict[str, Tensor], known: set[str]) -> bool:
    """Return whether names belong to the model (most of them), or to a layout."""
    marks = (*CONVERT, *OTHERS)
    if any(name.startswith(marks) for name in weights):
        return True
    return 2 * sum(name in known for name in weights) > len(weights)


def encoder_of(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of an encoder's tensors, by our names."""
    return {n: tensor.shape for n, tensor in weights.items() if not n.startswith(LATER)}


def find_backbone(
    weights: dict[str, Tensor], backbones: dict[str, Callable[[int], nn.Module]]
) -> tuple[str, list[str]]:
    """Return the network whose encoder has tensors of these names, and those of other shapes.

    The network with the fewest of those; "" if there is none.
    """
    own = encoder_of(weights)
    found: list[tuple[str, list[str]]] = []
    for name, build in backbones.items():
        with torch.device("meta"):  # takes no memory
            expected = encoder_of(build(2).state_dict())
        if own.keys() == expected.keys():
            found.append((name, [key for key in own if own[key] != expected[key]]))
    return min(found, key=lambda each: len(each[1]), default=("", []))


def _from_reference(weights: dict[str, Tensor]) -> Converted:
    """Convert the reference code's names and shapes to ours; unknown names stay the same."""
    block = re.compile(
        r"SA_modules\.([012])\.mlps\.(\d)\.layer(\d)\.(conv|normlayer\.bn|bn\.bn)\.(\w+)"
    )
    head = re.compile(r"fc_layer1\.0\.(fc|normlayer\.bn|bn\.bn)\.(\w+)")
    converted = {}
    for key, value in weights.items():
        name = key.replace("fc_layer2.0.", "classifier.")
        if match := block.fullmatch(key):
            stage, scale, layer, part, field = match.groups()
            name = f"{_layer(int(stage), scale, int(layer), part != 'conv')}.{field}"
        elif match := head.fullmatch(key):
            name = f"head.{0 if match[1] == 'fc' else 1}.{match[2]}"
        converted[name] = _flat(value)
    return Converted(converted)


def _from_yanx27(weights: dict[str, Tensor]) -> Converted:
    """Convert yanx27's names, shapes and input order to ours."""
    block = re.compile(r"sa([123])\.(?:(conv|bn)_blocks\.(\d)|mlp_(conv|bn)s)\.(\d)\.(\w+)")
    converted = {}
    for key, value in weights.items():
        name = _head(key, "fc", 0)
        if match := block.fullmatch(key):
            stage, many, scale, one, layer, field = match.groups()
            place = int(stage) - 1, scale or "0", int(layer)
            name = f"{_layer(*place, (many or one) == 'bn')}.{field}"
            if many == "conv" and layer == "0" and field == "weight":
                value = torch.cat([value[:, -3:], value[:, :-3]], dim=1)  # to our input order
        converted[name] = _flat(value)
    return Converted(_without_biases(converted))


def _from_dgcnn(weights: dict[str, Tensor]) -> Converted:
    """Convert DGCNN's names and shapes to ours."""
    layer = re.compile(r"(?:conv([1-5])\.([01])|bn([1-5]))\.(\w+)")
    converted = {}
    for key, value in weights.items():
        name = _head(key, "linear", 5)
        if match := layer.fullmatch(key):
            conv, part, norm, field = match.groups()
            number, second = int(conv or norm), part == "1" or norm is not None
            edge = f"edges.{number - 1}."
            places = ("embed.0", "embed.1") if number == 5 else (f"{edge}linear", f"{edge}norm")
            name = f"{places[second]}.{field}"
        converted[name] = _flat(value)
    return Converted(_without_biases(converted))


def _from_point_mae(weights: dict[str, Tensor]) -> Converted:
    """Convert the names and shapes of Point-MAE's encoder to ours, without heads and decoder.

    A class token that is missing, as after pre-training, is random as at the start of its authors'
    fine-tuning; from a fixed seed.
    """
    inside = {
        name.removeprefix(MAE): tensor
        for name, tensor in weights.items()
        if name.startswith(MAE) or not any(other.startswith(MAE) for other in weights)
    }
    converted = {}
    for key, value in inside.items():
        for pattern, ours in _POINT_MAE.items():
            if match := re.fullmatch(pattern, key):
                conv = value.dim() == 3 and not key.startswith("cls_")  # [O, I, 1]
                converted[match.expand(ours)] = value.flatten(1) if conv else value
    notes: tuple[str, ...] = ()
    if "class_token" not in converted and "norm.weight" in converted:
        width = len(converted["norm.weight"])
        generator = torch.Generator().manual_seed(0)
        for name in ("class_token", "class_place"):
            converted[name] = 0.02 * torch.randn(1, 1, width, generator=generator)
        notes = ("this file has no class token: it starts from random values",)
    return Converted(_without_patch_biases(converted), notes)


def _without_patch_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Subtract the biases of a patch's embedding that a batch norm follows from the norms' means.

    The second layer's bias b is added to all features of a patch, so to their maximum too, and
    reaches the third layer's norm as W·[b, b]. Weights of other shapes stay the same.
    """
    biases = [f"embed.{layer}.bias" for layer in ("near.0", "near.3", "both")]
    means = [f"embed.{norm}.running_mean" for norm in ("near.1", "rest.0")]
    names = [*biases, *means, "embed.both.weight"]
    shapes = [tuple(weights[name].shape) for name in names if name in weights]
    if shapes != [(128,), (256,), (512,), (128,), (512,), (512, 512)]:
        return weights
    kept = {name: tensor for name, tensor in weights.items() if name not in biases}
    first, second, third = (weights[name].double() for name in biases)
    twice = weights["embed.both.weight"].double() @ torch.cat([second, second])
    for mean, bias in zip(means, (first, third + twice), strict=True):
        kept[mean] = weights[mean].double() - bias
    return kept


def _from_mvcnn(weights: dict[str, Tensor]) -> Converted:
    """Convert the names of torchvision's ResNet in PointCMT's MVCNN to transformers' in ours."""
    converted = {}
    for key, value in weights.items():
        name = key.replace("fc.0.", "classifier.")
        if match := re.fullmatch(r"net\.([01])\.(\w+)", key):
            part = ("convolution", "normalization")[int(match[1])]
            name = f"encoder.embedder.embedder.{part}.{match[2]}"
        elif match := re.fullmatch(r"net\.([4-7])\.(\d+)\.(conv|bn)(\d)\.(\w+)", key):
            stage, block, kind, number, field = match.groups()
            part = "convolution" if kind == "conv" else "normalization"
            layers = f"encoder.encoder.stages.{int(stage) - 4}.layers.{block}"
            name = f"{layers}.layer.{int(number) - 1}.{part}.{field}"
        elif match := re.fullmatch(r"net\.([4-7])\.(\d+)\.downsample\.([01])\.(\w+)", key):
            stage, block, which, field = match.groups()
            part = ("convolution", "normalization")[int(which)]
            layers = f"encoder.encoder.stages.{int(stage) - 4}.layers.{block}"
            name = f"{layers}.shortcut.{part}.{field}"
        converted[name] = value
    return Converted(converted)


def _from_cmpg(weights: dict[str, Tensor]) -> Converted:
    """Convert the name of the generator's only layer."""
    return Converted({name.replace("fc_l.1.", "decode."): x for name, x in weights.items()})


def _from_learning3d(weights: dict[str, Tensor]) -> Converted:
    """Convert learning3d's PointNet to ours, whose alignments become the identity."""
    layer = re.compile(r"feature_model\.(conv|bn)([1-5])\.(\w+)")
    places = (("local", 0), ("local", 1), ("lift", 0), ("lift", 1), ("lift", 2))
    with torch.random.fork_rng(devices=[]):  # the alignments' weights are random, but unused
        aligned = {"align_input": TransformNet(3), "align_feature": TransformNet(64)}
    converted = {
        f"{part}.{name}": value
        for part, network in aligned.items()
        for name, value in network.state_dict().items()
    }
    for key, value in weights.items():
        name = _head(key, "linear", 0)
        if match := layer.fullmatch(key):
            part, number = places[int(match[2]) - 1]
            name = f"{part}.{3 * number + (match[1] == 'bn')}.{match[3]}"
        converted[name] = _flat(value)
    note = "this PointNet has no alignments: those of `pointnet` are set to the identity"
    return Converted(_without_biases(converted), (note,))


def _head(key: str, linear: str, before: int) -> str:
    """Return our name of a tensor of a published head; others keep theirs.

    linear: what its linear layers are called, from 1. before: how many norms come before the head.
    """
    layer, _, field = key.partition(".")
    layers = {f"{linear}{number}": name for number, name in enumerate(_LINEAR, 1)}
    norms = {f"bn{before + number}": name for number, name in enumerate(_NORMS, 1)}
    return f"{(layers | norms)[layer]}.{field}" if layer in layers | norms else key


def _without_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Subtract biases before batch norms from the norms' means: (Wx + b) - m = Wx - (m - b)."""
    kept = dict(weights)
    for mean in [name for name in weights if name.endswith(".running_mean")]:
        bias = f"{_linear_before(mean.removesuffix('.running_mean'))}.bias"
        if bias in kept and kept[bias].shape == kept[mean].shape:
            kept[mean] = kept[mean].double() - kept.pop(bias).double()
    return kept


def _linear_before(norm: str) -> str:
    """Return our name of the linear layer before a batch norm."""
    prefix, _, last = norm.rpartition(".")
    if last == "norm":
        return f"{prefix}.hidden"
    if last == "0":  # of a group's MLP, whose first layer has a name of its own
        return f"{prefix.removesuffix('rest')}first"
    return f"{prefix}.{int(last) - 1}" if last.isdecimal() else norm


def _layer(stage: int, scale: str, layer: int, norm: bool) -> str:
    """Return our name of a set abstraction's linear layer or batch norm, numbered from 0."""
    prefix = STAGES[stage].format(scale=scale)
    if prefix == "all":
        return f"{prefix}.{3 * layer + norm}"
    return f"{prefix}.first" if not (layer or norm) else f"{prefix}.rest.{3 * layer - 1 + norm}"


def _flat(weight: Tensor) -> Tensor:
    """Return a 1×1 convolution's weight [O, I, 1, 1] as a linear layer's [O, I]."""
    return weight.flatten(1) if weight.dim() > 2 and set(weight.shape[2:]) == {1} else weight


_POINT_MAE = {  # names in Point-MAE's code → ours
    r"encoder\.first_conv\.(\d)\.(\w+)": r"embed.near.\1.\2",
    r"encoder\.second_conv\.0\.(\w+)": r"embed.both.\1",
    r"encoder\.second_conv\.1\.(\w+)": r"embed.rest.0.\1",
    r"encoder\.second_conv\.3\.(\w+)": r"embed.rest.2.\1",
    r"pos_embed\.(\d)\.(\w+)": r"place.\1.\2",
    r"cls_token": "class_token",
    r"cls_pos": "class_place",
    r"blocks\.blocks\.(\d+)\.norm1\.(\w+)": r"blocks.\1.norm_attention.\2",
    r"blocks\.blocks\.(\d+)\.norm2\.(\w+)": r"blocks.\1.norm_mlp.\2",
    r"blocks\.blocks\.(\d+)\.attn\.qkv\.(\w+)": r"blocks.\1.qkv.\2",
    r"blocks\.blocks\.(\d+)\.attn\.proj\.(\w+)": r"blocks.\1.project.\2",
    r"blocks\.blocks\.(\d+)\.mlp\.fc1\.(\w+)": r"blocks.\1.mlp.0.\2",
    r"blocks\.blocks\.(\d+)\.mlp\.fc2\.(\w+)": r"blocks.\1.mlp.2.\2",
    r"norm\.(\w+)": r"norm.\1",
}
_LINEAR = ("head.0", "classifier.hidden", "classifier.last")  # our names in published heads
_NORMS = ("head.1", "classifier.norm")
CONVERT: dict[str, Callable[[dict[str, Tensor]], Converted]] = {  # by what names begin with
    "SA_modules.": _from_reference,
    "sa1.": _from_yanx27,
    "conv1.0.": _from_dgcnn,
    "feature_model.": _from_learning3d,
    MAE: _from_point_mae,
    "encoder.first_conv.": _from_point_mae,
    "net.4.0.conv1.": _from_mvcnn,
    "fc_l.1.": _from_cmpg,
}
