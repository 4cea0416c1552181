"""Image-network features of every view, computed once and kept in the store."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointcmt.console import Paced, meter
from pointcmt.datasets.store.features import Features, Images, view_counts

VIEWS_AT_ONCE = 64  # images per pass of the encoder, whatever the shard size


def teacher_key(encoder: nn.Module, backbone: str, image_size: int) -> str:
    """Return 16 hexadecimal digits that identify an encoder's features.

    They are from the SHA-256 of backbone, image size and every tensor's name, type, shape and
    bytes.
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
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Compute and store missing features of all shards that hold any of these shapes.

    rank, world_size: this process and the number of processes, which share the shards.
    A shard is committed as soon as it is done; an interruption loses at most one.
    """
    store = features.store
    wanted = set((shapes // store.schema.shard).tolist())
    shards = sorted(wanted & {s for s in features.pending() if s % world_size == rank})
    if not shards:
        return
    total = sum(len(store.schema.shapes_of(shard)) for shard in shards)
    with meter("encoding views", total, "shapes") as bar:
        progress = Paced(bar)
        for images, rgb in _read_ahead(features, shards):
            array = np.zeros((*rgb.shape[:2], features.width), np.float16)
            counts = view_counts(store, store.schema.shapes_of(images.shard))
            used = images.done[:, None] & (np.arange(rgb.shape[1]) < counts[:, None])  # [s, V]
            array[used] = _encode(encode, rgb[used])
            features.write(images, array)
            progress.advance(len(rgb), now=images.shard == shards[-1])


def _read_ahead(
    features: Features, shards: list[int]
) -> Iterator[tuple[Images, NDArray[np.uint8]]]:
    """Yield the images [s, V, H, W, 3] of each shard while decoding the next one."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(features.read_images, shards[0])
        for shard in [*shards[1:], None]:
            current = following.result()
            if shard is not None:
                following = pool.submit(features.read_images, shard)
            yield current


@torch.no_grad()
def _encode(encode: Encode, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Images [n, H, W, 3] → features [n, D], in batches of a machine-independent size."""
    parts = [encode(part).half().cpu() for part in torch.from_numpy(rgb).split(VIEWS_AT_ONCE)]
    return torch.cat(parts).numpy()
