"""Point networks under one contract, by name.

A backbone is built from the number of classes and maps points [B, N, 3] to a `Prediction`: logits
[B, C], feature [B, 512] and what else it has. Its attribute `classifier` is exactly one
nn.Linear(512, C) of that feature, so that another network's 512-d feature can go through it; the
feature has gone through a ReLU, and nothing is dropped out on the way. In evaluation mode a cloud's
result does not depend on its batch. All of them live in the store's world: unit sphere, +Z up.

A dense backbone has a feature of each point too. `forward(points, local=True)` fills `local`
[B, N, D] of the prediction, of width `local_width`; without it the answer costs what it costs any
student. It takes `least` points or more. Parameters under `decoder` are what only the points'
features need (DGCNN needs none), `head` and `classifier` what only classes need; all others are the
encoder. BACKBONES has the same networks without a decoder: by the same name, PointNet++'s as
pointnet2-ssg.

A backbone from outside the package is any function or class that, called with the number of
classes, returns a module of this contract. One with the attributes `local_width` and `least` is a
dense backbone, too. `build_backbone` and `build_dense` find it by its name and try it once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.errors import PointcmtError, UsageError, nearest
from pointcmt.training.networks.backbones.blocks import FEATURE, Prediction
from pointcmt.training.networks.backbones.dgcnn import DGCNN
from pointcmt.training.networks.backbones.pointmlp import PointMLP
from pointcmt.training.networks.backbones.pointnet import PointNet
from pointcmt.training.networks.backbones.pointnet2 import (
    DensePointNet2,
    PointNet2MSG,
    PointNet2SSG,
)
from pointcmt.training.networks.backbones.pointnext import PointNeXtS
from pointcmt.training.networks.backbones.pointvit import (
    BASE,
    LARGE,
    SMALL,
    DensePointViT,
    PointViT,
)

BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "pointnet": PointNet,  # Qi et al. 2017: one shared MLP per point and a maximum
    "pointnet2-ssg": PointNet2SSG,  # Qi et al. 2017: balls around farthest points, twice
    "pointnet2-msg": PointNet2MSG,  # with balls of three sizes: PointCMT's own student
    "dgcnn": DGCNN,  # Wang et al. 2019: nearest neighbours in feature space
    "pointmlp": PointMLP,  # Ma et al. 2022: residual MLPs over nearest neighbours, four stages
    "pointnext-s": PointNeXtS,  # Qian et al. 2022: PointNet++ with residuals, smaller and deeper
    "pointvit-s": partial(PointViT, size=SMALL),  # Pang et al. 2022: a transformer on patches
    "pointvit-b": partial(PointViT, size=BASE),
    "pointvit-l": partial(PointViT, size=LARGE),
}
DENSE: dict[str, Callable[[int], nn.Module]] = {
    "pointnet2": DensePointNet2,  # feature propagation behind single-scale grouping
    "dgcnn": DGCNN,
    "pointvit-s": partial(DensePointViT, size=SMALL),
    "pointvit-b": partial(DensePointViT, size=BASE),
    "pointvit-l": partial(DensePointViT, size=LARGE),
}
TRIED = 1024  # points of the clouds that an outside backbone is tried with


class Backbone(Protocol):
    """What a backbone is, beside an nn.Module."""

    classifier: nn.Linear  # of 512 numbers to C

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C] and feature [B, 512], which is never negative."""
        ...


class DenseBackbone(Backbone, Protocol):
    """What a dense backbone is, beside an nn.Module."""

    local_width: int  # D, of a point's feature
    least: int  # points that it takes at least

    def forward(self, points: Tensor, local: bool = False) -> Prediction:
        """points [B, N, 3] → logits, feature and, if asked for, local [B, N, D]."""
        ...


def build_backbone(name: str, classes: int) -> nn.Module:
    """The network of a name of BACKBONES, an entry point of `pointcmt.backbones` or `module:name`.

    Raises UsageError for an unknown name, and for one from outside that cannot be imported or does
    not keep the contract.
    """
    return _build(name, classes, BACKBONES, dense=False)


def build_dense(name: str, classes: int) -> nn.Module:
    """As `build_backbone`, of DENSE or from outside, with a feature of each point."""
    return _build(name, classes, DENSE, dense=True)


def is_known(name: str, known: dict[str, Callable[[int], nn.Module]]) -> bool:
    """Whether a name is one of BACKBONES or DENSE, or that of a part from outside the package."""
    return name in known or plugins.is_reference(name) or name in plugins.names(plugins.BACKBONES)


def _build(
    name: str, classes: int, known: dict[str, Callable[[int], nn.Module]], dense: bool
) -> nn.Module:
    if name in known:
        return known[name](classes)
    make = plugins.find(plugins.BACKBONES, name, "model.backbone")
    if make is None:
        everything = [*known, *plugins.names(plugins.BACKBONES)]
        raise UsageError(
            f"unknown backbone '{name}'", where="model.backbone", fix=nearest(name, everything)
        )
    wrong = "cannot be called with the number of classes" if not callable(make) else ""
    if not wrong:
        try:
            model = make(classes)
            wrong = _fault(model, classes, dense)
        except PointcmtError:
            raise
        except Exception as error:  # whatever the network's own code raises
            wrong = f"fails: {type(error).__name__}: {error}"
    if wrong:
        raise plugins.mistake(plugins.BACKBONES, name, wrong)
    return model


def _fault(model: Any, classes: int, dense: bool) -> str:
    """What a network from outside has wrong, by trying it; "" for nothing. It is left as it was."""
    if not isinstance(model, nn.Module):
        return f"made a {type(model).__name__}, not an nn.Module"
    last = getattr(model, "classifier", None)
    if not isinstance(last, nn.Linear) or (last.in_features, last.out_features) != (
        FEATURE,
        classes,
    ):
        return f"has the classifier {last}, not nn.Linear({FEATURE}, {classes})"
    width, least = getattr(model, "local_width", None), getattr(model, "least", 1)
    if dense and not (isinstance(width, int) and hasattr(model, "least")):
        return "has no local_width and least, as a network with a feature of each point has"
    count, training = max(TRIED, least), model.training
    points = torch.arange(2 * count * 3, dtype=torch.float32).mul(0.7).sin().view(2, count, 3)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = model.eval()(points, local=True) if dense else model.eval()(points)
    model.train(training)
    if not isinstance(found, Prediction):
        return f"returns a {type(found).__name__}, not a Prediction"
    expected: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "logits": (found.logits, (2, classes)),
        "feature": (found.feature, (2, FEATURE)),
    }
    if dense:
        expected["local"] = (found.local, (2, count, width))
    for part, (tensor, shape) in expected.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            is_ = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            return f"gives {part} {is_} for points [2, {count}, 3], not {list(shape)}"
    return "gives a feature with negative numbers" if found.feature.min() < 0 else ""
