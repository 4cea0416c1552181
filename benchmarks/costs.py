"""Estimates of GPU hours for each recipe on real data sets.

Usage: python benchmarks/costs.py   (half a minute on a CPU; needs no GPU and no data)

    hours = epochs · samples · seconds per sample

Samples are those of the train split; validation is left out. Seconds are those of an A100 with 80
GB, from what others have measured; a training step is taken to cost three forward passes.

- Point networks on 1,024 points: the published numbers of clouds per second, forward on a V100
  (guochengqian/PointNeXt, docs/modelzoo.md), times 2.3, the ratio of the memory bandwidths (2.0 and
  0.9 TB/s), since these networks are limited by memory.
- Other networks on points: their FLOPs, counted here, at the rate of PointNet++ in that table.
- Image networks: their FLOPs, at the rate of ResNet-50 in training: 938 images/s of 3 · 8.2 GFLOPs
  in TF32, 2,470 with mixed precision (NVIDIA/DeepLearningExamples,
  PyTorch/Classification/ConvNets/resnet50v1.5).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pointcmt.training.config.files import load_config
from pointcmt.training.images.building import build_network
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.recipes import build_recipe
from pointcmt.training.runs.cost import count_flops

IMAGES = 938 * 3 * 8.2e9  # FLOPs per second
IMAGES_MIXED = 2470 * 3 * 8.2e9
TO_A100 = 2.3
POINTS = TO_A100 * 1872 * 1.7e9
CLOUDS = {  # per second on a V100
    "pointnet": 4212,
    "pointnet2-ssg": 1872,
    "dgcnn": 402,
    "pointmlp": 191,
    "pointnext-s": 2040,
}


@dataclass(frozen=True)
class Row:
    """One estimate. samples: of an epoch; flops: of a step, per sample; seconds: per sample."""

    recipe: str
    data: str
    samples: int
    epochs: int
    flops: float
    seconds: float

    @property
    def hours(self) -> float:
        return self.epochs * self.samples * self.seconds / 3600


def main() -> None:
    print("| recipe | data | samples × epochs | GFLOPs a sample | hours on an A100 |")
    print("|---|---|---|---|---|")
    for row in rows():
        print(
            f"| {row.recipe} | {row.data} | {row.samples:,} × {row.epochs} "
            f"| {row.flops / 1e9:.3g} | {row.hours:.2g} |",
            flush=True,
        )


def rows() -> Iterator[Row]:
    modelnet, scanobjectnn, shapenet = int(0.9 * 9843), int(0.9 * 11416), int(0.9 * 35708)
    with torch.no_grad():
        flops = 3 * teacher()
        yield Row("teacher", "ModelNet40, 20 views", modelnet, 50, flops, flops / IMAGES)
        for name in ("pointnet", "pointnet2-ssg", "pointnet2-msg", "dgcnn", "pointmlp"):
            yield Row(f"student, {name}", "ModelNet40", modelnet, 1000, *of_clouds(name))
        name = "pointnext-s"
        yield Row(f"finetune, {name}", "ScanObjectNN", scanobjectnn, 300, *of_clouds(name))
        flops = 3 * dense("pointnet2", 2048)
        yield Row("partseg, pointnet2", "ShapeNetPart", 12_606, 300, flops, flops / POINTS)
        flops, frozen = 3 * dense("pointvit-s", 1024), images("dinov2-base", 2)
        seconds = flops / POINTS + frozen / IMAGES_MIXED
        name = "mvnet, pointvit-s, dinov2-base"
        yield Row(name, "ShapeNetCore", shapenet, 100, flops + frozen, seconds)


def of_clouds(backbone: str) -> tuple[float, float]:
    """Return FLOPs and seconds of a step of a classifier, per cloud of 1,024 points."""
    flops = 3 * classifier(backbone)
    if backbone in CLOUDS:
        return flops, 3 / (TO_A100 * CLOUDS[backbone])
    return flops, flops / POINTS


def teacher() -> int:
    recipe = build_recipe(load_config("teacher", None, ["model.weights=random"]), 40, True)
    batch = {"rgb": torch.zeros(1, 20, 224, 224, 3, dtype=torch.uint8)}
    return count_flops(*recipe.deployable(recipe.model, batch))


def classifier(backbone: str) -> int:
    config = load_config("student", None, [f"model.backbone={backbone}"])
    recipe = build_recipe(config, 40, True)
    batch = {"points": sphere(1024)}
    return count_flops(*recipe.deployable(recipe.model, batch))


def dense(backbone: str, points: int) -> int:
    network = build_dense(backbone, 16)
    return count_flops(_Local(network), (sphere(points),))


class _Local(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, points: torch.Tensor) -> object:
        return self.network(points, local=True)


def images(backbone: str, views: int) -> int:
    network = build_network(backbone, "random")
    return views * count_flops(network, (torch.zeros(1, 3, 224, 224),))


def sphere(points: int) -> torch.Tensor:
    """Return random points on the unit sphere, [1, N, 3]."""
    places = torch.randn(1, points, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(places, dim=-1)


if __name__ == "__main__":
    main()
