"""View-consistency pre-training in the manner of MVNet: trains a network of points without labels
(Yan et al., ICLR 2024, arXiv 2306.02558; docs/pretraining.md).

L = L_k + λ L_m over pairs of views: random ones of each shape, overlapping frames of each scene.
Every pixel of a view takes the feature of the point it shows, and these maps of features must
- L_k: match, after a light 2D head, a frozen image network's features of the view's image;
- L_m: predict where the same point is in the other view.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.console import logger
from pointcmt.correspondences import NONE
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.crops import CHANNELS
from pointcmt.datasets.store.scene_streams.pairs import PairConfig
from pointcmt.datasets.store.streaming import StreamConfig
from pointcmt.errors import UsageError
from pointcmt.training import ops
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.networks.backbones import build_dense, build_for_scenes
from pointcmt.training.networks.view_consistency import (
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
    Grid,
    fill_holes,
    fit_grid,
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
from pointcmt.training.recipes.scene_inputs import point_inputs, varied

GEOMETRY = ("points", "visible", "depth", "K", "world_to_camera")  # arrays that every batch has
PAIRED_VIEWS = 12  # of each sampled shape, to find out whether any two views overlap


def build(config: MvnetConfig, classes: int, pretrained: bool) -> "Mvnet":
    """Build the pre-training recipe from its configuration; see RECIPES. It has no classifier."""
    name, scenes = config.model.backbone, config.scenes
    backbone = build_for_scenes(name, scenes) if scenes else build_dense(name, 1)
    return Mvnet(MVNet(backbone, config), config)


class Mvnet:
    """Points → what their views show, without labels.

    Of scenes, the network also takes each point's color and normal, as in segmentation.
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
        backbone: Any = model.backbone
        self.channels = _channels(config, backbone)
        self.stream = _stream(
            config, (*GEOMETRY, *([teacher.reads] if teacher else [])), self.channels
        )
        data = config.data
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
        image = context.store.schema.image
        require_map(self.map_grid(image), image)
        if not self._maps_show_points(context):
            raise UsageError(
                "no point is visible in the maps of any of the sampled views",
                where="projection",
                fix="set projection.radius=0, which adapts to the number of points, or a larger "
                "radius; check the views with `pointcmt preview`",
            )
        scenes = self.config.scenes  # whose pairs are frames that overlap
        if self.config.matching.weight and not scenes and not self._views_overlap(context):
            logger.warning(
                f"note: no two of the sampled views of {context.store.path} show the same "
                "surface, so L_m is always 0. Render with a rig whose neighboring views overlap, "
                "such as mvnet12",
            )
        images, coverage = self.config.image_network, self.config.transfer.coverage
        teacher = find_teacher(images, coverage, context, self.stream) if images else None
        names = tuple(shape.id for shape in context.store.shapes)
        return Mvnet(self.model, self.config, teacher, names)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        kept = keep_patches(batch["points"], self.config.masking, generator)
        points, maps = keep_points(batch["points"], self.project(batch), kept)
        own = {name: ops.gather(batch[name], kept) for name in self.channels.values()}
        points, features = self.inputs({**batch, **own, "points": points}, generator)
        output = model(points, maps, self.grids, features)
        terms = self.terms(output, maps, batch, generator)
        return self.total(terms), logged(terms)

    def measure(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        maps = self.project(batch)
        points, features = self.inputs(batch)
        output = model(points, maps, self.grids, features)
        terms = self.terms(output, maps, batch)
        return {"loss": self.total(terms), **logged(terms)}

    @torch.no_grad()
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, bytes]:
        batch = choose_pairs(batch)
        maps = self.project(batch)
        deployed, (points, *features) = self.deployable(model, batch)
        local = deployed(points, *features)
        output = model(points, maps, self.grids, *features)
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
        points, features = self.inputs(batch)
        inputs = (points,) if features is None else (points, features)
        return PointFeatures(model.get_submodule("backbone")), inputs

    def inputs(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the network's input: points [B,N,3] and their features [B,N,F], None if F = 0.

        generator: of random changes; without one there are none.
        """
        points, scenes = batch["points"], self.config.scenes
        if scenes is None:
            options = self.config.augmentation
            if generator is not None:
                points = scale_and_shift(points, options.scale, options.shift, generator)
            return points, None
        B, N, _ = points.shape
        packed = {name: batch[array].flatten(0, 1) for name, array in self.channels.items()}
        packed |= {"points": points.flatten(0, 1), "shape": batch["shape"]}
        packed["batch"] = torch.arange(B, device=points.device).repeat_interleave(N)
        if generator is not None:
            packed = varied(packed, scenes.augmentation, generator)
        features = point_inputs(packed).view(B, N, -1) if self.channels else None
        return packed["points"].view(B, N, 3), features

    def map_grid(self, image: Grid) -> Grid:
        """Return rows and columns of the maps of images [H, W], whole tokens."""
        return fit_grid(self.config.projection.size, image, self.config.matching.stride)

    def project(self, batch: Batch) -> Maps:
        """Return which of a batch's points each pixel of each view shows."""
        settings = self.config.projection
        H, W = batch["depth"].shape[-2:]
        rows, columns = grid = self.map_grid((H, W))
        uv, _ = project(batch["points"], batch["K"], batch["world_to_camera"])
        uv = uv * torch.tensor([columns / W, rows / H], dtype=uv.dtype, device=uv.device)
        radius = settings.radius or splat_radius(batch["points"].shape[1], grid)
        index = index_map(uv, batch["visible"], grid, radius, settings.splat)
        if settings.fill:
            covered = foreground(batch["depth"], grid)
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
            terms["matching"] = (
                coordinate_term(output.matching, matches)
                if matching.method == "coordinates"
                else contrastive_term(output.matching, matches, covered, matching, generator)
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
        """Match each view's tokens with the other view of its pair, [B·V, r, c]."""
        names = ("depth", "K", "world_to_camera")
        views = DepthViews(*(batch[name].flatten(0, 1) for name in names))
        others = DepthViews(*(other_view(each) for each in views))
        rows, columns = self.map_grid((views.depth.shape[-2], views.depth.shape[-1]))
        stride = self.config.matching.stride
        return match_views(views, others, (rows // stride, columns // stride))

    def _maps_show_points(self, context: RecipeContext) -> bool:
        """Return whether any pixel of the sampled views' maps shows a point."""
        batches = sample_views(context, self.stream, GEOMETRY, VIEWS, self.config.data.points)
        return any(bool(self.project(batch).covered.any()) for batch in batches)

    def _views_overlap(self, context: RecipeContext) -> bool:
        """Return whether any of the sampled views shows what another one shows."""
        views = min(PAIRED_VIEWS, context.store.schema.views // 2 * 2)
        batches = sample_views(context, self.stream, ("depth", "K", "world_to_camera"), views)
        return any(bool(self.match(batch).valid.any()) for batch in batches)


def _channels(config: MvnetConfig, backbone: Any) -> dict[str, str]:
    """Return what the network takes of points besides their places, and the arrays that have it."""
    scenes = config.scenes
    if scenes is None or not getattr(backbone, "inputs", 0):
        return {}
    taken = {"color": scenes.color, "normal": scenes.normals}
    return {name: CHANNELS[name] for name in taken if taken[name]}


def _stream(
    config: MvnetConfig, arrays: tuple[str, ...], channels: dict[str, str]
) -> StreamConfig | PairConfig:
    """Return what a training batch holds: these arrays, and those of further inputs."""
    data, scenes = config.data, config.scenes
    if scenes is None:
        return StreamConfig(
            arrays=arrays,
            batch_size=config.effective_batch_size,
            views=data.views,
            points=data.points,
            seed=config.seed,
        )
    if data.views != 2:
        raise UsageError(
            f"{data.views} views, but the frames of scenes are read in pairs",
            where="data.views",
            fix="use --set data.views=2, and as many scenes.pairs as you like",
        )
    return PairConfig(
        arrays=(*arrays, *channels.values()),
        batch_size=config.effective_batch_size,
        points=data.points,
        overlap=scenes.overlap,
        samples=scenes.pairs,
        seed=config.seed,
    )


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
