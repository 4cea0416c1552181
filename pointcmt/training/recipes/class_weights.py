"""The weight of each class in a classifier's loss, for data whose classes differ in size."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError, nearest
from pointcmt.training.config.sections import Loss
from pointcmt.training.runs.splits import class_counts


def find_weights(
    loss: Loss, store: StoreReader, train: NDArray[np.int64], device: torch.device | str = "cpu"
) -> Tensor | None:
    """Return the weights of a store's classes of shapes, see `weigh_classes`. train: shapes [n]."""
    return weigh_classes(loss, store.class_names, lambda: class_counts(store, train), device)


def weigh_classes(
    loss: Loss,
    names: Sequence[str],
    count: Callable[[], NDArray[np.int64]],
    device: torch.device | str = "cpu",
) -> Tensor | None:
    """Return the weights of classes, [C] f32; None if all are 1.

    names: of the classes. count: returns how many train shapes (or points) each has, [C].
    balanced: w_c = n / (K · n_c) over the K classes that have any, as in scikit-learn, so that each
    class has the same total weight and the mean over all of train is 1; 0 for the others. A table's
    weights are taken as they are. Raises like `require_classes`.
    """
    require_classes(loss, names)
    if loss.class_weights == "none":
        return None
    if isinstance(loss.class_weights, dict):
        given = [loss.class_weights.get(name, 1.0) for name in names]
        return torch.tensor(given, dtype=torch.float32, device=device)
    counts = count().astype(np.float64)
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return torch.from_numpy(np.where(present, weights, 0.0).astype(np.float32)).to(device)


def require_classes(loss: Loss, names: Sequence[str]) -> None:
    """Raise UsageError for a weight of a class that the store does not have."""
    given = loss.class_weights if isinstance(loss.class_weights, dict) else {}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(
            f"the store has no class '{unknown[0]}'",
            where="loss.class_weights",
            fix=nearest(unknown[0], names),
        )
