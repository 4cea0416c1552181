"""Projection of per-point features into images: each pixel's point and its feature.

A pixel of a view's map shows the nearest point within a splat radius that is visible in the view;
hidden points never show. Visibility comes from the store (docs/correspondences.md). Maps cover the
whole image, whatever its size. On a CPU compiled code finds the points, elsewhere plain torch; both
give the same result.

Letters: B shapes, V views, N points, h × w pixels of the map, H × W of the stored images.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointcmt.console import in_pixels
from pointcmt.correspondences import NONE, nearest_points
from pointcmt.errors import UsageError
from pointcmt.training import ops

SPREAD = 1.3  # factor of the default radius, see `splat_radius`
LEAST = 0.75  # pixels: a point always reaches the center of the pixel that holds it
REACH = 4  # radii from which holes are filled
COVERED = 0.5  # share of a map's pixel that the shape must cover to count as foreground

Grid = tuple[int, int]  # rows and columns


def fit_grid(size: int, image: Grid, multiple: int = 1) -> Grid:
    """Return rows and columns of a grid over images [H, W] whose longer side has `size` cells.

    size: a multiple of `multiple`. The shorter side has as many cells as the image's aspect ratio
    asks for, rounded to a multiple, at least one; so cells are square up to that rounding.
    """
    longer = max(image)
    rows, columns = (max(1, round(size * side / (longer * multiple))) * multiple for side in image)
    return rows, columns


def splat_radius(points: int, grid: Grid) -> float:
    """Return the default splat radius in pixels of a map [h, w]: 1.3 · √(h · w / points), at
    least 0.75.

    Stored points are evenly spaced; for a given surface area the spacing is proportional to 1/√N.
    On the built-in shapes this leaves 0.6 % of the foreground without a point, 6 % on the worst
    shape; smaller radii leave more (`benchmarks/pretraining.py --holes`). It is in pixels, so it
    holds in any unit.
    """
    return max(SPREAD * math.sqrt(math.prod(grid)) / math.sqrt(points), LEAST)


def project(points: Tensor, K: Tensor, world_to_camera: Tensor) -> tuple[Tensor, Tensor]:
    """points [B,N,3], K [B,V,3,3], world_to_camera [B,V,4,4] → uv [B,V,N,2], depth [B,V,N], f64.

    uv is in pixels of the images that K describes. Same as `cameras.Camera.project`.
    """
    projection = K.double() @ world_to_camera.double()[..., :3, :]  # [B, V, 3, 4]
    image = points[:, None].double() @ projection[..., :3].mT + projection[..., None, :, 3]
    return image[..., :2] / image[..., 2:], image[..., 2]


def index_map(uv: Tensor, visible: Tensor, grid: Grid, radius: float, k: int = 1) -> Tensor:
    """Find the k visible points nearest to each pixel's center, [B,V,h,w,k] i64; -1 = none.

    uv [B,V,N,2] f64: in pixels of the map. visible [B,V,N] bool. radius: pixels; distances are in
    the image plane. Nearest first, ties to the lower index.
    """
    B, V = visible.shape[:2]
    flat, seen = uv.flatten(0, 1).contiguous(), visible.flatten(0, 1).contiguous()
    if uv.device.type == "cpu":
        index = torch.full((B * V, *grid, k), NONE, dtype=torch.int32)
        arrays = flat.numpy(), seen.numpy(), index.numpy()
        ops.over_clouds(nearest_points, *arrays, setting=np.float64(radius))
    else:
        index = nearest_points_plain(flat, seen, grid, radius, k)
    return index.long().view(B, V, *grid, k)


def nearest_points_plain(
    uv: Tensor, visible: Tensor, grid: Grid, radius: float, k: int = 1
) -> Tensor:
    """uv [V,N,2] f64, visible [V,N] → index [V,h,w,k], by scattered minima: any device.

    Every point proposes itself to the pixels around it. Each pixel takes the nearest proposal, ties
    to the lowest index, and then the next nearest.
    """
    V, N, _ = uv.shape
    rows, columns = grid
    view, point = visible.nonzero(as_tuple=True)  # [M] each
    places = uv[view, point]
    reach = math.ceil(radius + 0.5)
    steps = torch.arange(-reach, reach + 1, device=uv.device)
    column = places[:, 0].floor().long()[:, None, None] + steps  # [M, 1, W]
    row = places[:, 1].floor().long()[:, None, None] + steps[:, None]  # [M, W, 1]
    away = (column + 0.5 - places[:, 0, None, None]).square() + (
        row + 0.5 - places[:, 1, None, None]
    ).square()
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    inside = inside & (away <= radius * radius)
    owner = torch.broadcast_to(point[:, None, None], inside.shape)[inside]  # [P] proposals
    pixel = ((view[:, None, None] * rows + row) * columns + column)[inside]
    away = away[inside]
    index = torch.empty(k, V * rows * columns, dtype=torch.int64, device=uv.device)
    for best in index:
        nearest = away.new_full(best.shape, torch.inf).scatter_reduce_(0, pixel, away, "amin")
        among = (away == nearest[pixel]) & away.isfinite()
        best.fill_(N).scatter_reduce_(0, pixel[among], owner[among], "amin")
        away = away.masked_fill(owner == best[pixel], torch.inf)
        best[best == N] = NONE
    return index.T.reshape(V, rows, columns, k)


def foreground(depth: Tensor, grid: Grid) -> Tensor:
    """depth [B,V,H,W], 0 = background → whether the shape covers half of a map's pixel [B,V,h,w].

    Raises the UsageError of `require_map`.
    """
    require_map(grid, (depth.shape[-2], depth.shape[-1]))
    return F.adaptive_avg_pool2d((depth > 0).float(), grid) >= COVERED


def require_map(grid: Grid, image: Grid) -> None:
    """Raise UsageError for a map [h, w] that is larger than the images [H, W]."""
    if grid[0] > image[0] or grid[1] > image[1]:
        raise UsageError(
            f"a map of {in_pixels(grid)} pixels is larger than the images of {in_pixels(image)} "
            "pixels",
            where="projection.size",
            fix="choose a smaller map, or render larger images",
        )


def fill_holes(
    index: Tensor, uv: Tensor, visible: Tensor, covered: Tensor, radius: float
) -> Tensor:
    """Make an index map cover exactly the pixels that the rendered shape covers [B,V,h,w].

    index: from `index_map`, whose other arguments follow. Holes take the nearest visible point
    within four radii, or stay holes if there is none; pixels outside the outline get no point.
    """
    h, w, k = index.shape[2:]
    far = index_map(uv, visible, (h, w), REACH * radius, k)
    shown = covered[..., None]
    return torch.where((index[..., :1] < 0) & shown, far, index).where(shown, NONE)


def gather_map(features: Tensor, index: Tensor) -> Tensor:
    """Each pixel takes its point's feature: [B,N,D], index [B,V,h,w] → [B,V,h,w,D]; 0 = no point.

    A pixel's whole gradient goes to its point.
    """
    N = features.shape[1]
    # Each pixel without a point takes one of N zero rows. With a single zero row, a GPU would add
    # up the discarded gradients of all of them one after another.
    rows = torch.cat([features, torch.zeros_like(features)], dim=1)
    pixels = torch.arange(index[0].numel(), device=index.device).view(index.shape[1:])
    return ops.gather(rows, torch.where(index < 0, N + pixels % N, index))


def splat_map(features: Tensor, index: Tensor, uv: Tensor, radius: float) -> Tensor:
    """Average the features of each pixel's k points: [B,N,D], index [B,V,h,w,k] → [B,V,h,w,D].

    uv [B,V,N,2]: in pixels of the map. The weights are a Gaussian of the distance from the
    pixel's center, with half the radius as standard deviation, and sum to 1; a pixel without a
    point is 0.
    """
    h, w, k = index.shape[2:]
    columns, rows = (torch.arange(side, device=uv.device, dtype=uv.dtype) + 0.5 for side in (w, h))
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [h, w, 2]
    places = ops.gather(uv.flatten(0, 1), index.clamp(min=0).flatten(0, 1))  # [B·V, h, w, k, 2]
    away = (places - grid[:, :, None]).square().sum(dim=-1).view(index.shape)
    score = (-2 * away / radius**2).masked_fill(index < 0, -torch.inf)
    weight = score.softmax(dim=-1).nan_to_num(0).to(features.dtype)  # nan without a point
    parts = (gather_map(features, index[..., i]) * weight[..., i, None] for i in range(k))
    return torch.stack(list(parts)).sum(dim=0)
