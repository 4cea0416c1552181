"""What a trained teacher thinks of the shapes of a store: feature and logits, for its students.

The encoder's features per view are computed once and kept in the store (`datasets/features.py`):
later runs, other heads and other poolings of the same encoder read them instead of the images.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.console import meter
from pointcmt.datasets.features import Features, Images, create_features
from pointcmt.datasets.schema import DONE
from pointcmt.datasets.store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.checkpoint import load_weights
from pointcmt.training.config import TeacherConfig
from pointcmt.training.mvcnn import MVCNN, build_mvcnn
from pointcmt.training.progress import Paced
from pointcmt.training.run import BEST, Run, require_classes

VIEWS_AT_ONCE = 64  # images in one pass of the encoder, whatever the shard holds


@dataclass(frozen=True)
class TeacherFeatures:
    """Of n shapes, on the CPU: the pooled feature [n, 512] f32 and the logits [n, C] f32."""

    feature: Tensor
    logits: Tensor


def teacher_features(
    store: ViewStore,
    run: Run,
    shapes: NDArray[np.int64],
    device: torch.device,
    log_format: str = "auto",
    processes: Accelerator | None = None,
) -> TeacherFeatures:
    """Feature and logits of the run's best checkpoint for shapes [n], rendered ones, in this order.

    From all views of a shape, whose features are stored in 16 bits (relative error 2⁻¹¹) before
    they are pooled. What the store lacks is computed first, whole shards at a time; killed, it goes
    on there. processes: several that ask for the same at once each compute a part. Deterministic
    on a CPU with the same number of threads.

    Raises UsageError for a run that is no teacher or images its encoder cannot take, StoreError
    for a run without a checkpoint, other classes, shapes that are not rendered, or a damaged store.
    """
    config = run.config
    if not isinstance(config, TeacherConfig):
        raise UsageError(
            f"this run is no teacher, its recipe is {config.recipe}",
            where=str(run.folder),
            fix="give a run of `pointcmt train teacher`",
        )
    require_classes(run, store)
    shapes = np.asarray(shapes, np.int64)
    if np.any(store.status()[shapes] != DONE):
        raise StoreError("some of these shapes are not rendered", where=store.path)
    model = _load(run, config, device)
    backbone, image_size = config.model.backbone, config.data.image_size
    what = " ".join(filter(None, (backbone, model.known.fingerprint)))
    key = teacher_key(model.encoder, what, image_size)
    facts = {"teacher": key, "backbone": model.known.name, "image_size": image_size}
    features = create_features(store, key, model.width, facts)
    rank, ranks = (processes.process_index, processes.num_processes) if processes else (0, 1)

    def encode(views: Tensor) -> Tensor:
        return model.encode(views[:, None].to(device))[:, 0]

    compute_features(encode, features, shapes, log_format, rank, ranks)
    if processes:
        processes.wait_for_everyone()
    features.require_fresh(shapes)
    return _pool(model, features, shapes)


def teacher_key(encoder: nn.Module, backbone: str, image_size: int) -> str:
    """16 hexadecimal digits that name an encoder's features: those of any other one differ.

    Of the SHA-256 over backbone, image size and every tensor's name, type, shape and bytes.
    """
    digest = hashlib.sha256(f"{backbone} {image_size}".encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


Encode = Callable[[Tensor], Tensor]  # views [n, H, W, 3] u8, on the CPU → features [n, D]


def compute_features(
    encode: Encode,
    features: Features,
    shapes: NDArray[np.int64],
    log_format: str = "auto",
    rank: int = 0,
    ranks: int = 1,
) -> None:
    """Compute and store the features of all shards that hold one of these shapes and lack them.

    rank, ranks: this process and their number, which share the shards.
    A shard is committed as soon as it is done; killed, at most one is lost.
    """
    store = features.store
    wanted = set((shapes // store.schema.shard).tolist())
    shards = sorted(wanted & {s for s in features.pending() if s % ranks == rank})
    if not shards:
        return
    total = sum(len(store.schema.shapes_of(shard)) for shard in shards)
    with meter("encoding views", total, "shapes", log_format) as bar:
        progress = Paced(bar)
        for images, rgb in _read_ahead(features, shards):
            array = np.zeros((*rgb.shape[:2], features.width), np.float16)
            array[images.done] = _encode(encode, rgb[images.done])
            features.write(images, array)
            progress.advance(len(rgb), now=images.shard == shards[-1])


def _load(run: Run, config: TeacherConfig, device: torch.device) -> MVCNN:
    """The run's best checkpoint, in evaluation mode."""
    knobs = config.model
    model = build_mvcnn(
        knobs.backbone,
        "random",
        len(run.class_names),
        config.data.image_size,
        knobs.pooling,
        architecture=knobs.architecture,
    )
    load_weights(run.folder / BEST, model)
    return model.to(device).eval()


def _read_ahead(
    features: Features, shards: list[int]
) -> Iterator[tuple[Images, NDArray[np.uint8]]]:
    """The images [s, V, H, W, 3] of each shard; the next one is decoded meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(features.read_images, shards[0])
        for shard in [*shards[1:], None]:
            current = following.result()
            if shard is not None:
                following = pool.submit(features.read_images, shard)
            yield current


@torch.no_grad()
def _encode(encode: Encode, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Images [s, V, H, W, 3] → features [s, V, D], in batches that do not depend on the machine."""
    views = torch.from_numpy(rgb).flatten(0, 1)  # [s·V, H, W, 3]
    parts = [encode(part).half().cpu() for part in views.split(VIEWS_AT_ONCE)]
    return torch.cat(parts).view(*rgb.shape[:2], -1).numpy()


@torch.no_grad()
def _pool(model: MVCNN, features: Features, shapes: NDArray[np.int64]) -> TeacherFeatures:
    """Pool and classify, shard by shard."""
    shard_of = shapes // features.store.schema.shard
    feature = torch.empty(len(shapes), model.classifier.in_features)
    logits = torch.empty(len(shapes), model.classifier.out_features)
    for shard in np.unique(shard_of):
        rows = np.flatnonzero(shard_of == shard)
        per_view = torch.from_numpy(features.read_fresh(shapes[rows])).to(model.mean.device).float()
        pooled = model.pool(per_view)  # [k, 512]
        feature[rows], logits[rows] = pooled.cpu(), model.classifier(pooled).cpu()
    return TeacherFeatures(feature, logits)
