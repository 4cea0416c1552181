"""The layouts of published networks: which one a file has, and its names and shapes as ours.

`pointcmt`, `pointnets`, `neighborhoods` and `transformers` describe and convert them. Most files
have heads of 512-256-C, as `blocks.PublishedHead` is; with one linear layer instead, their last two
layers do not fit. DGCNN's feature ends in a LeakyReLU there; with our linear layer, it ends in a
ReLU.

Others are recognized, so that an error can say what they are.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from pointcmt.errors import MisfitError
from pointcmt.training.config.sections import NORMAL_BACKBONES
from pointcmt.training.runs.published.converted import Converted, inputs_of
from pointcmt.training.runs.published.neighborhoods import from_dgcnn, from_pointmlp, from_pointnext
from pointcmt.training.runs.published.pointcmt import from_cmpg, from_mvcnn, from_reference
from pointcmt.training.runs.published.pointnets import (
    from_learning3d,
    from_yanx27,
    from_yanx27_pointnet,
)
from pointcmt.training.runs.published.transformers import BERT, MAE, from_transformer

PREFIXES = (  # that wrapping modules put before the names
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder."),
    *("base_model.", "student.", "point_encoder.", "ema_model."),
)
MOST_PREFIXES = 8
LATER = ("head.", "classifier.", "decoder.")  # what follows an encoder of ours
OTHERS = {  # names that begin so → what the network is, and what helps
    "transform_net.": (
        "DGCNN for segmentation",
        "use its checkpoint for classification, with --set model.backbone=dgcnn",
    ),
}


def convert(weights: dict[str, Tensor], path: Path) -> Converted:
    """Give the tensors of a known layout our names and shapes; others stay the same.

    path: of their file. Raises MisfitError for tensors whose shapes do not belong to the layout
    that their names have.
    """
    for first, turn in CONVERT.items():
        if any(name.startswith(first) for name in weights):
            try:
                return turn(weights)
            except (TypeError, IndexError, RuntimeError) as error:  # of torch, for such shapes
                raise MisfitError(
                    f"names of this checkpoint begin with {first} as those of a known network, but "
                    f"the shapes of its tensors are others: {error}",
                    where=str(path),
                    fix="use the file as its authors published it, or write it again",
                ) from error
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
    weights: dict[str, Tensor], backbones: dict[str, Callable[..., nn.Module]]
) -> tuple[str, list[str]]:
    """Return the network whose encoder has tensors of these names, and those of other shapes.

    The network with the fewest of those; "" if there is none.
    """
    own, inputs = encoder_of(weights), inputs_of(weights)
    found: list[tuple[str, list[str]]] = []
    for name, build in backbones.items():
        more = {"inputs": inputs} if inputs and name in NORMAL_BACKBONES else {}
        with torch.device("meta"):  # takes no memory
            expected = encoder_of(build(2, **more).state_dict())
        if own.keys() == expected.keys():
            found.append((name, [key for key in own if own[key] != expected[key]]))
    return min(found, key=lambda each: len(each[1]), default=("", []))


CONVERT: dict[str, Callable[[dict[str, Tensor]], Converted]] = {  # by what names begin with
    "SA_modules.": from_reference,
    "sa1.": from_yanx27,
    **dict.fromkeys(("feat.stn.", "stn.conv1."), from_yanx27_pointnet),
    "conv1.0.": from_dgcnn,
    "feature_model.": from_learning3d,
    "local_grouper_list.": from_pointmlp,
    "encoder.encoder.0.0.convs.": from_pointnext,
    **dict.fromkeys((MAE, BERT, "encoder.first_conv."), from_transformer),
    "net.4.0.conv1.": from_mvcnn,
    "fc_l.1.": from_cmpg,
}
