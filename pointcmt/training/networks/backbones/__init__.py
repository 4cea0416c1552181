"""Point networks under one contract, by name.

A backbone is built from the number of classes and maps points [B, N, 3] to a `Prediction`: logits
[B, C], feature [B, 512] and optional fields. Its attribute `classifier` is a single
nn.Linear(512, C) of that feature, so that another network's 512-d feature can go through it; the
feature comes after a ReLU, with no dropout in between. In evaluation mode a cloud's result does
not depend on its batch. Inputs are in the store's frame: unit sphere, +Z up; those of sparse U-Nets
are meant to be in meters.

A dense backbone also has a feature for each point. `forward(points, local=True)` fills `local`
[B, N, D] of the prediction, of width `local_width`; without it the cost is a student's. It accepts
`least` points or more. Parameters under `decoder` serve only the points' features (DGCNN has none),
`head` and `classifier` only classes; all others are the encoder. One that was built for F further
numbers per point (the argument `inputs`, of networks for scenes) takes them as `features`
[B, N, F], by keyword. BACKBONES has the same networks without a decoder under the same names,
except PointNet++, which is pointnet2-ssg there. On scenes, `build_for_scenes` builds the sparse
U-Nets of DENSE and the networks of SCENES.

Networks of NORMAL_BACKBONES can be built with `inputs=3`: they then take points [B, N, 6], each
with its position and its unit normal.

A backbone from outside the package is any function or class that, called with the number of
classes, returns a module that fulfills this contract. One with the attributes `local_width` and
`least` is also a dense backbone. `build_backbone` and `build_dense` find it by name and run it
once as a check.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.errors import PointcmtError, UsageError, nearest
from pointcmt.training.config.scenes import PointInputs
from pointcmt.training.config.sections import NORMAL_BACKBONES, SPARSE_BACKBONES
from pointcmt.training.networks.backbones.blocks import FEATURE, Prediction, publish_head
from pointcmt.training.networks.backbones.dgcnn import DGCNN, SceneDGCNN
from pointcmt.training.networks.backbones.pointmlp import PointMLP
from pointcmt.training.networks.backbones.pointnet import PointNet, PointNetYanx27
from pointcmt.training.networks.backbones.pointnet2 import (
    DensePointNet2,
    PointNet2MSG,
    PointNet2SSG,
)
from pointcmt.training.networks.backbones.pointnet2_scenes import ScenePointNet2
from pointcmt.training.networks.backbones.pointnext import PointNeXtS
from pointcmt.training.networks.backbones.pointvit import (
    BASE,
    LARGE,
    SMALL,
    DensePointViT,
    PointViT,
    ScenePointViT,
)
from pointcmt.training.networks.backbones.sparse_unet import DenseSparseUNet, SparseUNetEncoder
from pointcmt.training.networks.sparse.unet import MINKUNET_14A, MINKUNET_34C, TINY

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "pointnet": PointNet,  # Qi et al. 2017: one shared MLP per point and a maximum
    "pointnet-yanx27": PointNetYanx27,  # the usual PyTorch version, with two layers less
    "pointnet2-ssg": PointNet2SSG,  # Qi et al. 2017: balls around farthest points, twice
    "pointnet2-msg": PointNet2MSG,  # with balls of three sizes: PointCMT's own student
    "dgcnn": DGCNN,  # Wang et al. 2019: nearest neighbors in feature space
    "pointmlp": PointMLP,  # Ma et al. 2022: residual MLPs over nearest neighbors, four stages
    "pointnext-s": PointNeXtS,  # Qian et al. 2022: PointNet++ with residuals, smaller and deeper
    "pointnext-s-c64": partial(PointNeXtS, width=64),
    "pointvit-s": partial(PointViT, size=SMALL),  # Pang et al. 2022: a transformer on patches
    "pointvit-b": partial(PointViT, size=BASE),
    "pointvit-l": partial(PointViT, size=LARGE),
    "point-bert": partial(PointViT, size=SMALL, between=256),  # Yu et al. 2022
    "sparse-unet-tiny": partial(SparseUNetEncoder, config=TINY),  # on voxels of 5 cm
    "sparse-unet-14a": partial(SparseUNetEncoder, config=MINKUNET_14A),  # Choy et al. 2019
    "sparse-unet-34c": partial(SparseUNetEncoder, config=MINKUNET_34C),
}
DENSE: dict[str, Callable[[int], nn.Module]] = {
    "pointnet2": DensePointNet2,  # feature propagation after single-scale grouping
    "dgcnn": DGCNN,
    "pointvit-s": partial(DensePointViT, size=SMALL),
    "pointvit-b": partial(DensePointViT, size=BASE),
    "pointvit-l": partial(DensePointViT, size=LARGE),
    "sparse-unet-tiny": partial(DenseSparseUNet, config=TINY),
    "sparse-unet-14a": partial(DenseSparseUNet, config=MINKUNET_14A),
    "sparse-unet-34c": partial(DenseSparseUNet, config=MINKUNET_34C),  # PointContrast's SR-UNet
}
SCENES: dict[str, Callable[..., nn.Module]] = {  # for points in meters, with features
    "pointnet2": ScenePointNet2,  # with other layers, and radii in meters
    "dgcnn": SceneDGCNN,
    "pointvit-s": partial(ScenePointViT, size=SMALL),
    "pointvit-b": partial(ScenePointViT, size=BASE),
    "pointvit-l": partial(ScenePointViT, size=LARGE),
}
LINEAR, PUBLISHED = HEADS = ("linear", "published")  # what follows the 512-d feature
TRIED = 1024  # points per cloud in the trial run of an outside backbone


class Backbone(Protocol):
    """The interface of a backbone, in addition to nn.Module."""

    classifier: nn.Linear  # 512 → C

    def forward(self, points: Tensor) -> Prediction:
        """points [B, N, 3] → logits [B, C] and feature [B, 512], which is never negative."""
        ...


class DenseBackbone(Backbone, Protocol):
    """The interface of a dense backbone, in addition to nn.Module."""

    local_width: int  # D, width of a point's feature
    least: int  # minimum number of points

    def forward(self, points: Tensor, local: bool = False) -> Prediction:
        """points [B, N, 3] → logits, feature and, if asked for, local [B, N, D]. One that was built
        for `inputs` also takes features [B, N, F], by keyword.
        """
        ...


def build_backbone(
    name: str, classes: int, head: str = LINEAR, dropout: float = 0.5, inputs: int = 0
) -> nn.Module:
    """Build a network of BACKBONES, an entry point of `pointcmt.backbones`, or `module:name`.

    head: linear, or published = with dropout, 512-256-C for most networks. inputs: 3 for points
    [B, N, 6] with normals. Raises UsageError for an unknown name, for a network without this input,
    and for an outside one that cannot be imported or breaks the contract.
    """
    if inputs:
        require_normals(name, BACKBONES)
        model = BACKBONES[name](classes, inputs=inputs)
    else:
        model = _build(name, classes, BACKBONES, dense=False)
    if head == PUBLISHED:
        publish_head(model, classes, dropout)
    return model


def require_normals(name: str, known: Iterable[str]) -> None:
    """Raise UsageError for a network that does not take normals. known: all of its kind."""
    able = [each for each in known if each in NORMAL_BACKBONES]
    if name not in able:
        raise UsageError(
            f"{name} takes no normals",
            where="data.normals",
            fix=f"set data.normals=false, or model.backbone to one of: {', '.join(able)}",
        )


def build_classifier(config: Any, classes: int) -> nn.Module:
    """Build the network of a configuration, like `build_backbone`.

    Sections of recipes from outside may lack a head, which is then linear, and data.normals.
    """
    section, inputs = config.model, getattr(config.data, "inputs", 0)
    head, dropout = getattr(section, "head", LINEAR), getattr(section, "dropout", 0.0)
    return build_backbone(section.backbone, classes, head, dropout, inputs)


def build_dense(name: str, classes: int) -> nn.Module:
    """Build a network of DENSE or from outside, like `build_backbone`."""
    return _build(name, classes, DENSE, dense=True)


def build_sparse(name: str, voxel: float, inputs: int) -> DenseSparseUNet:
    """Build a sparse U-Net of DENSE. voxel: in meters. inputs: features of each point."""
    build: Any = DENSE[name]
    network: DenseSparseUNet = build(1, voxel=voxel, inputs=inputs)
    return network


def build_for_scenes(name: str, scenes: PointInputs) -> nn.Module:
    """Build a network of DENSE for points in meters, with one class.

    It takes the colors and normals; a sparse U-Net also gets the size of the voxels. A network from
    outside takes places alone. Raises UsageError like `build_dense`.
    """
    if name in SPARSE_BACKBONES:
        return build_sparse(name, scenes.voxel, scenes.channels)
    if name in SCENES:
        return SCENES[name](1, inputs=scenes.channels)
    return build_dense(name, 1)


def is_known(name: str, known: dict[str, Callable[[int], nn.Module]]) -> bool:
    """Return whether a name is among the known ones or a part from outside the package."""
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
    wrong = "must be callable with the number of classes" if not callable(make) else ""
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
    """Run an outside network and return its fault, "" for none. The network is left unchanged."""
    if not isinstance(model, nn.Module):
        return f"must return an nn.Module, not a {type(model).__name__}"
    last = getattr(model, "classifier", None)
    if not isinstance(last, nn.Linear) or (last.in_features, last.out_features) != (
        FEATURE,
        classes,
    ):
        return f"must have the classifier nn.Linear({FEATURE}, {classes}), not {last}"
    width, least = getattr(model, "local_width", None), getattr(model, "least", 1)
    if dense and not (isinstance(width, int) and hasattr(model, "least")):
        return "must have local_width and least, since it is used for per-point features"
    count, training = max(TRIED, least), model.training
    points = torch.arange(2 * count * 3, dtype=torch.float32).mul(0.7).sin().view(2, count, 3)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        found = model.eval()(points, local=True) if dense else model.eval()(points)
    model.train(training)
    if not isinstance(found, Prediction):
        return f"must return a Prediction, not a {type(found).__name__}"
    expected: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "logits": (found.logits, (2, classes)),
        "feature": (found.feature, (2, FEATURE)),
    }
    if dense:
        expected["local"] = (found.local, (2, count, width))
    for part, (tensor, shape) in expected.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            is_ = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            return f"must return {part} {list(shape)} for points [2, {count}, 3], not {is_}"
    return "must not return features with negative values" if found.feature.min() < 0 else ""
