"""Reading by codec: CPU time per sample and bytes on disk, and where the time goes.

Usage: python benchmarks/codecs.py [--shapes 8] [--batches 20] [--rounds 3]

The images of toy shapes (20 views of 224²) are written once per codec, and as a plain array. A
sample is 4 random views of one shape, read in batches of 32 with one thread; CPU time is that of
the process. Views are read as `ViewStream` does; indexed: zstd in one read with index
arrays. memmap: plain arrays, the lower bound.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.sources.toy import build
from pointcmt.datasets.store.metadata import array_metadata
from pointcmt.datasets.store.schema import CODECS, Schema
from pointcmt.datasets.store.streaming import ViewReads
from pointcmt.geometry import normalize
from pointcmt.render.config import RenderConfig, schema_for
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster

VIEWS, BATCH = 4, 32
Reader = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.uint8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=8)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rgb, schema = images(options.shapes)
    with tempfile.TemporaryDirectory() as folder:
        readers, sizes = written(rgb, schema, Path(folder))
        costs: dict[str, list[float]] = {name: [] for name in readers}
        for round_ in range(options.rounds):
            for name, read in readers.items():
                costs[name].append(per_sample(read, rgb, options.batches, round_))
    typical = {name: statistics.median(times) for name, times in costs.items()}
    for name, seconds in typical.items():
        print(
            f"{name:7} {1e6 * seconds:5.0f} µs a sample; "
            f"{1 / seconds:5.0f} samples per CPU second; "
            f"{sizes[name] / rgb.shape[0] / rgb.shape[1] / 1024:6.1f} KiB a view"
        )


def images(count: int) -> tuple[NDArray[np.uint8], Schema]:
    """Return the images of toy shapes [O,V,H,W,3], and the schema of their store."""
    config = RenderConfig(find_rig("dodeca20"), size=224)
    camera = config.rig.cameras(config.size)
    rows = []
    for record in select(list_shapes("toy", None), None, count).shapes:
        mesh, _ = normalize(build(record.id), "z")
        rows.append(draw_views(RayCaster(mesh), camera, config).rgb)
    return np.stack(rows), schema_for(config, len(rows), shard=len(rows))


def written(
    rgb: NDArray[np.uint8], schema: Schema, folder: Path
) -> tuple[dict[str, Reader], dict[str, int]]:
    """Write the images in each way; return how to read them, and their bytes on disk."""
    readers: dict[str, Reader] = {}
    sizes = {}
    for codec in CODECS:
        place = folder / codec
        place.mkdir()
        (place / "zarr.json").write_bytes(array_metadata(replace(schema, codec=codec), "rgb"))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(place)}}
        threads = {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}}
        array = ts.open(spec, open=True, context=ts.Context(threads)).result()
        array.write(rgb).result()
        readers[codec] = lambda o, v, array=array: ViewReads(array, (o, v)).result()
        if codec == CODECS[0]:
            readers["indexed"] = lambda o, v, array=array: array[o, v].read().result()
        sizes[codec] = sum(f.stat().st_size for f in (place / "c").rglob("*") if f.is_file())
    sizes["indexed"] = sizes[CODECS[0]]
    np.save(folder / "rgb.npy", rgb)
    plain = np.load(folder / "rgb.npy", mmap_mode="r")
    readers["memmap"] = lambda o, v: plain[o, v]
    sizes["memmap"] = rgb.nbytes
    return readers, sizes


def per_sample(read: Reader, rgb: NDArray[np.uint8], batches: int, seed: int) -> float:
    """Return seconds of CPU time per sample, after a batch that is checked."""
    rng = np.random.default_rng(seed)
    seconds = 0.0
    for batch in range(batches + 1):
        shapes = rng.integers(0, len(rgb), BATCH).repeat(VIEWS)
        views = rng.random((BATCH, rgb.shape[1])).argsort(axis=1)[:, :VIEWS].reshape(-1)
        started = time.process_time()
        found = read(shapes, views)
        spent = time.process_time() - started
        if batch:
            seconds += spent
        elif not np.array_equal(found, rgb[shapes, views]):
            raise SystemExit("what is read is not what was written")
    return seconds / batches / BATCH


if __name__ == "__main__":
    main()
