"""Pictures of a pre-trained network's predictions: features.png and matches.png."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pointcmt.datasets.store.schema import FEATURES
from pointcmt.datasets.store.streaming import Batch
from pointcmt.training.figures.pretraining import (
    Array,
    Look,
    Pair,
    Palette,
    draw_features,
    draw_matches,
    principal_colors,
)
from pointcmt.training.networks.view_consistency import (
    Maps,
    MVNetOutput,
    cover,
    other_view,
    sample_keys,
)
from pointcmt.training.ops.matches import DepthViews, Matches, match_views
from pointcmt.training.ops.projection import gather_map

SHAPES = 4  # in each picture
PER_VIEW = ("view", "rgb", "visible", "depth", "K", "world_to_camera")  # and features
TOKENS = (14, 14)  # rows and columns of them when views are chosen
TINY = 1e-12  # smallest norm of a feature: a view of one color may have a feature of 0
OVERLAP = 0.5  # wanted share of the first view that the second one shows: some of it is hidden


class ViewPairs(NamedTuple):
    """Two views of each of B shapes, with a network's predictions for them.

    names [B]. rgb [B,2,H,W,3] u8. local [B,N,D]: features of the points. maps, output: of
    the views.
    """

    names: list[str]
    rgb: Tensor
    maps: Maps
    local: Tensor
    output: MVNetOutput


def choose_pairs(batch: Batch) -> Batch:
    """Reduce a batch with all views to shapes spread over it and two views of each.

    The first view, and the one that shows about half of what the first shows.
    """
    shapes = torch.linspace(0, len(batch["shape"]) - 1, SHAPES).long().unique()
    batch = {name: data[shapes] for name, data in batch.items()}
    names = ("depth", "K", "world_to_camera")
    first = DepthViews(*(batch[name][:, :1].expand_as(batch[name]).flatten(0, 1) for name in names))
    others = DepthViews(*(batch[name].flatten(0, 1) for name in names))
    matches = match_views(first, others, TOKENS)
    B, V = batch["depth"].shape[:2]
    visible = matches.foreground.flatten(1).sum(1).clamp(min=1)
    share = (matches.valid.flatten(1).sum(1) / visible).view(B, V)
    difference = (share - OVERLAP).abs()
    difference[:, 0] = torch.inf  # not the first view itself
    second = difference.argmin(dim=1)
    pair = torch.stack([torch.zeros_like(second), second], dim=1)  # [B, 2]
    rows = torch.arange(B, device=pair.device)[:, None]
    return {
        name: data[rows, pair] if name in PER_VIEW or name.startswith(f"{FEATURES}/") else data
        for name, data in batch.items()
    }


def draw_feature_maps(
    pairs: ViewPairs, target: Tensor | None, coverage: float, image_network: str
) -> bytes:
    """Draw principal components of features as colors, with one palette for all shapes.

    target [B·2,D,h,w]: the image network's features of the last level; its palette is also used for
    the 2D head. None without an image network. coverage: share of a patch that points must cover.
    """
    images = _images(pairs)
    nearest = pairs.maps.nearest[..., 0]
    projected = gather_map(pairs.local.float(), nearest).flatten(0, 1).cpu().numpy()
    mask = (nearest >= 0).flatten(0, 1).cpu().numpy()
    points = _paint(principal_colors(projected[mask]), projected, mask)
    heads: list[Array | None] = [None] * len(images)
    targets: list[Array | None] = [None] * len(images)
    if target is not None:
        share = cover(pairs.maps.covered.flatten(0, 1), target.shape[-2:])
        covered = (share >= coverage).cpu().numpy()
        expected, predicted = _unit(target), _unit(pairs.output.levels[-1])
        palette = principal_colors(expected[covered])
        heads = list(_paint(palette, predicted, covered))
        targets = list(_paint(palette, expected, covered))
    names = [name for name in pairs.names for _ in range(2)]
    looks = [Look(*each) for each in zip(names, images, points, heads, targets, strict=True)]
    return draw_features(looks, f"{image_network}, last level")


def draw_predicted_matches(pairs: ViewPairs, matches: Matches, contrastive: bool) -> bytes:
    """Draw the matches of each first view in the second one, true and predicted.

    contrastive: the network's output are keys to compare, not coordinates.
    """
    images = _images(pairs)
    predicted = pairs.output.matching.float()
    if contrastive:
        predicted = most_similar(predicted, matches.here)
    drawn = []
    for shape, name in enumerate(pairs.names):
        first = 2 * shape
        valid = matches.valid[first]
        here, there = matches.here[valid], matches.there[first][valid]
        ends = (x.float().cpu().numpy() for x in (here, there, predicted[first][valid]))
        drawn.append(Pair(name, (images[first], images[first + 1]), *ends))
    return draw_matches(drawn)


def most_similar(keys: Tensor, places: Tensor) -> Tensor:
    """Return the position in the other view whose key is most similar to each token's key.

    keys [n,W,h,w], views in pairs; places [r,c,2]: positions of the tokens, as shares of the image.
    → [n,r,c,2].
    """
    n = len(keys)
    grid = places.flatten(0, 1).expand(n, -1, -1)
    tokens = torch.nn.functional.normalize(sample_keys(keys, grid), dim=2)  # [n, T, W]
    best = (tokens @ other_view(tokens).mT).argmax(dim=2)  # [n, T]
    return grid.gather(1, best[..., None].expand(-1, -1, 2)).view(n, *places.shape)


def _unit(features: Tensor) -> Array:
    """Return features [n,D,h,w] as unit vectors [n,h,w,D]."""
    rows = features.float().movedim(1, -1).cpu().numpy()
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), TINY)


def _paint(palette: Palette, features: Array, mask: Array) -> Array:
    """Return colors [..., 3]; NaN outside of the mask."""
    return np.where(mask[..., None], palette.paint(features), np.nan)


def _images(pairs: ViewPairs) -> Array:
    """Return the views [B·2,H,W,3] from 0 to 1."""
    return (pairs.rgb.flatten(0, 1).cpu().numpy() / 255).astype(np.float32)
