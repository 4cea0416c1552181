"""View-consistency pre-training in the manner of MVNet: trains a network of points without labels
(Yan et al., ICLR 2024, arXiv 2306.02558; docs/pretraining.md).

L = L_k + λ L_m over random pairs of views of each shape. Every pixel of a view takes the feature of
the point it shows, and these maps of features must
- L_k: match, after a light 2D head, a frozen image network's features of the view's image;
- L_m: predict where the same point is in the other view.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.correspondences import NONE
from pointcmt.datasets.store.streaming import Batch, StreamConfig
from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.networks.view_consistency import (
    Grid,
    Maps,
    MVNet,
    MVNetOutput,
    PointFeatures,
    other_view,
)
from pointcmt.training.ops.augment import keep_patches, scale_and_shift
from pointcmt.training.ops.losses import masked_mean
from pointcmt.training.ops.matches import DepthViews, Matches, match_views
from pointcmt.training.ops.projection import (
    fill_holes,
    foreground,
    index_map,
    project,
    require_map,
    splat_radius,
)
from pointcmt.training.recipes.mvnet_images import VIEWS, ImageTeacher, find_teacher, sample_views
from pointcmt.training.recipes.mvnet_pictures import (
    ViewPairs,
    choose_pairs,
    draw_feature_maps,
    draw_predicted_matches,
)
from pointcmt.training.recipes.mvnet_terms import (
    Term,
    contrastive_term,
    coordinate_term,
    drop_holes,
    logged,
    transfer_term,
)
from pointcmt.training.recipes.recipe import RecipeContext

GEOMETRY = ("points", "visible", "depth", "K", "world_to_camera")  # arrays that every batch has
PAIRED_VIEWS = 12  # of each sampled shape, to find out whether any two views overlap


def build(config: MvnetConfig, classes: int, pretrained: bool) -> "Mvnet":
    """Build the pre-training recipe from its configuration; see RECIPES. It has no classifier."""
    return Mvnet(MVNet(build_dense(config.model.backbone, 1), config), config)


class Mvnet:
    """Points → what their views show, without labels.

    teacher: the frozen image network; None where L_k has no weight, and until the recipe is
    prepared. names: of all shapes of the store, for pictures.
    """

    def __init__(
        self,
        model: nn.Module,
        config: MvnetConfig,
        teacher: ImageTeacher | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.config = config
        self.teacher = teacher
        self.names = names
        data = config.data
        self.stream = StreamConfig(
            arrays=(*GEOMETRY, teacher.reads) if teacher else GEOMETRY,
            batch_size=config.effective_batch_size,
            views=data.views,
            points=data.points,
            seed=config.seed,
        )
        backbone: Any = model.backbone
        least, left = backbone.least, data.points - round(config.masking * data.points)
        if left < least:
            raise UsageError(
                f"{config.model.backbone} needs at least {least} points, but masking leaves "
                f"{left} of {data.points}",
                where="data.points",
                fix="increase data.points or decrease masking",
            )

    @property
    def grids(self) -> list[Grid]:
        """Rows and columns of the patches at each level of the image network."""
        return self.teacher.grids if self.teacher else []

    def prepare(self, context: RecipeContext) -> "Mvnet":
        """Return the recipe with its image network, whose features are cached if asked for.

        Raises UsageError for maps larger than the images or maps that show no point, and for an
        image network that cannot be had or does not take these images.
        """
        require_map(self.config.projection.size, context.store.schema.size)
        if not self._maps_show_points(context):
            raise UsageError(
                "no point is visible in the maps of any of the sampled views",
                where="projection",
                fix="set projection.radius=0, which adapts to the number of points, or a larger "
                "radius; check the views with `pointcmt preview`",
            )
        if self.config.matching.weight and not self._views_overlap(context):
            logger.warning(
                f"note: no two of the sampled views of {context.store.path} show the same "
                "surface, so L_m is always 0. Render with a rig whose neighboring views overlap, "
                "such as mvnet12",
            )
        teacher = find_teacher(self.config, context) if self.config.transfer.weight else None
        names = tuple(shape.id for shape in context.store.shapes)
        return Mvnet(self.model, self.config, teacher, names)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        augmentation = self.config.augmentation
        kept = keep_patches(batch["points"], self.config.masking, generator)
        points, maps = keep_points(batch["points"], self.project(batch), kept)
        points = scale_and_shift(points, augmentation.scale, augmentation.shift, generator)
        output = model(points, maps, self.grids)
        terms = self.terms(output, maps, batch, generator)
        return self.total(terms), logged(terms)

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        maps = self.project(batch)
        output = model(batch["points"], maps, self.grids)
        terms = self.terms(output, maps, batch)
        return {"loss": self.total(terms), **logged(terms)}

    @torch.no_grad()
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        batch = choose_pairs(batch)
        maps = self.project(batch)
        local = model.get_submodule("backbone")(batch["points"], local=True).local
        output = model(batch["points"], maps, self.grids)
        names = [self.names[shape] for shape in batch["shape"].tolist()]
        pairs = ViewPairs(names, batch["rgb"], maps, local, output)
        target, network = None, ""
        if self.teacher:
            target, network = self.teacher.image_features(batch)[-1], self.teacher.image_network
        coverage, matching = self.config.transfer.coverage, self.config.matching
        pictures = {"features.png": draw_feature_maps(pairs, target, coverage, network)}
        if matching.weight:
            contrastive = matching.method == "infonce"
            pictures["matches.png"] = draw_predicted_matches(pairs, self.match(batch), contrastive)
        return pictures

    def deployable(self, model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return PointFeatures(model.get_submodule("backbone")), (batch["points"],)

    def project(self, batch: Batch) -> Maps:
        """Return which of a batch's points each pixel of each view shows."""
        settings = self.config.projection
        uv, _ = project(batch["points"], batch["K"], batch["world_to_camera"])
        uv = uv * (settings.size / batch["depth"].shape[-1])
        radius = settings.radius or splat_radius(batch["points"].shape[1], settings.size)
        index = index_map(uv, batch["visible"], settings.size, radius, settings.splat)
        if settings.fill:
            covered = foreground(batch["depth"], settings.size)
            index = fill_holes(index, uv, batch["visible"], covered, radius)
        return Maps(index, uv, radius)

    def terms(
        self,
        output: MVNetOutput,
        maps: Maps,
        batch: Batch,
        generator: torch.Generator | None = None,
    ) -> dict[str, Term]:
        """Return L_k as `transfer` and L_m as `matching`, each only if it has a weight.

        With the latter comes `matched`: of the tokens that show the shape, the share that has a
        match. generator: chooses InfoNCE's matches; without one they are spaced evenly.
        """
        terms = {}
        covered = maps.covered.flatten(0, 1)  # [B·V, h, w]
        if self.config.transfer.weight:
            assert self.teacher is not None, "call prepare() before using this recipe"
            target = self.teacher.image_features(batch)
            terms["transfer"] = transfer_term(output.levels, target, covered, self.config.transfer)
        matching = self.config.matching
        if matching.weight:
            matches = drop_holes(self.match(batch), covered)
            size = batch["depth"].shape[-1]
            terms["matching"] = (
                coordinate_term(output.matching, matches, size)
                if matching.method == "coordinates"
                else contrastive_term(output.matching, matches, size, covered, matching, generator)
            )
            share = masked_mean(matches.valid.float(), matches.foreground).mean()
            terms["matched"] = Term(share, matches.foreground.any())
        return terms

    def total(self, terms: dict[str, Term]) -> Tensor:
        """Return L_k + λ L_m, with the weights of both."""
        weights = {"transfer": self.config.transfer.weight, "matching": self.config.matching.weight}
        parts = [weights[name] * terms[name].value for name in weights if name in terms]
        return torch.stack(parts).sum()

    def match(self, batch: Batch) -> Matches:
        """Match each view's tokens with the other view of its pair, [B·V, t, t]."""
        names = ("depth", "K", "world_to_camera")
        views = DepthViews(*(batch[name].flatten(0, 1) for name in names))
        others = DepthViews(*(other_view(each) for each in views))
        tokens = self.config.projection.size // self.config.matching.stride  # per side
        return match_views(views, others, tokens)

    def _maps_show_points(self, context: RecipeContext) -> bool:
        """Return whether any pixel of the sampled views' maps shows a point."""
        views = min(VIEWS, context.store.schema.views)
        batches = sample_views(context, GEOMETRY, views, self.config.data.points)
        return any(bool(self.project(batch).covered.any()) for batch in batches)

    def _views_overlap(self, context: RecipeContext) -> bool:
        """Return whether any of the sampled views shows what another one shows."""
        views = min(PAIRED_VIEWS, context.store.schema.views // 2 * 2)
        batches = sample_views(context, ("depth", "K", "world_to_camera"), views)
        return any(bool(self.match(batch).valid.any()) for batch in batches)


def keep_points(points: Tensor, maps: Maps, kept: Tensor) -> tuple[Tensor, Maps]:
    """Return points [B,N,3] and their maps with only the points kept [B,n].

    A pixel whose point is dropped becomes a hole. It does not show the next nearest point: the
    network must not see the surface that masking hides.
    """
    B, N = points.shape[:2]
    new_index = kept.new_full((B, N + 1), NONE)  # the last entry stands for "no point"
    new_index.scatter_(1, kept, torch.arange(kept.shape[1], device=kept.device).expand_as(kept))
    index = torch.where(maps.nearest < 0, N, maps.nearest)
    index = new_index.gather(1, index.flatten(1)).view_as(index)
    uv = maps.uv.gather(2, kept[:, None, :, None].expand(-1, maps.uv.shape[1], -1, 2))
    return ops.gather(points, kept), maps._replace(nearest=index, uv=uv)
