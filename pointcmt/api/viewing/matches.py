"""Matches of a pre-trained network: where it predicts a view's pixels in another view."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.api.stores import ViewStore
from pointcmt.datasets.store.epochs import Batch
from pointcmt.datasets.store.scene_streams.pairs import PairConfig, PairStream
from pointcmt.datasets.streams import evaluation_config, read_batch
from pointcmt.errors import DamageError, StoreError
from pointcmt.training.ops.matches import DepthViews, Matches, match_views
from pointcmt.training.recipes.mvnet import Mvnet
from pointcmt.training.recipes.mvnet_pictures import OVERLAP, TOKENS, most_similar
from pointcmt.training.recipes.mvnet_terms import drop_holes
from pointcmt.view.overlay import ViewMatches

OF_VIEWS = ("visible", "depth", "K", "world_to_camera")


class MatchOverlay:
    """Matches of each shown view with the one that shows about half of it. They are computed when a
    shape is shown, one at a time.
    """

    def __init__(self, recipe: Mvnet, store: ViewStore) -> None:
        self._recipe, self._store, self._lock = recipe, store, Lock()
        model: Any = recipe.model.eval()
        self._model = model
        if model.head is not None:  # what an image network would be compared to
            model.head.levels = nn.ModuleList()

    def about(self) -> dict[str, Any]:
        return {}

    def line(self, shape: int) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def data(self, shape: int, views: Sequence[int]) -> dict[str, Any]:
        with self._lock:
            of_scenes = self._recipe.config.scenes is not None
            found = (self._of_scene if of_scenes else self._of_object)(shape, np.array(views))
        return {} if found is None else found.data()

    def _of_object(self, shape: int, views: NDArray[np.int64]) -> ViewMatches | None:
        if len(views) < 2:
            return None
        read = read_batch(self._store, np.array([shape]), self._recipe.stream)
        batch = {name: data.to(self._device) for name, data in read.items()}
        batch |= {name: batch[name][:, views] for name in OF_VIEWS}
        partner = half_overlapping(DepthViews(*(batch[name][0] for name in OF_VIEWS[1:])))
        pairs = torch.stack([torch.arange(len(views), device=self._device), partner], dim=1)
        maps = self._recipe.project(batch)
        points, features = self._recipe.inputs(batch)
        images = self._model.paint(points, maps, features)[pairs.flatten()]
        covered = maps.covered.flatten(0, 1)[pairs.flatten()]
        both = {name: batch[name][0][pairs] for name in OF_VIEWS}
        return self._compare(both, images, covered, partner.tolist(), range(len(views)))

    def _of_scene(self, scene: int, views: NDArray[np.int64]) -> ViewMatches | None:
        pairs = self._pairs_of(scene, views)
        if not pairs:
            return None
        stream, chosen = pairs
        read = [stream.read_pair(scene, int(views[a]), int(views[b])) for a, b in chosen]
        images, covered = [], []
        for one in read:  # a pair at a time: each has points of its own
            batch = {n: torch.from_numpy(np.asarray(a)).to(self._device) for n, a in one.items()}
            maps = self._recipe.project(batch)
            points, features = self._recipe.inputs(batch)
            images.append(self._model.paint(points, maps, features))
            covered.append(maps.covered.flatten(0, 1))
        both = {
            name: torch.from_numpy(np.concatenate([one[name] for one in read])).to(self._device)
            for name in OF_VIEWS
        }
        partner = [-1] * len(views)
        for a, b in chosen:
            partner[a] = b
        firsts = [a for a, _ in chosen]
        return self._compare(both, torch.cat(images), torch.cat(covered), partner, firsts)

    def _pairs_of(
        self, scene: int, views: NDArray[np.int64]
    ) -> tuple[PairStream, list[tuple[int, int]]] | None:
        """Return each shown frame with the next one that makes a pair with it, by place."""
        config = evaluation_config(self._recipe.stream, 1)  # a scene may have few pairs
        assert isinstance(config, PairConfig)
        try:
            stream = PairStream(self._store, np.array([scene]), config)
        except DamageError:
            raise
        except StoreError:  # no two of its frames overlap enough
            return None
        shown = stream.partners(scene)[np.ix_(views, views)]
        order = (np.arange(len(views)) + np.arange(1, len(views) + 1)[:, None]) % len(views)
        found = []
        for a, others in enumerate(order):
            fitting = [b for b in others.tolist() if shown[a, b]]
            found += [(a, fitting[0])] if fitting else []
        return (stream, found) if found else None

    def _compare(
        self,
        batch: Batch,
        images: Tensor,
        covered: Tensor,
        partner: Sequence[int],
        firsts: Sequence[int],
    ) -> ViewMatches:
        """Compare P pairs. batch: arrays [P,2,…]; images [2P,W,h,w], covered [2P,h,w]. firsts [P]:
        the places of the first views; partner: by place, of all views.
        """
        output = self._model.compare(images, covered, [])
        matches: Matches = drop_holes(self._recipe.match(batch), covered)
        predicted = output.matching
        if self._recipe.config.matching.method == "infonce":
            predicted = most_similar(predicted, matches.here)
        image, (rows, columns) = matches.image, matches.valid.shape[1:]
        empty = np.zeros((len(partner), rows, columns), bool)
        valid, true = empty, np.zeros((*empty.shape, 2))
        guess = true.copy()
        valid[firsts] = matches.valid[::2].cpu().numpy()
        true[firsts] = matches.uv[::2].cpu().numpy()
        guess[firsts] = (predicted[::2].double() * image).cpu().numpy()
        u, v = matches.pixel[0, :, 0], matches.pixel[:, 0, 1]
        return ViewMatches(np.array(partner), u.cpu().numpy(), v.cpu().numpy(), valid, true, guess)

    @property
    def _device(self) -> torch.device:
        return next(self._recipe.model.parameters()).device


def half_overlapping(views: DepthViews) -> Tensor:
    """Return for each of v views the other one that shows about half of it, [v]."""
    count, chosen = len(views.depth), []
    for view in range(count):
        first = DepthViews(*(each[view : view + 1].expand_as(each) for each in views))
        matches = match_views(first, views, TOKENS)
        visible = matches.foreground.flatten(1).sum(1).clamp(min=1)
        difference = (matches.valid.flatten(1).sum(1) / visible - OVERLAP).abs()
        difference[view] = torch.inf
        chosen.append(difference.argmin())
    return torch.stack(chosen)
