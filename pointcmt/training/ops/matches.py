"""Ground truth of which pixel of one view shows what a pixel of another view shows, on the device.

The batched twin of `correspondences.match_pixels`, which says the same for one pair in numpy: a
pixel's surface point is unprojected with the stored depth, moved into the other view, and counts if
it falls inside, in front, on the depth that is stored there within 2 % (else something hides it),
and comes back within a pixel. All in float64, as there.
Letters: P pairs of views, H = W pixels of the stored images, h = w of the grid of pixels asked for.
"""

from typing import NamedTuple

import torch
from torch import Tensor

DEPTH_TOLERANCE = 0.02  # a share of the depth
CYCLE_TOLERANCE = 1.0  # pixels


class Views(NamedTuple):
    """depth [P,H,W] in world units, 0 = background; K [P,3,3], world_to_camera [P,4,4]."""

    depth: Tensor
    K: Tensor
    world_to_camera: Tensor


class Matches(NamedTuple):
    """Where what the pixels of a grid show falls in the other view.

    pixel [h,w,2] f64: the centres (u, v) of the pixels asked for. uv [P,h,w,2] f64: pixels of the
    other view, 0 where there is no match. valid [P,h,w]: whether it shows there. shown [P,h,w]:
    whether there is anything to be found, no background.
    """

    pixel: Tensor
    uv: Tensor
    valid: Tensor
    shown: Tensor


def match_views(first: Views, second: Views, size: int) -> Matches:
    """Matches of a grid [h, w] of `size` pixels a side over the first views, in the second ones.

    Of each cell of the grid the pixel that holds its centre is asked for; size = H asks for all.
    """
    H = first.depth.shape[-1]
    rows = ((torch.arange(size, device=first.depth.device) + 0.5) * H / size).floor().long()
    at = torch.stack(torch.meshgrid(rows, rows, indexing="xy"), dim=-1)  # [h, w, 2] column, row
    pixel = at.double() + 0.5
    depth = first.depth[:, at[..., 1], at[..., 0]].double()  # [P, h, w]
    uv, reach = _transfer(pixel.expand(len(depth), -1, -1, -1), depth, first, second)
    inside = ((uv >= 0) & (uv < H)).all(dim=-1) & (reach > 0)
    valid = inside & (depth > 0)
    uv = torch.where(valid[..., None], uv, 0.0)
    found = _depth_at(second.depth.double(), uv, reach)
    valid = valid & (found > 0) & ((found - reach).abs() <= DEPTH_TOLERANCE * reach)
    back, _ = _transfer(uv, found, second, first)
    valid = valid & ((back - pixel).norm(dim=-1) <= CYCLE_TOLERANCE)
    return Matches(pixel, torch.where(valid[..., None], uv, 0.0), valid, depth > 0)


def _transfer(uv: Tensor, depth: Tensor, source: Views, target: Views) -> tuple[Tensor, Tensor]:
    """Unproject pixels [P,h,w,2] of one view and project them into another: uv, depth."""
    ray = torch.cat([uv, torch.ones_like(uv[..., :1])], dim=-1).flatten(1, 2)  # [P, h·w, 3]
    local = ray @ torch.linalg.inv(source.K.double()).mT * depth.flatten(1)[..., None]
    here, there = source.world_to_camera.double(), target.world_to_camera.double()
    points = (local - here[:, None, :3, 3]) @ here[:, :3, :3]
    projection = target.K.double() @ there[:, :3, :]  # [P, 3, 4]
    image = points @ projection[..., :3].mT + projection[:, None, :, 3]
    moved = image[..., :2] / image[..., 2:]
    return moved.view(uv.shape), image[..., 2].view(depth.shape)


def _depth_at(depth: Tensor, uv: Tensor, expected: Tensor) -> Tensor:
    """Depth of the images [P,H,W] at uv [P,h,w,2], as in `correspondences`: interpolated inversely
    or that of the pixel there, whichever is nearer to what is expected [P,h,w]; 0 = background.
    """
    H = depth.shape[-1]
    image = torch.arange(len(depth), device=depth.device)[:, None, None]
    u, v = uv.unbind(dim=-1)
    here = depth[image, v.floor().long(), u.floor().long()]
    column = (u - 0.5).floor().clamp(0, H - 2).long()
    row = (v - 0.5).floor().clamp(0, H - 2).long()
    right, down = (u - 0.5 - column).clamp(0, 1), (v - 0.5 - row).clamp(0, 1)
    covered, inverse = torch.ones_like(here, dtype=torch.bool), torch.zeros_like(here)
    for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = depth[image, row + r, column + c]
        covered &= corner > 0
        weight = (right if c else 1 - right) * (down if r else 1 - down)
        inverse += weight / torch.where(corner > 0, corner, 1.0)
    between = torch.where(covered, 1 / inverse, here)
    return torch.where((between - expected).abs() < (here - expected).abs(), between, here)
