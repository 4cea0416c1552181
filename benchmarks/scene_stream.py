"""Streams of scenes against a folder of PNG and .npy files, alternating.

Usage: python benchmarks/scene_stream.py [--rooms S] [--count 6] [--seconds 8] [--rounds 3]
           [--kinds pairs 5cm 2cm]

Each way runs in a separate process:
  files   the usual way: PNG images and .npy arrays, torch's DataLoader, two workers
  store   `PairStream` or `CropStream`, no worker processes, two threads
What is read:
  pairs   two overlapping frames of 240 × 320 pixels of a toy room with color and depth, and 8,192
          of its points, in batches of 16. The files' pairs are given beforehand, and their points
          are only those that a frame sees: a tree to find their neighbors takes 0.2 s per pair
  5cm, 2cm   the 100,000 voxels of this size around a random point, with color and classes, in
          batches of 4, from synthetic rooms of 12 × 9 × 3 m with a million points. From the files,
          voxels are the runs of a sorted hash, and the nearest ones are sorted by distance
A new stream of pairs also finds overlaps and the neighbors of each room's points, once; the rate of
its first epoch of 8 pairs per room, from its opening on, is shown apart. Without --rooms, toy rooms
are rendered first, for some minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from pointcmt.datasets import sources
from pointcmt.datasets.sources.listing import Listing
from pointcmt.datasets.store.scene_streams.crops import CropConfig, CropStream
from pointcmt.datasets.store.scene_streams.overlaps import frame_overlaps
from pointcmt.datasets.store.scene_streams.pairs import PairConfig, PairStream
from pointcmt.datasets.store.scene_streams.stream import SceneStream
from pointcmt.datasets.store.schema import DONE, ShapeRecord, pack_visible
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import create_store, job_of_listing, tasks
from pointcmt.render.jobs.shards import ShardRunner
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.scenes import SceneData, SceneLabels, ScenePoints

POINTS, CROP, WORKERS = 8192, 100_000, 2
PAIR_BATCH, CROP_BATCH = 16, 4
LARGE, SIZE = 1 << 20, np.array([12.0, 9.0, 3.0])  # points and meters of the synthetic rooms
VOXELS = {"5cm": 0.05, "2cm": 0.02}
EPOCH = {"pairs": 8, "5cm": 4, "2cm": 4}  # samples per room
KINDS, WAYS = ("pairs", *VOXELS), ("files", "store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=Path, help="a store of toy rooms")
    parser.add_argument("--count", type=int, default=6, help="rooms of each kind")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # kind and way, in a child
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(*options.only, options.place, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place, options)
        for kind in options.kinds:
            compare(kind, place, options)


def compare(kind: str, place: Path, options: argparse.Namespace) -> None:
    """Measure both ways in turn and print their rates."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS:
            rows[way].append(child(kind, way, place, options.seconds))
        files, store = (rows[way][-1]["rate"] for way in WAYS)
        print(f"{kind} round {number}: files {files:.1f}/s  store {store:.1f}/s", flush=True)

    def median(way: str, name: str) -> float:
        return statistics.median(row[name] for row in rows[way])

    pairs = zip(rows["files"], rows["store"], strict=True)
    ratio = statistics.median(store["rate"] / files["rate"] for files, store in pairs)
    for way in WAYS:
        print(
            f"{kind} {way}: {median(way, 'rate'):.1f}/s, first epoch {median(way, 'first'):.1f}/s, "
            f"{median(way, 'cpu'):.1f} ms of CPU"
        )
    print(f"{kind}: store/files {ratio:.2f}", flush=True)


