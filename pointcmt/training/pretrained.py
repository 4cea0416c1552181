"""The point network inside a run, whatever the recipe: which one it is, and its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointcmt.errors import UsageError
from pointcmt.training.backbones import BACKBONES
from pointcmt.training.checkpoint import read_weights, require_fit
from pointcmt.training.run import BEST, Run, open_run

HEAD = ("head.", "classifier.")  # what only classes need


@dataclass(frozen=True)
class PointNetwork:
    """backbone: its name. points: how many it was trained on. weights: by the network's own names.

    epoch: of the checkpoint they are from.
    """

    run: Run
    backbone: str
    points: int
    epoch: int
    weights: dict[str, Tensor]

    def build_random(self) -> nn.Module:
        """The network as torch's seed makes it, in evaluation mode."""
        return BACKBONES[self.backbone](len(self.run.class_names)).eval()

    def build(self) -> nn.Module:
        """The network with these weights, in evaluation mode. Raises StoreError if they differ."""
        model = self.build_random()
        fix = "train again into a new --out"
        require_fit(self.weights, model.state_dict(), str(self.run.folder), fix)
        model.load_state_dict(self.weights)
        return model


def open_network(folder: Path, which: str = BEST) -> PointNetwork:
    """The point network of a run's checkpoint (a folder of the run).

    Raises UsageError for a run without a point network, StoreError as `open_run`, and where there
    is no checkpoint.
    """
    run = open_run(folder)
    config: Any = run.config
    prefix = config.point_network
    if prefix is None:
        raise UsageError(
            f"a run of the recipe '{config.recipe}' has no point network",
            where=str(folder),
            fix="give a run whose network takes points",
        )
    scalars, weights = read_weights(folder / which)
    own = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
    return PointNetwork(run, config.model.backbone, config.data.points, scalars["epoch"], own)
