"""View-consistency pre-training in the manner of MVNet: no labels, and a network of points in the
end (Yan et al., ICLR 2024, arXiv 2306.02558; docs/pretraining.md).

L = L_k + λ L_m over random pairs of views of each shape, where every pixel of a view has the
feature of the point that it shows:
- L_k: seen through a light 2D head, they are what a frozen 2D network makes of the view's image;
- L_m: they tell where in the other view the same point is.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.correspondences import NONE
from pointcmt.datasets.store.streaming import Batch, StreamConfig, ViewStream
from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.images.levels import (
    Cached,
    Online,
    Standardized,
    Teach,
    build_levels,
    cache_levels,
)
from pointcmt.training.images.networks import RANDOM
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.networks.mvnet import (
    Answer,
    Grid,
    Maps,
    MVNet,
    PointFeatures,
    cover,
    look_up,
    other_view,
    sample_keys,
)
from pointcmt.training.ops.augment import keep_patches, scale_and_shift
from pointcmt.training.ops.losses import (
    coordinate_distance,
    info_nce,
    masked_mean,
    transfer_distance,
)
from pointcmt.training.ops.matches import Matches, Views, match_views
from pointcmt.training.ops.projection import (
    fill_holes,
    foreground,
    index_map,
    project,
    require_map,
    splat_radius,
)
from pointcmt.training.recipes.mvnet_pictures import draw
from pointcmt.training.recipes.task import Context

SAMPLE, VIEWS = 64, 4  # shapes, and views of each, that the 2D network's statistics are taken of
IN_PAIRS = 12  # views of each of them that are looked at for any match
# Shares of the image: about what one misses by who says the same place for all of a view's matches.
# Relative to it L_m begins at about 1, as L_k does.
GUESS = 0.1
TINY = 1e-6  # of a patch: a share of 0 still needs a pixel
GEOMETRY = ("points", "visible", "depth", "K", "world_to_camera")


class Term(NamedTuple):
    """A part of the loss, a scalar; counts, bool: whether the batch has anything to judge it by.

    Where not the value is 0, which costs nothing, and is not logged: it would look perfect.
    """

    value: Tensor
    counts: Tensor


def build(config: MvnetConfig, classes: int, pretrained: bool) -> "Mvnet":
    """The networks of a configuration; see RECIPES. They have no classifier."""
    return Mvnet(MVNet(build_dense(config.model.backbone, 1), config), config)


class Mvnet:
    """Points → what their views show. Labels are never looked at.

    Once it is prepared: teach, a batch → what the 2D network makes of its views; seer, the latter's
    name; names, of shapes.
    """

    teach: Teach
    names: list[str]

    def __init__(self, model: MVNet, config: MvnetConfig) -> None:
        self.model: nn.Module = model
        self.config = config
        self.grids: list[Grid] = []
        self.seer: str = config.images.backbone
        data = config.data
        self.stream = StreamConfig(
            arrays=GEOMETRY,
            batch_size=config.step_size,
            views=data.views,
            points=data.points,
            seed=config.seed,
        )
        backbone: Any = model.backbone
        least, left = backbone.least, data.points - round(config.masking * data.points)
        if left < least:
            raise UsageError(
                f"{config.model.backbone} takes {least} points or more, and masking leaves {left} "
                f"of {data.points}",
                where="data.points",
                fix="set data.points higher, or masking lower",
            )

    def prepare(self, context: Context) -> None:
        """The 2D network, and, if asked for, what it makes of all views."""
        require_map(self.config.projection.size, context.store.schema.size)
        self.names = [shape.id for shape in context.store.shapes]
        if not self._shows(context):
            raise UsageError(
                "no pixel of the maps shows a point, in any of the views that were looked at",
                where="projection",
                fix="set projection.radius=0, which goes by the number of points, or higher; and "
                "look at the views with `pointcmt preview`",
            )
        if self.config.matching.weight and not self._overlap(context):
            logger.warning(
                f"note: no view of {context.store.path} shows what another one shows: L_m is 0 and "
                "teaches nothing. Render with a rig whose neighbours overlap, such as mvnet12",
            )
        if not self.config.transfer.weight:
            return
        knobs = self.config.images
        stored = context.store.schema.size
        network = build_levels(knobs.backbone, knobs.weights, knobs.levels, knobs.size, stored)
        network.to(context.device)
        if knobs.weights == RANDOM:
            logger.info(
                "note: the 2D network has random weights: it knows edges and colours and nothing "
                "else. images.weights=hub, or a folder, gives it something to teach",
            )
        if network.known.guessed:
            logger.warning(
                f"note: {network.known.guessed}: its images are normalised with ImageNet's mean "
                "and deviation. A preprocessor_config.json there would say what is right",
            )
        self.grids = [(rows, columns) for _, rows, columns in network.shapes]
        self.seer = network.known.name
        teach: Online | Cached = (
            cache_levels(
                network,
                context.store,
                context.shapes,
                context.device,
                context.processes,
            )
            if knobs.cache
            else Online(network)
        )
        self.stream = replace(self.stream, arrays=(*GEOMETRY, teach.reads))
        self.teach = self._standardize(teach, context) if knobs.standardize else teach

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        augmentation = self.config.augmentation
        kept = keep_patches(batch["points"], self.config.masking, generator)
        points, maps = leave(batch["points"], self.see(batch), kept)
        points = scale_and_shift(points, augmentation.scale, augmentation.shift, generator)
        answer = model(points, maps, self.grids)
        terms = self.terms(answer, maps, batch, generator)
        return self.total(terms), logged(terms)

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        maps = self.see(batch)
        answer = model(batch["points"], maps, self.grids)
        terms = self.terms(answer, maps, batch)
        return {"loss": self.total(terms), **logged(terms)}

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        return draw(self, model, batch)

    def inference(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return PointFeatures(model.get_submodule("backbone")), (batch["points"],)

    def see(self, batch: Batch) -> Maps:
        """Which of a batch's points each pixel of each view shows."""
        knobs = self.config.projection
        uv, _ = project(batch["points"], batch["K"], batch["world_to_camera"])
        uv = uv * (knobs.size / batch["depth"].shape[-1])
        radius = knobs.radius or splat_radius(batch["points"].shape[1], knobs.size)
        index = index_map(uv, batch["visible"], knobs.size, radius, knobs.splat)
        if knobs.fill:
            covered = foreground(batch["depth"], knobs.size)
            index = fill_holes(index, uv, batch["visible"], covered, radius)
        return Maps(index, uv, radius)

    def terms(
        self, answer: Answer, maps: Maps, batch: Batch, generator: torch.Generator | None = None
    ) -> dict[str, Term]:
        """L_k as `transfer` and L_m as `matching`, each where it has a weight, and with the latter
        `matched`: of the tokens that show the shape, the share that has a match.

        generator: chooses InfoNCE's matches; without one they are spread evenly over all.
        """
        terms = {}
        if self.config.transfer.weight:
            terms["transfer"] = self._transfer(answer, maps, batch)
        if self.config.matching.weight:
            covered = maps.covered.flatten(0, 1)  # [B·V, h, w]
            matches = of_points(self.match(batch), covered)
            size = batch["depth"].shape[-1]
            terms["matching"] = (
                self._matching(answer, matches, size)
                if self.config.matching.method == "coordinates"
                else self._contrast(answer, matches, size, covered, generator)
            )
            share = masked_mean(matches.valid.float(), matches.shown).mean()
            terms["matched"] = Term(share, matches.shown.any())
        return terms

    def total(self, terms: dict[str, Term]) -> Tensor:
        """L_k + λ L_m, with the weights of both."""
        weights = {"transfer": self.config.transfer.weight, "matching": self.config.matching.weight}
        parts = [weights[name] * terms[name].value for name in weights if name in terms]
        return torch.stack(parts).sum()

    def match(self, batch: Batch) -> Matches:
        """Of each view's tokens in the other view of its pair, [B·V, t, t]."""
        names = ("depth", "K", "world_to_camera")
        own = Views(*(batch[name].flatten(0, 1) for name in names))
        others = Views(*(other_view(each) for each in own))
        return match_views(own, others, self.config.projection.size // self.config.matching.stride)

    def _standardize(self, teach: Online | Cached, context: Context) -> Teach:
        """By what some of the views show."""
        batches = some_views(
            context, ("depth", teach.reads), min(VIEWS, context.store.schema.views)
        )
        return Standardized(teach, batches, self.config.transfer.coverage)

    def _shows(self, context: Context) -> bool:
        """Whether any pixel of some views' maps shows a point."""
        views = min(VIEWS, context.store.schema.views)
        batches = some_views(context, GEOMETRY, views, self.config.data.points)
        return any(bool(self.see(batch).covered.any()) for batch in batches)

    def _overlap(self, context: Context) -> bool:
        """Whether any of some views shows what another one shows."""
        views = min(IN_PAIRS, context.store.schema.views // 2 * 2)
        batches = some_views(context, ("depth", "K", "world_to_camera"), views)
        return any(bool(self.match(batch).valid.any()) for batch in batches)

    def _transfer(self, answer: Answer, maps: Maps, batch: Batch) -> Term:
        """L_k, the mean over levels and views."""
        covered = maps.covered.flatten(0, 1)  # [B·V, h, w]
        knobs, distances, judged = self.config.transfer, [], []
        for found, wanted in zip(answer.levels, self.teach(batch), strict=True):
            counts = cover(covered, wanted.shape[-2:]) >= max(knobs.coverage, TINY)
            distances.append(transfer_distance(found, wanted, counts, knobs.distance))
            judged.append(counts.any())
        return Term(torch.stack(distances).mean(), torch.stack(judged).any())

    def _matching(self, answer: Answer, matches: Matches, size: int) -> Term:
        """L_m, the mean over views that have a match, relative to a guess."""
        distance = coordinate_distance(answer.matching, matches.uv / size, matches.valid)
        paired = matches.valid.flatten(1).any(dim=1)
        return Term(masked_mean(distance[None], paired[None])[0] / GUESS, paired.any())

    def _contrast(
        self,
        answer: Answer,
        matches: Matches,
        size: int,
        covered: Tensor,
        generator: torch.Generator | None,
    ) -> Term:
        """InfoNCE over some of all matches whose pixels show a point in both views.

        Of first views with second ones alone: with the matches of the way back among them, keys of
        a pixel's own view, its neighbours', would be what it must not be like.
        """
        there = matches.uv[::2] / size
        here = (matches.pixel / size).expand_as(there)
        ends = [x.flatten(1, 2) for x in (here, there)]
        shows = look_up(covered[::2], ends[0]) & look_up(covered[1::2], ends[1])
        keys = answer.matching
        first, second = sample_keys(keys[::2], ends[0]), sample_keys(keys[1::2], ends[1])
        valid = (matches.valid[::2].flatten(1) & shows).flatten()
        knobs = self.config.matching
        some = spread(valid.nonzero()[:, 0], knobs.matches, generator)
        ends = [x.flatten(0, 1)[some] for x in (first, second)]
        loss = info_nce(ends[0], ends[1], knobs.temperature)
        return Term(loss, torch.tensor(len(some) > 1, device=loss.device))  # one has no negatives


def logged(terms: dict[str, Term]) -> dict[str, Tensor]:
    """The values by name; NaN, which means leave out, where there was nothing to judge by."""
    return {name: torch.where(term.counts, term.value, torch.nan) for name, term in terms.items()}


def some_views(
    context: Context, arrays: tuple[str, ...], views: int, points: int = 0
) -> Iterator[Batch]:
    """That many views of some of the shapes, the same ones for every seed and process."""
    some = np.unique(np.linspace(0, len(context.shapes) - 1, SAMPLE).astype(int))
    reads = StreamConfig(
        arrays=arrays,
        batch_size=min(8, len(some)),
        views=views,
        points=points,
        shuffle=False,
        drop_last=False,
    )
    for batch in ViewStream(context.store, np.sort(context.shapes)[some], reads):
        yield {name: data.to(context.device) for name, data in batch.items()}


def of_points(matches: Matches, covered: Tensor) -> Matches:
    """The matches of tokens that show a point; covered [P,h,w]: which pixels of the maps do.

    Where all of a token is a hole, as where points are left out, nothing is known of it: to guess
    its place from what is around it would be another task.
    """
    shows = cover(covered, matches.valid.shape[-2:]) > 0
    return matches._replace(valid=matches.valid & shows, shown=matches.shown & shows)


def leave(points: Tensor, maps: Maps, kept: Tensor) -> tuple[Tensor, Maps]:
    """What is left of points [B,N,3] and their maps when only kept [B,n] of them are there.

    A pixel whose point is left out shows none, rather than the next best: what is hidden from the
    network leaves a hole.
    """
    B, N = points.shape[:2]
    place = kept.new_full((B, N + 1), NONE)  # the last one is that of no point
    place.scatter_(1, kept, torch.arange(kept.shape[1], device=kept.device).expand_as(kept))
    index = torch.where(maps.nearest < 0, N, maps.nearest)
    index = place.gather(1, index.flatten(1)).view_as(index)
    uv = maps.uv.gather(2, kept[:, None, :, None].expand(-1, maps.uv.shape[1], -1, 2))
    return ops.gather(points, kept), maps._replace(nearest=index, uv=uv)


def spread(items: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`count` of the items [M] at most: random ones, or without a generator evenly spread ones."""
    if len(items) <= count:
        return items
    if generator is None:
        return items[torch.arange(count, device=items.device) * len(items) // count]
    return items[torch.randperm(len(items), generator=generator)[:count].to(items.device)]
