"""The weight of each class in a classifier's loss, for data whose classes differ in size."""

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
    """Return the weights of a store's classes, [C] f32; None if all are 1. train: shapes [n].

    balanced: w_c = n / (K · n_c) over the K classes that have train shapes, as in scikit-learn, so
    that each class has the same total weight and the mean over the train shapes is 1; 0 for the
    others. A table's weights are taken as they are. Raises UsageError for a class that the store
    does not have.
    """
    names = store.class_names
    if loss.class_weights == "none":
        return None
    if isinstance(loss.class_weights, dict):
        unknown = [name for name in loss.class_weights if name not in names]
        if unknown:
            raise UsageError(
                f"the store has no class '{unknown[0]}'",
                where="loss.class_weights",
                fix=nearest(unknown[0], names),
            )
        given = [loss.class_weights.get(name, 1.0) for name in names]
        return torch.tensor(given, dtype=torch.float32, device=device)
    counts = class_counts(store, train).astype(np.float64)
    present = counts > 0
    weights = np.where(present, len(train) / (present.sum() * np.maximum(counts, 1)), 0.0)
    return torch.from_numpy(weights.astype(np.float32)).to(device)
