"""Streaming for training: batches from a view store against a folder of PNG files, alternating.

Usage: python benchmarks/stream.py [--store S] [--shapes 120] [--seconds 8] [--rounds 3]

A sample is 4 random views and 2,048 points of one shape. Three ways to read them, each in a
separate process, with batches of 32:
  png      the usual way: a folder of PNG files and .npy clouds, torch's DataLoader, two workers
  store    `datasets.streaming.ViewStream`, no workers, two decoding threads
  memmap   uncompressed arrays, one process: the lower bound on the cost of reading
Without --store, a store of toy shapes is rendered first (20 views of 224²).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from pointcmt.datasets.store.schema import DONE
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream
from pointcmt.datasets.store.view_store import ViewStore

VIEWS, POINTS, BATCH, WORKERS = 4, 2048, 32, 2
WAYS = ("png", "store", "memmap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--shapes", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)  # one way, in a child
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.place, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place, options)
        rows = {way: [] for way in WAYS}
        for round_ in range(options.rounds):
            for way in WAYS:
                rows[way].append(child(way, place, options.seconds))
            shown = "  ".join(f"{way} {rows[way][-1]:6.0f}/s" for way in WAYS)
            ratio = rows["store"][-1] / rows["png"][-1]
            print(f"round {round_}: {shown}   store/png {ratio:.2f}", flush=True)
    ratios = [s / p for s, p in zip(rows["store"], rows["png"], strict=True)]
    bound = [s / m for s, m in zip(rows["store"], rows["memmap"], strict=True)]
    for way in WAYS:
        print(f"{way:7} median {statistics.median(rows[way]):6.0f} samples/s")
    print(
        f"store/png {statistics.median(ratios):.2f}   store/memmap {statistics.median(bound):.2f}"
    )


def child(way: str, place: Path, seconds: float) -> float:
    """Return samples per second of one way, measured in a separate process."""
    command = [sys.executable, __file__, "--only", way, "--place", place, "--seconds", seconds]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(way: str, place: Path, seconds: float) -> float:
    """Return samples per second after one epoch of warm-up."""
    batches: Iterator[int] = WAYS_TO_READ[way](place)
    for _ in range(8):
        next(batches)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        count += next(batches)
    return count / (time.perf_counter() - started)


def prepare(place: Path, options: argparse.Namespace) -> None:
    """Write the same shapes as a store, as PNG files, and as plain arrays."""
    source = options.store or place / "toy"
    if options.store is None:
        command = ["render", "--dataset", "toy", "--out", source, "--limit", options.shapes]
        run = [sys.executable, "-m", "pointcmt", *map(str, command)]
        subprocess.run(run, check=True, capture_output=True)
    store = ViewStore.open(source)
    (place / "store").symlink_to(Path(source).absolute())
    shapes = np.flatnonzero(store.status() == DONE)[: options.shapes]
    size, views = store.schema.size, store.schema.views
    rgb = np.lib.format.open_memmap(
        place / "rgb.npy", "w+", np.uint8, (len(shapes), views, size, size, 3)
    )
    points = np.lib.format.open_memmap(
        place / "points.npy", "w+", np.float32, (len(shapes), POINTS, 3)
    )
    for index, shape in enumerate(shapes):
        rgb[index], points[index] = store.read("rgb", shape), store.read("points", shape)[:POINTS]
        folder = place / "png" / f"{index:05d}"
        folder.mkdir(parents=True)
        np.save(folder / "points.npy", points[index])
        for view in range(views):
            Image.fromarray(rgb[index, view]).save(folder / f"{view:02d}.png")
    facts = {"shapes": shapes.tolist(), "views": views}
    (place / "facts.json").write_text(json.dumps(facts))
    megabytes = sum(f.stat().st_size for f in (place / "png").rglob("*.png")) / 2**20
    print(
        f"{len(shapes)} shapes × {views} views of {size}², {megabytes:.0f} MiB of PNG", flush=True
    )


class PngFolder(Dataset):
    """Dataset of shapes, each with some random views and its points, from files."""

    def __init__(self, place: Path) -> None:
        facts = json.loads((place / "facts.json").read_text())
        self.place, self.shapes, self.views = place, len(facts["shapes"]), facts["views"]

    def __len__(self) -> int:
        return self.shapes

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        folder = self.place / "png" / f"{index:05d}"
        chosen = torch.randperm(self.views)[:VIEWS].tolist()
        images = [np.asarray(Image.open(folder / f"{view:02d}.png")) for view in chosen]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.load(folder / "points.npy"))


def read_png(place: Path) -> Iterator[int]:
    data = PngFolder(place)
    endless = RandomSampler(data, replacement=True, num_samples=10**9)  # no pause between epochs
    for images, _ in DataLoader(data, BATCH, sampler=endless, num_workers=WORKERS):
        yield len(images)


def read_store(place: Path) -> Iterator[int]:
    store = ViewStore.open(place / "store")
    shapes = np.tile(json.loads((place / "facts.json").read_text())["shapes"], 1000)
    stream = ViewStream(store, shapes, StreamConfig(("rgb", "points"), BATCH, VIEWS, POINTS))
    for batch in stream:
        yield len(batch["label"])


def read_memmap(place: Path) -> Iterator[int]:
    rgb, points = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("rgb", "points"))
    rng = np.random.default_rng(0)
    while True:
        shapes = rng.integers(0, len(rgb), BATCH)
        views = rng.random((BATCH, rgb.shape[1])).argsort(axis=1)[:, :VIEWS]
        torch.from_numpy(rgb[shapes[:, None], views])
        torch.from_numpy(points[shapes])
        yield BATCH


WAYS_TO_READ: dict[str, Callable[[Path], Iterator[int]]] = {
    "png": read_png,
    "store": read_store,
    "memmap": read_memmap,
}

if __name__ == "__main__":
    main()
