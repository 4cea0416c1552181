"""MVNet's networks: a dense backbone, and two heads on the maps of its projected features.

The design is that of Yan et al., ICLR 2024 (arXiv 2306.02558): features of points are projected
into views. Through a light 2D head they must match an image network's features, and by
cross-attention they predict each pixel's position in a second view. The layers are ours.
After pre-training only `backbone` is used.

Letters: B shapes, V views, N points, D width of a point's feature, W its width when projected,
h × w pixels of a map.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.images.levels import level_widths
from pointcmt.training.ops.projection import Grid, gather_map, splat_map

SHARPNESS = 10.0  # initial inverse temperature of the attention


class Maps(NamedTuple):
    """Points projected into views.

    nearest [B,V,h,w,k] i64: each pixel's points, -1 = none. uv [B,V,N,2]: positions of the points,
    in pixels of the map. radius: of a splat, in the same pixels. Both are used if k > 1.
    """

    nearest: Tensor
    uv: Tensor
    radius: float

    @property
    def covered(self) -> Tensor:
        """Return which pixels show a point, [B,V,h,w] bool."""
        return (self.nearest >= 0).any(dim=-1)


class MVNetOutput(NamedTuple):
    """Predictions for pairs of views.

    levels: the 2D head's output for each patch, [B·V,D_l,h_l,w_l]; empty if L_k has no weight.
    matching: positions [B·V,r,c,2] of a view's tokens in the other view of its pair, shares of the
    image; or InfoNCE's keys [B·V,W,h,w]; or empty if L_m has no weight.
    """

    levels: list[Tensor]
    matching: Tensor


class MVNet(nn.Module):
    """A backbone with the heads of pre-training.

    backbone: a network of DENSE; its head and classifier are removed, since there are no classes.
    config: defines the heads and their sizes.
    """

    def __init__(self, backbone: nn.Module, config: MvnetConfig) -> None:
        super().__init__()
        width, matching = config.model.width, config.matching
        dense: Any = backbone
        self.backbone = backbone
        without_classes(backbone)
        # A linear layer of points is the same before the projection as after it, and much cheaper.
        self.lift = nn.Sequential(nn.Linear(dense.local_width, width), nn.LayerNorm(width))
        images = config.images
        levels: Sequence[int] = ()
        if config.transfer.weight:
            levels = level_widths(images.backbone, images.weights, images.levels, images.size)
        contrast = bool(matching.weight) and matching.method == "infonce"
        self.head = ImageHead(width, levels, contrast) if levels or contrast else None
        predicts = bool(matching.weight) and matching.method == "coordinates"
        self.matcher = Matcher(width, matching.stride, matching.heads) if predicts else None

    def forward(
        self, points: Tensor, maps: Maps, grids: Sequence[Grid], features: Tensor | None = None
    ) -> MVNetOutput:
        """points [B,N,3], with features [B,N,F] or none, as the backbone sees them; grids: of each
        level's patches.
        """
        images = self.paint(points, maps, features)
        return self.compare(images, maps.covered.flatten(0, 1), grids)

    def paint(self, points: Tensor, maps: Maps, features: Tensor | None = None) -> Tensor:
        """Return the views of the points' features, [B·V,W,h,w]."""
        lifted = self.lift(point_features(self.backbone, points, features))  # [B, N, W]
        if maps.nearest.shape[-1] == 1:
            projected = gather_map(lifted, maps.nearest[..., 0])  # [B, V, h, w, W]
        else:
            projected = splat_map(lifted, maps.nearest, maps.uv, maps.radius)
        return projected.movedim(-1, 2).flatten(0, 1)  # channels last in memory

    def compare(self, images: Tensor, covered: Tensor, grids: Sequence[Grid]) -> MVNetOutput:
        """Return the heads' output for views in pairs: images [n,W,h,w], covered [n,h,w]."""
        output = MVNetOutput([], images.new_zeros(0))
        if self.head is not None:
            output = MVNetOutput(*self.head(images, covered, grids))
        if self.matcher is not None:
            output = output._replace(matching=self.matcher(images))
        return output


class PointFeatures(nn.Module):
    """The part that is used after pre-training: points [B,N,3] → their features [B,N,D].

    Of scenes, with what the backbone takes of each point besides its place, [B,N,F].
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, points: Tensor, features: Tensor | None = None) -> Tensor:
        return point_features(self.backbone, points, features)


def point_features(backbone: nn.Module, points: Tensor, features: Tensor | None) -> Tensor:
    """Return a dense backbone's features [B,N,D] of points [B,N,3]. features: its further input."""
    inputs = {} if features is None else {"features": features}
    local: Tensor = backbone(points, local=True, **inputs).local
    return local


class ImageHead(nn.Module):
    """Two convolutions; a mean over each patch; one linear layer for each level.

    InfoNCE compares the output of a linear layer on the same convolutions: after them a point's
    feature depends on the view, before them it does not.
    """

    def __init__(self, width: int, levels: Sequence[int], contrast: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
        )
        self.levels = nn.ModuleList(nn.Conv2d(width, level, 1) for level in levels)
        self.key = nn.Conv2d(width, width, 1) if contrast else None

    def forward(
        self, images: Tensor, covered: Tensor, grids: Sequence[Grid]
    ) -> tuple[list[Tensor], Tensor]:
        """images [n,W,h,w], covered [n,h,w] bool → levels [n,D_l,h_l,w_l], keys [n,W,h,w] or [0].

        A patch is the mean over its covered pixels. The linear layer gives the same result after
        the mean as before it, and is cheaper.
        """
        images = self.convolutions(images)
        patches = {grid: pool_covered(images, covered, grid) for grid in set(grids)}
        levels = [layer(patches[grid]) for layer, grid in zip(self.levels, grids, strict=True)]
        return levels, images.new_zeros(0) if self.key is None else self.key(images)


