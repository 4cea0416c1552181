"""What a pre-trained network makes of some shapes, as pictures: features.png and matches.png."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.datasets.store.schema import FEATURES
from pointcmt.datasets.store.streaming import Batch
from pointcmt.training.figures.mvnet import (
    Array,
    Look,
    Pair,
    Palette,
    draw_features,
    draw_matches,
    principal_colors,
)
from pointcmt.training.networks.mvnet import Answer, Maps, cover, other_view, sample_keys
from pointcmt.training.ops.matches import Matches, Views, match_views
from pointcmt.training.ops.projection import gather_map

if TYPE_CHECKING:
    from pointcmt.training.recipes.mvnet import Mvnet

SHAPES = 4  # in each picture
PER_VIEW = ("view", "rgb", "visible", "depth", "K", "world_to_camera")  # and features
TOKENS = 14  # of a side, when views are chosen
TINY = 1e-12  # of a feature: where a view is of one colour it may be 0
SHARED = 0.5  # of what a view shows, in the other one: enough to compare, and some to be hidden


@torch.no_grad()
def draw(task: "Mvnet", model: nn.Module, batch: Batch) -> dict[str, bytes]:
    """File name → PNG, of some shapes of a batch with all views, spread over it."""
    some = torch.linspace(0, len(batch["shape"]) - 1, SHAPES).long().unique()
    batch = choose_pair({name: data[some] for name, data in batch.items()})
    maps = task.see(batch)
    local = model.get_submodule("backbone")(batch["points"], local=True).local
    answer = model(batch["points"], maps, task.grids)
    images = _images(batch)
    pictures = {"features.png": _features(task, batch, maps, answer, local, images)}
    if task.config.matching.weight:
        matches = task.match(batch)
        pictures["matches.png"] = _matches(task, batch, answer, matches, images)
    return pictures


def choose_pair(batch: Batch) -> Batch:
    """Two views of each shape: the first, and that of which about half is seen in the first."""
    names = ("depth", "K", "world_to_camera")
    first = Views(*(batch[name][:, :1].expand_as(batch[name]).flatten(0, 1) for name in names))
    others = Views(*(batch[name].flatten(0, 1) for name in names))
    found = match_views(first, others, TOKENS)
    B, V = batch["depth"].shape[:2]
    share = (found.valid.flatten(1).sum(1) / found.shown.flatten(1).sum(1).clamp(min=1)).view(B, V)
    away = (share - SHARED).abs()
    away[:, 0] = torch.inf  # not itself
    pair = torch.stack([torch.zeros_like(away.argmin(dim=1)), away.argmin(dim=1)], dim=1)  # [B, 2]
    rows = torch.arange(B, device=pair.device)[:, None]
    return {
        name: data[rows, pair] if name in PER_VIEW or name.startswith(f"{FEATURES}/") else data
        for name, data in batch.items()
    }


def _features(
    task: "Mvnet", batch: Batch, maps: Maps, answer: Answer, local: Tensor, images: Array
) -> bytes:
    """Principal components as colours, one palette for all shapes; the 2D network's for both."""
    nearest = maps.nearest[..., 0]
    shown = gather_map(local.float(), nearest).flatten(0, 1).cpu().numpy()
    mask = (nearest >= 0).flatten(0, 1).cpu().numpy()
    points = _paint(principal_colors(shown[mask]), shown, mask)
    heads: list[Array | None] = [None] * len(images)
    seen: list[Array | None] = [None] * len(images)
    if answer.levels:
        level = task.teach(batch)[-1]
        share = cover(maps.covered.flatten(0, 1), level.shape[-2:])
        counts = (share >= task.config.transfer.coverage).cpu().numpy()
        theirs, ours = (x.float().movedim(1, -1).cpu().numpy() for x in (level, answer.levels[-1]))
        theirs, ours = (
            x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), TINY) for x in (theirs, ours)
        )
        palette = principal_colors(theirs[counts])
        heads = list(_paint(palette, ours, counts))
        seen = list(_paint(palette, theirs, counts))
    names = [task.names[shape] for shape in batch["shape"].tolist() for _ in range(2)]
    looks = [Look(*each) for each in zip(names, images, points, heads, seen, strict=True)]
    return draw_features(looks, f"{task.seer}, last level")


def _matches(task: "Mvnet", batch: Batch, answer: Answer, matches: Matches, images: Array) -> bytes:
    """Of each pair the matches of the first view in the second."""
    size = batch["depth"].shape[-1]
    if task.config.matching.method == "coordinates":
        predicted = answer.matching.float()
    else:
        predicted = most_alike(answer.matching.float(), matches.pixel / size)
    pairs = []
    for first in range(0, len(images), 2):
        valid = matches.valid[first]
        here, there = matches.pixel[valid] / size, matches.uv[first][valid] / size
        ends = (x.float().cpu().numpy() for x in (here, there, predicted[first][valid]))
        name = task.names[int(batch["shape"][first // 2])]
        pairs.append(Pair(name, (images[first], images[first + 1]), *ends))
    return draw_matches(pairs)


def most_alike(keys: Tensor, places: Tensor) -> Tensor:
    """Where in the other view the key is that is most like each token's: keys [n,W,h,w], places
    [t,t,2] of the tokens → [n,t,t,2], shares of the image.
    """
    n, t = len(keys), len(places)
    grid = places.flatten(0, 1).expand(n, -1, -1)
    own = torch.nn.functional.normalize(sample_keys(keys, grid), dim=2)  # [n, T, W]
    best = (own @ other_view(own).mT).argmax(dim=2)  # [n, T]
    return grid.gather(1, best[..., None].expand(-1, -1, 2)).view(n, t, t, 2)


def _paint(palette: Palette, features: Array, mask: Array) -> Array:
    """Colours [..., 3]; NaN where there is nothing to show."""
    return np.where(mask[..., None], palette.paint(features), np.nan)


def _images(batch: Batch) -> Array:
    """The views [B·v,H,W,3] from 0 to 1."""
    return (batch["rgb"].flatten(0, 1).cpu().numpy() / 255).astype(np.float32)
