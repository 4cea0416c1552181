"""Published networks of neighborhoods: DGCNN, PointMLP and PointNeXt, by our names.

- DGCNN of WangYueFt/dgcnn and antao97/dgcnn.pytorch: `conv1.0` [64, 6, 1, 1], its norm as `conv1.1`
  or `bn1`, …, `conv5`, `linear1`, `bn6`, `linear2`, `bn7`, `linear3`.
- PointMLP of ma-xu/pointMLP-pytorch: `embedding.net.0` [64, 3, 1],
  `local_grouper_list.0.affine_alpha` [1, 1, 1, 64], `pre_blocks_list.0.transfer.net.0`,
  `pre_blocks_list.0.operation.0.net1.0`, `pos_blocks_list.0.operation.0.net1.0`, …,
  `classifier.0`, `classifier.4`, `classifier.8`.
- PointNeXt-S of guochengqian/openpoints: a stem `encoder.encoder.0.0.convs.0.0` [32, 3, 1], set
  abstractions `encoder.encoder.1.0.convs.0.0`, `encoder.encoder.1.0.skipconv.0`, …, the layers over
  the remaining points `encoder.encoder.5.0.convs.0.0`, and `prediction.head.0.0`, 2.0 and 4.0.
"""

import re

from torch import Tensor

from pointcmt.training.runs.published.converted import (
    LINEARS,
    NORMS,
    Converted,
    flat,
    head_name,
    without_biases,
)


def from_dgcnn(weights: dict[str, Tensor]) -> Converted:
    """Convert DGCNN's names and shapes to ours."""
    layer = re.compile(r"(?:conv([1-5])\.([01])|bn([1-5]))\.(\w+)")
    converted = {}
    for key, value in weights.items():
        name = head_name(key, "linear", 5)
        if match := layer.fullmatch(key):
            conv, part, norm, field = match.groups()
            number, second = int(conv or norm), part == "1" or norm is not None
            edge = f"edges.{number - 1}."
            places = ("embed.0", "embed.1") if number == 5 else (f"{edge}linear", f"{edge}norm")
            name = f"{places[second]}.{field}"
        converted[name] = flat(value)
    return Converted(without_biases(converted))


def from_pointmlp(weights: dict[str, Tensor]) -> Converted:
    """Convert PointMLP's names and shapes to ours."""
    converted = renamed(weights, _POINTMLP)
    for name in converted:
        if re.fullmatch(r"stages\.\d\.(alpha|beta)", name):
            converted[name] = converted[name].flatten()
    return Converted(without_biases(converted))


def from_pointnext(weights: dict[str, Tensor]) -> Converted:
    """Convert PointNeXt-S's names and shapes to ours."""
    return Converted(without_biases(renamed(weights, _POINTNEXT)))


def renamed(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Return weights by other names, with convolutions as linear layers; unknown names stay.

    names: patterns of names → what replaces a name.
    """
    converted = {}
    for key, value in weights.items():
        matches = ((re.fullmatch(pattern, key), ours) for pattern, ours in names.items())
        name = next((match.expand(ours) for match, ours in matches if match), key)
        converted[name] = flat(value)
    return converted


_POINTMLP = {  # names in PointMLP's code → ours
    r"embedding\.net\.(\d)\.(\w+)": r"embed.\1.\2",
    r"local_grouper_list\.(\d)\.affine_(alpha|beta)": r"stages.\1.\2",
    r"pre_blocks_list\.(\d)\.transfer\.net\.0\.(\w+)": r"stages.\1.linear.\2",
    r"pre_blocks_list\.(\d)\.transfer\.net\.1\.(\w+)": r"stages.\1.norm.\2",
    **{
        rf"{theirs}_blocks_list\.(\d)\.operation\.(\d)\.net{half}\.{part}\.(\w+)": (
            rf"stages.\1.{ours}.\2.mlp.{3 * (half - 1) + part}.\3"
        )
        for theirs, ours in (("pre", "neighbors"), ("pos", "centers"))
        for half in (1, 2)
        for part in (0, 1)
    },
    **{
        rf"classifier\.{number}\.(\w+)": rf"{ours}.\1"
        for number, ours in zip((0, 4, 8, 1, 5), (*LINEARS, *NORMS), strict=True)
    },
}
_POINTNEXT = {  # names in openpoints → ours; its stages count the stem as 0
    r"encoder\.encoder\.0\.0\.convs\.0\.0\.(\w+)": r"stem.\1",
    **{
        rf"encoder\.encoder\.{stage}\.0\.{theirs}\.(\w+)": rf"stages.{stage - 1}.{ours}.\1"
        for stage in (1, 2, 3, 4)
        for theirs, ours in (
            (r"convs\.0\.0", "mlp.first"),
            (r"convs\.0\.1", "mlp.rest.0"),
            (r"convs\.1\.0", "mlp.rest.2"),
            (r"convs\.1\.1", "mlp.rest.3"),
            (r"skipconv\.0", "skip"),
        )
    },
    **{
        rf"encoder\.encoder\.5\.0\.convs\.{layer}\.{part}\.(\w+)": rf"all.{3 * layer + part}.\1"
        for layer in (0, 1)
        for part in (0, 1)
    },
    **{
        rf"prediction\.head\.{number}\.(\w+)": rf"{ours}.\1"
        for number, ours in zip(
            (r"0\.0", r"2\.0", r"4\.0", r"0\.1", r"2\.1"), (*LINEARS, *NORMS), strict=True
        )
    },
}
