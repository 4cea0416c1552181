"""Features of a teacher's views, kept in the store, and what a trained teacher makes of them.

The encoder's features per view are computed once (`store/features.py`): later runs, and teachers
with the same encoder but another head or pooling, read them instead of the images. So does the
training of a teacher whose encoder is frozen, if asked to.
"""

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from pointcmt.datasets.store.features import Features, create_features
from pointcmt.datasets.store.schema import DONE
from pointcmt.datasets.store.view_store import Share, StoreReader
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.pointcmt import TeacherConfig
from pointcmt.training.images.features import compute_features, teacher_key
from pointcmt.training.images.files import described_network
from pointcmt.training.images.networks import AUTO
from pointcmt.training.networks.mvcnn import MVCNN, build_mvcnn
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.folder import BEST, Run, require_classes


@dataclass(frozen=True)
class TeacherFeatures:
    """For n shapes, on the CPU: the pooled feature [n, 512] f32 and the logits [n, C] f32."""

    feature: Tensor
    logits: Tensor


def teacher_features(
    store: StoreReader,
    run: Run,
    shapes: NDArray[np.int64],
    device: torch.device,
    processes: Accelerator | None = None,
) -> TeacherFeatures:
    """Return feature and logits of the run's best checkpoint for rendered shapes [n], in order.

    All views of a shape are pooled; their features are stored in 16 bits first (relative error
    2⁻¹¹). Missing features are computed by whole shards; if interrupted, the next call continues
    there. processes: if several call this at the same time, each computes a part. Deterministic
    on a CPU with the same number of threads.

    Raises UsageError for a run that is not a teacher or images that its encoder cannot take,
    StoreError for a run without a checkpoint, other classes, shapes that are not rendered, or a
    damaged store.
    """
    config = run.config
    if not isinstance(config, TeacherConfig):
        raise UsageError(
            f"this run is not a teacher; its recipe is {config.recipe}",
            where=str(run.folder),
            fix="pass a run of `pointcmt train teacher`",
        )
    require_classes(run, store)
    shapes = np.asarray(shapes, np.int64)
    if np.any(store.status()[shapes] != DONE):
        raise StoreError("some of these shapes have not been rendered", where=store.path)
    model = _load(run, config, device)
    found = TeacherFeatures(
        torch.empty(len(shapes), model.classifier.in_features),
        torch.empty(len(shapes), model.classifier.out_features),
    )
    for features, share in cache_views(model, config, store, shapes, processes):
        own = _pool(model, features, share.shapes)
        found.feature[share.rows], found.logits[share.rows] = own.feature, own.logits
    return found


def cache_views(
    model: MVCNN,
    config: TeacherConfig,
    store: StoreReader,
    shapes: NDArray[np.int64],
    processes: Accelerator | None = None,
) -> list[tuple[Features, Share]]:
    """Return the encoder's features of all views of rendered shapes [n], by member of the store.

    model: on its device. Missing features are computed by whole shards; if interrupted, the next
    call continues there. processes: see `teacher_features`. All members of a joint store have the
    array under the same name, as a stream expects. Raises UsageError for images that the encoder
    cannot take, StoreError for a damaged store.
    """
    backbone, image_size = config.model.backbone, config.data.image_size
    known = model.known
    if backbone == AUTO:  # in training from its folder, later from the run: the same either way
        known = described_network(config.model.architecture, "model.architecture")
    what = " ".join(filter(None, (backbone, known.fingerprint)))
    key = teacher_key(model.encoder, what, image_size)
    facts = {"teacher": key, "backbone": known.name, "image_size": image_size}
    rank, world_size = (processes.process_index, processes.num_processes) if processes else (0, 1)

    def encode(views: Tensor) -> Tensor:
        return model.encode(views[:, None].to(model.mean.device))[:, 0]

    every = [create_features(member, key, model.width, facts) for member in store.members]
    found = [(every[share.number], share) for share in store.shares(shapes)]
    for features, share in found:
        compute_features(encode, features, share.shapes, rank, world_size)
    if processes:
        processes.wait_for_everyone()
    for features, share in found:
        features.require_fresh(share.shapes)
    return found


def _load(run: Run, config: TeacherConfig, device: torch.device) -> MVCNN:
    """Load the run's best checkpoint, in evaluation mode."""
    settings = config.model
    model = build_mvcnn(
        settings.backbone,
        "random",
        len(run.class_names),
        config.data.image_size,
        settings.pooling,
        architecture=settings.architecture,
    )
    load_weights(run.folder / BEST, model)
    return model.to(device).eval()


@torch.no_grad()
def _pool(model: MVCNN, features: Features, shapes: NDArray[np.int64]) -> TeacherFeatures:
    """Pool the views and classify, shard by shard."""
    shard_of = shapes // features.store.schema.shard
    feature = torch.empty(len(shapes), model.classifier.in_features)
    logits = torch.empty(len(shapes), model.classifier.out_features)
    for shard in np.unique(shard_of):
        rows = np.flatnonzero(shard_of == shard)
        per_view = torch.from_numpy(features.read_fresh(shapes[rows])).to(model.mean.device).float()
        pooled = model.pool(per_view)  # [k, 512]
        feature[rows], logits[rows] = pooled.cpu(), model.classifier(pooled).cpu()
    return TeacherFeatures(feature, logits)
