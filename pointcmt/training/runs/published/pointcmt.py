"""The files of PointCMT's reference code (ZhanHeshen/PointCMT), by our names.

- Its PointNet++, whose layers are those of etw_pytorch_utils:
  `SA_modules.0.mlps.0.layer0.conv.weight` [32, 3, 1, 1], its norm under `normlayer.bn` or, in older
  releases, `bn.bn`; then `fc_layer1`, `fc_layer2`.
- Its MVCNN and its generator (`mvcnn.t7`, `cmpg.pth`): torchvision's ResNet as `net.0`, …, `net.7`,
  then `fc.0`; and `fc_l.1`.
"""

import re

from torch import Tensor

from pointcmt.training.runs.published.converted import Converted, abstraction_layer, flat


def from_reference(weights: dict[str, Tensor]) -> Converted:
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
            name = f"{abstraction_layer(int(stage), scale, int(layer), part != 'conv')}.{field}"
        elif match := head.fullmatch(key):
            name = f"head.{0 if match[1] == 'fc' else 1}.{match[2]}"
        converted[name] = flat(value)
    return Converted(converted)


def from_mvcnn(weights: dict[str, Tensor]) -> Converted:
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


def from_cmpg(weights: dict[str, Tensor]) -> Converted:
    """Convert the name of the generator's only layer."""
    return Converted({name.replace("fc_l.1.", "decode."): x for name, x in weights.items()})
