"""Random motions of scenes: points, normals and boxes, headings included, move together.

Letters: B scenes, N points, K boxes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.detection.boxes import hulls


class Motion(NamedTuple):
    """A mirroring, then a turn about +Z, then a scaling; about the origin, for each scene.

    signs [B, 2]: of x and y, -1 = mirrored. yaw [B]: radians, counter-clockwise. scale [B].
    """

    signs: Tensor
    yaw: Tensor
    scale: Tensor

    def inverse(self) -> "Motion":
        """Return the motion back. A mirror image turns the other way: F R(θ) = R(±θ) F."""
        return Motion(self.signs, -self.yaw * self.signs.prod(dim=1), 1 / self.scale)

    def of_points(self, points: Tensor) -> Tensor:
        """Move points [B, N, 3]."""
        return self._turned(points) * self.scale.to(points)[:, None, None]

    def of_normals(self, normals: Tensor) -> Tensor:
        """Turn and mirror unit vectors [B, N, 3]."""
        return self._turned(normals)

    def of_boxes(self, boxes: Tensor) -> Tensor:
        """Move boxes [B, K, 7], see `boxes`: what was inside a box stays inside."""
        scale = self.scale.to(boxes)[:, None, None]
        flip_x, flip_y = (self.signs.to(boxes) < 0)[:, None].unbind(-1)  # [B, 1]
        yaw = torch.where(flip_x, math.pi - boxes[..., 6], boxes[..., 6])
        yaw = torch.where(flip_y, -yaw, yaw) + self.yaw.to(boxes)[:, None]
        centers = self._turned(boxes[..., :3]) * scale
        return torch.cat([centers, boxes[..., 3:6] * scale, yaw[..., None]], dim=-1)

    def _turned(self, vectors: Tensor) -> Tensor:
        yaw = self.yaw.to(vectors)
        cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
        x, y = (vectors[..., :2] * self.signs.to(vectors)[:, None]).unbind(-1)
        return torch.stack([x * cos - y * sin, x * sin + y * cos, vectors[..., 2]], dim=-1)


def random_motion(
    scenes: int,
    flip: tuple[float, float],
    yaw: float,
    scale: tuple[float, float],
    generator: torch.Generator,
) -> Motion:
    """Draw a motion for each scene, on the CPU, so that every device sees the same numbers.

    flip: the probabilities of mirroring x and y. yaw: the largest turn in either direction, in
    degrees. scale: the smallest and the largest factor.
    """
    flips = torch.rand(scenes, 2, generator=generator) < torch.tensor(flip)
    turns = torch.empty(scenes).uniform_(-math.radians(yaw), math.radians(yaw), generator=generator)
    factors = torch.empty(scenes).uniform_(*scale, generator=generator)
    return Motion(torch.where(flips, -1.0, 1.0), turns, factors)


def without_headings(boxes: Tensor) -> Tensor:
    """Return the axis-aligned hulls of boxes [B, K, 7], of the same type.

    What data sets without headings do with a turned box: ScanNet's grows to hold the turned one.
    """
    return hulls(boxes.flatten(0, 1)).view(boxes.shape).to(boxes)