class Matcher(nn.Module):
    """Predict where each token of a view is in the other view, with one block of cross-attention.

    Tokens are patches of stride² pixels. Each attends to similar tokens of the other view (cosine
    of one shared projection, with a learned temperature) and collects their features and positions.
    The prediction is the mean attended position plus a correction. The cameras are not an input.
    """

    def __init__(self, width: int, stride: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Conv2d(width, width, stride, stride=stride)
        self.norm_look, self.norm_take = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.Linear(width, width, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS).log())
        self.take, self.project = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        last = nn.Linear(width, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correct = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, images: Tensor) -> Tensor:
        """images [n,W,h,w], in pairs → coordinates [n,r,c,2] in the pair's other view, f32."""
        features = self.embed(images)  # [n, W, r, c]
        grid = features.shape[-2], features.shape[-1]
        features = features.flatten(2).mT  # [n, T, W]
        tokens = features + sine_places(features.shape[2], grid, features.device).to(features)
        looks = F.normalize(self._split(self.look(self.norm_look(features))), dim=-1)
        values = self._split(self.take(self.norm_take(other_view(tokens))))
        with torch.autocast(looks.device.type, enabled=False):  # positions need more than 8 bits
            center = centers(grid, values.device).to(
                torch.promote_types(values.dtype, torch.float32)
            )
            center = center.expand(*values.shape[:2], -1, -1)
            looks = looks.to(center)
            values = torch.cat([values.to(center), center], dim=-1)
            mixed = F.scaled_dot_product_attention(
                looks * self.sharpness.exp(), other_view(looks), values, scale=1.0
            )  # [n, heads, T, W / heads + 2]
        taken, where = mixed.split([mixed.shape[-1] - 2, 2], dim=-1)
        tokens = tokens + self.project(taken.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(self.norm(tokens))
        predicted = where.mean(dim=1) + self.correct(tokens).to(where)  # [n, T, 2]
        return predicted.unflatten(1, grid)

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


def without_classes(backbone: nn.Module) -> None:
    """Remove head and classifier. Building them first keeps all other initial weights the same."""
    for part in ("head", "classifier"):
        setattr(backbone, part, nn.Identity())


def other_view(images: Tensor) -> Tensor:
    """Swap the views of each pair: [n, ...] → [n, ...]."""
    return images.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def pool_covered(images: Tensor, covered: Tensor, grid: Grid) -> Tensor:
    """Average each patch's covered pixels, 0 if none: [n,W,h,w], [n,h,w] → [n,W,h_l,w_l]."""
    mask = covered[:, None].to(images.dtype)
    share = F.adaptive_avg_pool2d(mask, grid)
    return F.adaptive_avg_pool2d(images * mask, grid) / share.clamp(min=1e-6)


def cover(covered: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the share of each patch's pixels that are covered: [n,h,w] bool → [n,h_l,w_l]."""
    return F.adaptive_avg_pool2d(covered.float()[:, None], (grid[0], grid[1]))[:, 0]


def sine_places(width: int, grid: Grid, device: torch.device | None = None) -> Tensor:
    """Return sine and cosine position embeddings (Vaswani et al. 2017; He et al. 2022 for images).

    → [rows · columns, width]; a quarter of the width each for sin and cos of column and row.
    """
    rows, columns = grid
    quarter = width // 4
    frequency = 10_000 ** (-torch.arange(quarter, device=device) / quarter)
    angle = torch.arange(max(grid), device=device)[:, None] * frequency  # [side, quarter]
    waves = torch.cat([angle.sin(), angle.cos()], dim=1)  # [side, width / 2]
    across = waves[None, :columns].expand(rows, -1, -1)
    down = waves[:rows, None].expand(-1, columns, -1)
    return torch.cat([across, down], dim=2).flatten(0, 1)


def centers(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Return the center (u, v) of each token as shares of the image, [rows · columns, 2]."""
    down, across = ((torch.arange(side, device=device) + 0.5) / side for side in grid)
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).flatten(0, 1)


def sample_keys(keys: Tensor, places: Tensor) -> Tensor:
    """Sample keys [n,W,h,w] bilinearly at places [n,m,2], shares of the image → [n,m,W] float32."""
    grid = (2 * places - 1).float()[:, :, None]  # [n, m, 1, 2]
    found = F.grid_sample(keys.float(), grid, align_corners=False, padding_mode="border")
    return found[..., 0].mT


def look_up(covered: Tensor, places: Tensor) -> Tensor:
    """Look up covered [n,h,w] bool at places [n,m,2], shares of the image → [n,m]."""
    h, w = covered.shape[1:]
    column = (places[..., 0] * w).floor().long().clamp(0, w - 1)
    row = (places[..., 1] * h).floor().long().clamp(0, h - 1)
    return covered.flatten(1).gather(1, row * w + column)