def child(kind: str, way: str, place: Path, seconds: float) -> dict[str, float]:
    """Return what `measure` does, in a separate process."""
    command = [sys.executable, __file__, "--only", kind, way, "--place", place]
    done = subprocess.run(
        [*map(str, command), "--seconds", str(seconds)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, way: str, place: Path, seconds: float) -> dict[str, float]:
    """Return samples per second in the first epoch and after it, and the CPU time of each (ms).

    The first epoch counts what is done once per scene: a second stream is opened after the
    libraries are loaded and all functions are compiled. CPU time is that of all processes.
    """
    read = {"files": read_files, "store": read_store}[way]
    warm = read(kind, place)
    next(warm)
    warm.close()
    spent, begun, batches = cpu_time(), time.perf_counter(), read(kind, place)
    epoch = EPOCH[kind] * len(json.loads((place / "pairs.json").read_text()))
    count = read_until(batches, lambda count: count >= epoch)
    first, begun = count / (time.perf_counter() - begun), time.perf_counter()
    more = read_until(batches, lambda _: time.perf_counter() - begun >= seconds)
    rate = more / (time.perf_counter() - begun)
    batches.close()  # the workers end, and their time is known
    return {"first": first, "rate": rate, "cpu": (cpu_time() - spent) / (count + more) * 1e3}


def cpu_time() -> float:
    """Return the CPU seconds of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def read_until(batches: Generator[int, None, None], is_enough: Callable[[int], bool]) -> int:
    """Return how many samples were read."""
    count = 0
    while not is_enough(count):
        count += next(batches)
    return count


def read_store(kind: str, place: Path) -> Generator[int, None, None]:
    store = ViewStore.open(place / ("rooms" if kind == "pairs" else "large"))
    scenes = np.flatnonzero(store.status() == DONE)
    stream: SceneStream = (
        PairStream(
            store, scenes, PairConfig(batch_size=PAIR_BATCH, points=POINTS, samples=EPOCH[kind])
        )
        if kind == "pairs"
        else CropStream(
            store,
            scenes,
            CropConfig(batch_size=CROP_BATCH, samples=EPOCH[kind], voxel=VOXELS[kind], crop=CROP),
        )
    )
    while True:
        for batch in stream:
            yield len(batch["shape"])


def read_files(kind: str, place: Path) -> Generator[int, None, None]:
    data = PairFolder(place) if kind == "pairs" else CropFolder(place, VOXELS[kind])
    endless = RandomSampler(data, replacement=True, num_samples=10**9)  # no pause between epochs
    size, collate = (PAIR_BATCH, None) if kind == "pairs" else (CROP_BATCH, packed)
    for batch in DataLoader(data, size, sampler=endless, num_workers=WORKERS, collate_fn=collate):
        yield len(batch["shape"])


def packed(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([each[name] for each in samples]) for name in samples[0]}


class PairFolder(Dataset):
    """Pairs of frames of rooms, from files."""

    def __init__(self, place: Path) -> None:
        self.place = place / "rooms-files"
        self.pairs = json.loads((place / "pairs.json").read_text())

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        folder, pairs = self.place / str(index), self.pairs[index]
        frames = pairs[int(torch.randint(len(pairs), ()))]
        visible = np.load(folder / "visible.npy", mmap_mode="r")[frames]
        chosen = np.resize(np.flatnonzero(visible.any(axis=0))[:POINTS], POINTS)
        points = np.load(folder / "points.npy")[chosen]
        color, depth = (
            np.stack([np.asarray(Image.open(folder / f"{name}{f}.png")) for f in frames])
            for name in ("rgb", "depth")
        )
        pose = np.load(folder / "world_to_camera.npy")[frames]
        mean = points.mean(axis=0)
        pose[:, :3, 3] += pose[:, :3, :3] @ mean
        sample = {
            "points": points - mean,
            "visible": visible[:, chosen],
            "rgb": color,
            "depth": depth.astype(np.float32) * np.float32(0.001),
            "K": np.load(folder / "K.npy")[frames],
            "world_to_camera": pose,
            "shape": np.int64(index),
        }
        return {name: torch.as_tensor(value) for name, value in sample.items()}


class CropFolder(Dataset):
    """Crops of voxels of rooms, from files."""

    def __init__(self, place: Path, voxel: float) -> None:
        self.folders, self.voxel = sorted((place / "large-files").iterdir()), voxel
        self.rng = np.random.default_rng(0)  # the same in both workers, which does not matter here

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        names = ("points", "color", "semantic")
        points, color, semantic = (np.load(self.folders[index] / f"{n}.npy") for n in names)
        places = np.floor(points / self.voxel).astype(np.int64)
        places -= places.min(axis=0)
        key = np.ravel_multi_index(tuple(places.T), tuple(places.max(axis=0) + 1))
        order = np.argsort(key)
        _, counts = np.unique(key[order], return_counts=True)
        draw = self.rng.integers(counts)
        chosen = order[np.cumsum(counts) - counts + draw]
        center = points[chosen[self.rng.integers(len(chosen))]]
        away = ((points[chosen] - center) ** 2).sum(axis=1)
        chosen = chosen[np.argsort(away)[:CROP]]
        places = points[chosen]
        places[:, :2] -= places[:, :2].mean(axis=0)
        return {
            "points": torch.from_numpy(places),
            "color": torch.from_numpy(color[chosen]),
            "semantic": torch.from_numpy(semantic[chosen].astype(np.int64)),
            "shape": torch.tensor([index]),
        }


def prepare(place: Path, options: argparse.Namespace) -> None:
    """Write the same rooms as stores and as files."""
    rooms = options.rooms or place / "toyrooms"
    if options.rooms is None:
        command = ["render", "--dataset", "toyrooms", "--out", rooms, "--limit", options.count]
        run = [sys.executable, "-m", "pointcmt", *map(str, command)]
        subprocess.run(run, check=True, capture_output=True)
    (place / "rooms").symlink_to(Path(rooms).absolute())
    store, pairs = ViewStore.open(rooms), []
    for index, shape in enumerate(np.flatnonzero(store.status() == DONE)[: options.count]):
        pairs.append(write_room(store, int(shape), place / "rooms-files" / str(index)))
    (place / "pairs.json").write_text(json.dumps(pairs))
    large = render_large(place / "large", options.count)
    for shape in range(options.count):
        folder = place / "large-files" / str(shape)
        folder.mkdir(parents=True)
        for name in ("points", "color", "semantic"):
            np.save(folder / f"{name}.npy", large.read(name, shape))
    counts = [store.counts(i)["point_count"] for i in range(len(pairs))]
    print(f"{len(pairs)} toy rooms of {min(counts):,} to {max(counts):,} points; ", end="")
    print(f"{options.count} synthetic ones of {LARGE:,}", flush=True)


def write_room(store: ViewStore, shape: int, folder: Path) -> list[list[int]]:
    """Write a room's files; return its pairs of frames."""
    folder.mkdir(parents=True)
    visible = store.visible(shape)
    np.save(folder / "visible.npy", visible)
    for name in ("points", "K", "world_to_camera"):
        np.save(folder / f"{name}.npy", store.read(name, shape))
    for name in ("rgb", "depth"):
        for frame, image in enumerate(store.read(name, shape)):
            Image.fromarray(image).save(folder / f"{name}{frame}.png")
    overlap = frame_overlaps(pack_visible(visible))
    np.fill_diagonal(overlap, 0)
    return np.argwhere((overlap >= 0.3) & (overlap <= 0.9)).tolist()


def render_large(place: Path, count: int) -> ViewStore:
    """Return a store of rooms without frames, written as any other."""
    sources.SOURCES["large"] = sources.Source(lambda name, root: listing(count), load_large)
    made = listing(count)
    job = job_of_listing(made, str(place), SceneConfig(frames=1, points=LARGE, boxes=1))
    store = create_store(made, job, 1)
    runner = ShardRunner(job)
    for task in tasks(store, render=True, correspondences=True):
        runner(task, {}, lambda shape: None)
    return ViewStore.open(place)


def listing(count: int) -> Listing:
    names = tuple(f"class{i}" for i in range(13))
    return Listing(
        name="large",
        root=None,
        shapes=tuple(ShapeRecord(f"room/{i}", None, "train", "") for i in range(count)),
        class_names=(),
        up="z",
        license="none",
        url="",
        official=None,
        notes=(),
        kind="scene",
        labels=SceneLabels(names, (), ((0, 0, 0),) * 13),
    )


def load_large(record: ShapeRecord, root: Path | None) -> SceneData:
    """Return a room with noisy points on its walls, floor, ceiling, and on 40 boxes in it."""
    rng = np.random.default_rng(int(record.id.split("/")[1]))
    low = np.concatenate([np.zeros((1, 3)), rng.uniform(0, SIZE - [1.5, 1.5, 2.5], (40, 3))])
    low[1:, 2] = 0
    size = np.concatenate([SIZE[None], rng.uniform(0.3, 1.5, (40, 3))])
    area = (size[:, [1, 0, 0]] * size[:, [2, 2, 1]]).ravel()  # of the sides across each axis
    side = rng.choice(len(area), LARGE, p=area / area.sum())
    box, axis = np.divmod(side, 3)
    place = rng.random((LARGE, 3))
    place[np.arange(LARGE), axis] = rng.integers(2, size=LARGE)
    points = low[box] + place * size[box] + rng.normal(scale=0.003, size=(LARGE, 3))
    color = rng.integers(256, size=(LARGE, 3)).astype(np.uint8)
    semantic = (box % 13).astype(np.int16)
    return SceneData((), ScenePoints(points, color, None, semantic), sha256="0" * 64)


if __name__ == "__main__":
    main()
