"""Take packed batches apart: those whose points [ΣN,...] are numbered by sample."""

import torch

from pointcmt.datasets.store.epochs import Batch

SAMPLES = ("shape", "point_count")  # arrays with an entry per sample
ORIGINALS = ("inverse", "point_semantic")  # with one per original point, of whole scenes


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count` micro-batches with almost equal numbers of samples.

    A packed batch is split between samples, whose numbers begin at 0 in each micro-batch.
    """
    if "batch" in batch:
        samples = torch.arange(len(batch["shape"]))
        return [_select(batch, own) for own in torch.tensor_split(samples, count)]
    parts = {name: torch.tensor_split(data, count) for name, data in batch.items()}
    return [{name: parts[name][i] for name in parts} for i in range(count)]


def _select(batch: Batch, samples: torch.Tensor) -> Batch:
    """Return consecutive samples of a packed batch."""
    own = slice(int(samples[0]), int(samples[-1]) + 1) if len(samples) else slice(0, 0)
    rows = _rows(batch["batch"].bincount(minlength=len(batch["shape"])), own)
    kinds = dict.fromkeys(batch, rows) | dict.fromkeys(SAMPLES, own)
    if "point_count" in batch:
        kinds |= dict.fromkeys(ORIGINALS, _rows(batch["point_count"], own))
    selected = {name: data[kinds[name]] for name, data in batch.items()}
    selected["batch"] = selected["batch"] - own.start
    if "inverse" in selected:
        selected["inverse"] = selected["inverse"] - rows.start
    return selected


def _rows(counts: torch.Tensor, samples: slice) -> slice:
    """Return the rows of some samples, from the number of rows of each."""
    return slice(int(counts[: samples.start].sum()), int(counts[: samples.stop].sum()))
