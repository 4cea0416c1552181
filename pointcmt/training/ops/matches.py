"""Ground-truth matches: where pixels of one view reappear in another view, on the device.

The batched version of `correspondences.match_pixels`, which computes the same for one pair in
numpy. A pixel's surface point is unprojected with the stored depth and moved into the other view.
It is a match if it falls inside the image, in front of the camera and within 2 % of the depth
stored there (otherwise something hides it), and if projecting back ends within a pixel of the
start. All computations are in float64.
Letters: P pairs of views, H × W pixels of the stored images, h × w cells of the query grid.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.ops.projection import Grid

DEPTH_TOLERANCE = 0.02  # a share of the depth
CYCLE_TOLERANCE = 1.0  # pixels


class DepthViews(NamedTuple):
    """Depth images with cameras.

    depth [P,H,W] in world units, 0 = background; K [P,3,3], world_to_camera [P,4,4].
    """

    depth: Tensor
    K: Tensor
    world_to_camera: Tensor


class Matches(NamedTuple):
    """Where the surface seen at a grid of pixels appears in the other view.

    pixel [h,w,2] f64: the centers (u, v) of the query pixels. uv [P,h,w,2] f64: pixels of the
    other view, 0 without a match. valid [P,h,w] bool: whether there is a match. foreground
    [P,h,w] bool: whether the query pixel shows a surface at all. image [2] f64: W and H.
    """

    pixel: Tensor
    uv: Tensor
    valid: Tensor
    foreground: Tensor
    image: Tensor

    @property
    def here(self) -> Tensor:
        """Return the query pixels as shares of the image, [h,w,2]."""
        return self.pixel / self.image

    @property
    def there(self) -> Tensor:
        """Return the matched pixels of the other view as shares of the image, [P,h,w,2]."""
        return self.uv / self.image


def match_views(first: DepthViews, second: DepthViews, grid: Grid) -> Matches:
    """Match a grid of pixels of the first views with the second views, of the same size.

    grid: its rows and columns. The query is the pixel at the center of each cell; the grid (H, W)
    queries every pixel.
    """
    H, W = first.depth.shape[-2:]
    device = first.depth.device
    rows, columns = (
        ((torch.arange(cells, device=device) + 0.5) * side / cells).floor().long()
        for cells, side in zip(grid, (H, W), strict=True)
    )
    at = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [h, w, 2] column, row
    pixel = at.double() + 0.5
    image = torch.tensor([W, H], dtype=torch.float64, device=device)
    depth = first.depth[:, at[..., 1], at[..., 0]].double()  # [P, h, w]
    uv, expected = _transfer(pixel.expand(len(depth), -1, -1, -1), depth, first, second)
    inside = ((uv >= 0) & (uv < image)).all(dim=-1) & (expected > 0)
    valid = inside & (depth > 0)
    uv = torch.where(valid[..., None], uv, 0.0)
    stored = _depth_at(second.depth.double(), uv, expected)
    valid = valid & (stored > 0) & ((stored - expected).abs() <= DEPTH_TOLERANCE * expected)
    back, _ = _transfer(uv, stored, second, first)
    valid = valid & ((back - pixel).norm(dim=-1) <= CYCLE_TOLERANCE)
    return Matches(pixel, torch.where(valid[..., None], uv, 0.0), valid, depth > 0, image)


def _transfer(
    uv: Tensor, depth: Tensor, source: DepthViews, target: DepthViews
) -> tuple[Tensor, Tensor]:
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
    """Return the depth of the images [P,H,W] at uv [P,h,w,2]; 0 = background.

    As in `correspondences`: the inverse depth is interpolated, or that of the nearest pixel is
    taken, whichever is closer to the expected depth [P,h,w].
    """
    H, W = depth.shape[-2:]
    image = torch.arange(len(depth), device=depth.device)[:, None, None]
    u, v = uv.unbind(dim=-1)
    here = depth[image, v.floor().long(), u.floor().long()]
    column = (u - 0.5).floor().clamp(0, W - 2).long()
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
