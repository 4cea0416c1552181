"""Features of points as colors: their first three principal components as red, green and blue.

All shapes have the same palette, so that equal colors mean similar features across shapes.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.api.stores import ViewStore
from pointcmt.console import meter
from pointcmt.datasets.store.scene_streams.stream import center_in_plan
from pointcmt.datasets.store.streaming import StreamConfig
from pointcmt.datasets.streams import read_batch
from pointcmt.input_frame import AS_STORED
from pointcmt.training.evaluation.classifier import Classifier, Trained
from pointcmt.training.evaluation.scene_predictor import ScenePredictor
from pointcmt.training.figures.pretraining import Palette, principal_colors
from pointcmt.training.networks.scene_network import PointSceneNetwork, SceneNetwork
from pointcmt.training.networks.view_consistency import point_features
from pointcmt.training.recipes.mvnet import Mvnet
from pointcmt.training.recipes.scene_inputs import point_inputs
from pointcmt.training.recipes.semseg import Semseg
from pointcmt.view.overlay import pack_colors
from pointcmt.view.shapes import MOST_POINTS

PALETTE_SHAPES = 24  # that the palette is computed from
PALETTE_POINTS = 1024  # of each

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureOverlay:
    """of_shape: number of a shape → features [n,D] of its first points. They are computed when a
    shape is shown, one at a time.
    """

    of_shape: Callable[[int], Features]
    palette: Palette
    lock: Any = field(default_factory=Lock)

    def about(self) -> dict[str, Any]:
        return {}

    def line(self, shape: int) -> dict[str, Any]:
        return {}

    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        with self.lock:
            colors = self.palette.paint(self.of_shape(shape))
        return {"feature_color": pack_colors(colors)}


def features_of_run(
    trained: Trained, store: ViewStore, shapes: NDArray[np.int64]
) -> FeatureOverlay | None:
    """Return the features of these shapes' points; None if the network has none for each point."""
    of_shape = _source(trained, store)
    if of_shape is None or not len(shapes):
        return None
    few = np.unique(np.linspace(0, len(shapes) - 1, PALETTE_SHAPES).astype(int))
    found = []
    with meter("features of points", len(few), "shapes") as progress:
        for shape in shapes[few].tolist():
            found.append(of_shape(shape)[:PALETTE_POINTS])
            progress.advance(1)
    return FeatureOverlay(of_shape, principal_colors(np.concatenate(found)))


def _source(trained: Trained, store: ViewStore) -> Callable[[int], Features] | None:
    """Return the function of `FeatureOverlay`; None without a feature for each point."""
    recipe = trained.recipe
    if isinstance(recipe, Semseg):
        return _of_segmented(trained, store)
    if isinstance(recipe, Mvnet) and recipe.config.scenes:
        return _of_scenes(recipe, store)
    if trained.run.config.detects or trained.run.config.point_network is None:
        return None
    network = recipe.model.get_submodule(trained.run.config.point_network.rstrip("."))
    if not hasattr(network, "local_width"):
        return None
    data: Any = trained.run.config.data
    reads = StreamConfig(
        arrays=("points",), points=data.points, frame=getattr(data, "frame", AS_STORED)
    )

    @torch.no_grad()
    def of_shape(shape: int) -> Features:
        batch = read_batch(store, np.array([shape]), reads)
        points = batch["points"].to(_device(network))
        return _rows(point_features(network.eval(), points, None)[0])

    return of_shape


def _of_segmented(trained: Trained, store: ViewStore) -> Callable[[int], Features]:
    """Return the features of whole scenes, in front of the layer that predicts classes."""
    recipe = cast(Semseg, trained.recipe)
    classifier = Classifier(trained.run, recipe, trained.which, trained.epoch, 1)
    predictor = ScenePredictor(**vars(classifier))
    network = without_output(recipe.model)

    @torch.no_grad()
    def of_scene(scene: int) -> Features:
        (batch,) = predictor.of_store(store, np.array([scene]))
        moved = {name: tensor.to(_device(network)) for name, tensor in batch.items()}
        _, inputs = recipe.deployable(network, moved)
        return _rows(network(*inputs)[moved["inverse"][:MOST_POINTS]])

    return of_scene


def _of_scenes(recipe: Mvnet, store: ViewStore) -> Callable[[int], Features]:
    """Return the features of a pre-trained network for the shown points of whole scenes."""
    backbone: Any = recipe.model.get_submodule("backbone")
    packed = hasattr(backbone, "forward_packed")
    network = without_output(
        SceneNetwork(backbone, 1)
        if packed
        else PointSceneNetwork(backbone, 1, recipe.config.data.points)
    ).to(_device(backbone))

    @torch.no_grad()
    def of_scene(scene: int) -> Features:
        points, _ = center_in_plan(store.read("points", scene)[:MOST_POINTS])
        arrays = {"points": points, "batch": np.zeros(len(points), np.int64)}
        for name, array in recipe.channels.items():
            arrays[name] = store.read(array, scene)[:MOST_POINTS]
        batch = {n: torch.from_numpy(a).to(_device(network)) for n, a in arrays.items()}
        return _rows(network(batch["points"], batch["batch"], point_inputs(batch)))

    return of_scene


def without_output(network: nn.Module) -> nn.Module:
    """Return a network of scenes whose output are the features of its last layer."""
    found: Any = copy(network).eval()
    found._modules = dict(network._modules)  # the original keeps its last layer
    width = found.output.in_features
    same = nn.Linear(width, width, bias=False)
    with torch.no_grad():
        same.weight.copy_(torch.eye(width))
    found.output = same.to(_device(network)).requires_grad_(False)
    return cast(nn.Module, found)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _rows(features: Tensor) -> Features:
    return cast(Features, features.float().cpu().numpy())
