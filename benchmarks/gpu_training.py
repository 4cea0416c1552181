"""Training on this machine's GPU: kernel correctness and speed, and time spent waiting for data.

Usage: python benchmarks/gpu_training.py [--device cuda] [--small] [--shapes 640] [--epochs 3]

Needs no network and no data: clouds and a store are made as it runs. Under 8 minutes with a GPU;
`--small --device cpu` takes a minute and leaves out what needs Triton. Prints, in this order:
- point operations on 32 clouds: the share of indices equal to those of compiled code on the CPU,
  which should be all, and the largest difference of distances or sums; the median milliseconds of
  Triton, of plain torch on the device, and of compiled code on all CPU threads;
- the auction on 32 pairs of clouds: how many Triton proved, its distance over the CPU's, and ms;
- each training stage on a store of its own: milliseconds a step, shapes a second, and the share of
  the time spent waiting for data, of the last epoch (the first one compiles and warms up).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    RENDER,
    SCHEMA_VERSION,
    Schema,
    ShapeRecord,
    array_specs,
    blank,
    digest,
    render_arrays,
    schema_attributes,
)
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training import ops
from pointcmt.training.config.files import load_config
from pointcmt.training.loop import train
from pointcmt.training.ops import points_plain
from pointcmt.training.ops.device import describe_device, find_device, has_triton
from pointcmt.training.ops.emd import TOLERANCE, earth_movers_distance

# Name, recipe, settings. {teacher} and {generator} stand for the earlier runs of those names.
STAGES = (
    ("teacher", "teacher", ()),
    ("teacher, bf16", "teacher", ("loop.precision=bf16",)),
    ("generator", "cmpg", ("teacher={teacher}",)),
    ("student, vanilla", "student", ()),
    ("student, distilled", "student", ("teacher={teacher}", "generator={generator}")),
)
SMALL = {
    "teacher": ("data.batch_size=8", "data.views=2", "optimizer.accumulate=1"),
    "cmpg": ("data.batch_size=8", "data.points=64"),
    "student": ("data.batch_size=8", "data.points=64"),
}
CLASSES = 10


@dataclass(frozen=True)
class Sizes:
    """Sizes to measure; the defaults are those of the paper's networks."""

    clouds: int = 32
    points: int = 1024
    centers: int = 512
    neighbors: int = 32
    width: int = 64
    matched: tuple[int, ...] = (1024, 2048)
    views: int = 20
    pixels: int = 224


LITTLE = Sizes(4, 128, 64, 8, 16, (128,), 4, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="to try this out on a CPU")
    parser.add_argument("--shapes", type=int, help="of the store; 640, or 80 with --small")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    device, sizes = find_device(options.device), LITTLE if options.small else Sizes()
    print(f"{describe_device(device)}; torch {torch.__version__}; ", end="")
    print(f"CPU threads: {torch.get_num_threads()}")
    if device.type != "cuda":
        print("Triton's columns are left out: it compiles for GPUs, and this is a CPU")
    elif not has_triton():
        print("Triton's columns are left out: it is not installed")
    point_operations(device, sizes)
    auctions(device, sizes)
    with tempfile.TemporaryDirectory() as place:
        shapes = options.shapes or (80 if options.small else 640)
        stages(device, sizes, Path(place), shapes, options)


# --- kernels


def point_operations(device: torch.device, sizes: Sizes) -> None:
    print(f"\n{'ms':34}{'agrees':>10}{'differs by':>12}{'Triton':>10}{'torch':>10}{'CPU':>10}")
    for name, calls in operations(device, sizes).items():
        expected = calls["CPU"]()
        tested = calls.get("Triton", calls["torch"])()
        agrees, differs = compare(tested, expected)
        row = f"{name:34}{agrees:10.4%}{differs:12.1e}"
        for column in ("Triton", "torch", "CPU"):
            on = torch.device("cpu") if column == "CPU" else device
            row += f"{milliseconds(calls[column], on):10.2f}" if column in calls else f"{'–':>10}"
        print(row, flush=True)


def operations(device: torch.device, sizes: Sizes) -> dict[str, dict[str, Callable[[], object]]]:
    """Return operation → column → a call without arguments; all get the same input."""
    rng = torch.Generator().manual_seed(0)
    points = normalize(torch.randn(sizes.clouds, sizes.points, 3, generator=rng), dim=-1)
    centers = ops.gather(points, ops.farthest_points(points, sizes.centers))
    features = torch.randn(sizes.clouds, sizes.points, sizes.width, generator=rng)
    radius, k = 0.2, sizes.neighbors
    balls = ops.ball_query(points, centers, radius, k)
    grad = torch.randn(*balls.shape, sizes.width, generator=rng)
    rows, places = grad.flatten(1, 2), balls.flatten(1)
    start, limit = torch.zeros(sizes.clouds, dtype=torch.int64), torch.tensor(radius).square()

    def calls(kernel: str, public: Callable[[], object], *inputs: object) -> dict:
        there = [part.to(device) if isinstance(part, Tensor) else part for part in inputs]
        made = {"CPU": public, "torch": lambda: getattr(points_plain, kernel)(*there)}
        if device.type == "cuda" and has_triton():
            from pointcmt.training.ops import points_triton

            made["Triton"] = lambda: getattr(points_triton, kernel)(*there)
        return made

    made = {
        f"farthest points, {sizes.points} → {sizes.centers}": calls(
            "farthest_points",
            lambda: ops.farthest_points(points, sizes.centers),
            *(points, sizes.centers, start),
        ),
        f"ball query, {k} within {radius}": calls(
            "ball_query",
            lambda: ops.ball_query(points, centers, radius, k),
            *(points, centers, limit, k),
        ),
        f"{k} nearest, 3 axes": calls(
            "k_nearest", lambda: ops.k_nearest(points, points, k), points, points, k
        ),
        f"{k} nearest, {sizes.width} axes": calls(
            "k_nearest", lambda: ops.k_nearest(features, features, k), features, features, k
        ),
    }
    sums = {"CPU": lambda: ops._sum_rows(rows, places, sizes.points)}
    rows_there, places_there = rows.to(device), places.to(device)
    wanted = features.to(device).requires_grad_()
    gathered = points_plain.gather(wanted, places_there)
    sums["torch"] = lambda: torch.autograd.grad(gathered, wanted, rows_there, retain_graph=True)[0]
    if device.type == "cuda" and has_triton():
        from pointcmt.training.ops import points_triton

        sums["Triton"] = lambda: points_triton.sum_rows(rows_there, places_there, sizes.points)
    return {**made, f"gradient of gather, {sizes.width} wide": sums}


def compare(found: object, expected: object) -> tuple[float, float]:
    """Return the share of equal numbers, and the largest difference of non-indices."""
    pairs = (
        [(found, expected)]
        if isinstance(found, Tensor)
        else list(zip(found, expected, strict=True))
    )
    pairs = [(one.cpu(), other) for one, other in pairs]
    equal = sum(int((one == other).sum()) for one, other in pairs)
    reals = [(one - other).abs().max() for one, other in pairs if one.is_floating_point()]
    return equal / sum(one.numel() for one, _ in pairs), max(map(float, reals), default=0.0)


def milliseconds(call: Callable[[], object], device: torch.device, seconds: float = 1.0) -> float:
    """Return a call's median synchronized time, without the first call, which compiles."""
    times: list[float] = []
    call()
    finish(device)
    while not times or (sum(times) < seconds and len(times) < 100):
        started = time.perf_counter()
        call()
        finish(device)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def auctions(device: torch.device, sizes: Sizes) -> None:
    print(f"\n{'auction, ms':34}{'proven':>10}{'distance':>12}{'Triton':>10}{'CPU':>10}")
    for points in sizes.matched:
        for kind in ("near", "far"):
            x, y = pairs(kind, sizes.clouds, points)
            row = f"{f'{sizes.clouds} × {points} points, {kind}':34}"
            if device.type == "cuda" and has_triton():
                row += on_device(x, y, device)
            else:
                row += f"{'–':>10}{'–':>12}{'–':>10}"
            cpu = milliseconds(lambda x=x, y=y: earth_movers_distance(x, y), torch.device("cpu"))
            print(f"{row}{cpu:10.2f}", flush=True)


def on_device(x: Tensor, y: Tensor, device: torch.device) -> str:
    """Return three columns: number proven, mean distance relative to the CPU's, ms."""
    from pointcmt.training.ops import emd_triton

    there = x.to(device), y.to(device)
    proven = int(emd_triton.auction(*there, TOLERANCE)[1].sum())
    ratio = earth_movers_distance(*there)[0].mean().cpu() / earth_movers_distance(x, y)[0].mean()
    ms = milliseconds(lambda: earth_movers_distance(*there), device)
    return f"{f'{proven} of {len(x)}':>10}{ratio:12.4f}{ms:10.2f}"


def pairs(kind: str, clouds: int, points: int) -> tuple[Tensor, Tensor]:
    """near: two samples of a sphere. far: a sphere and a box of another shape."""
    rng = torch.Generator().manual_seed(points)
    x, y = normalize(torch.randn(2, clouds, points, 3, generator=rng), dim=-1)
    if kind == "far":
        y = (2 * torch.rand(clouds, points, 3, generator=rng) - 1) * torch.tensor([0.3, 0.5, 1.5])
    return x, y


# --- training


def stages(
    device: torch.device, sizes: Sizes, place: Path, shapes: int, options: argparse.Namespace
) -> None:
    started = time.perf_counter()
    store = write_store(place / "store", sizes, shapes)
    print(
        f"\na store of {shapes} shapes, {sizes.views} views of {sizes.pixels}², "
        f"made in {time.perf_counter() - started:.0f} s"
    )
    print(f"{'training':34}{'ms a step':>10}{'shapes/s':>12}{'waiting for data':>20}")
    for name, recipe, settings in STAGES:
        runs = {kind: str(place / kind) for kind in ("teacher", "generator")}
        settings = [text.format(**runs) for text in settings]
        settings += ["loop.tensorboard=false", *(SMALL[recipe] if options.small else ())]
        config = load_config(recipe, None, settings, epochs=options.epochs)
        train(store, config, place / name, str(device))
        lines = (place / name / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        speed = last["samples_per_second"]
        step = 1e3 * config.effective_batch_size / speed
        print(f"{name:34}{step:10.1f}{speed:12.0f}{last['data_wait']:20.1%}", flush=True)


def write_store(folder: Path, sizes: Sizes, count: int) -> ViewStore:
    """Write ellipsoids, one set of proportions per class: points on them, and their outlines.

    Views are noise with few levels, which costs about as much to decode as a rendered shape.
    """
    names = [f"class_{number}" for number in range(CLASSES)]
    shapes = [
        ShapeRecord(f"{index:05}", names[index % CLASSES], "train", f"{index}.off")
        for index in range(count)
    ]
    schema = Schema(count, sizes.views, sizes.pixels, sizes.points, 16, depth_scale=1e-4)
    attributes = {
        "schema_version": SCHEMA_VERSION,
        "schema": schema_attributes(schema),
        "render": {"size": sizes.pixels},
        "render_hash": digest(b"synthetic"),
        "source": {"name": "synthetic", "root": None, "up": "z", "licence": "MIT", "url": ""},
        "class_names": names,
        "part_names": {},
        "versions": {},
    }
    store, specs = create(Storage(folder), attributes, shapes), array_specs(schema)
    rng = np.random.default_rng(0)
    axis = np.linspace(-1.1, 1.1, sizes.pixels)
    rows, columns = axis[:, None], axis[None]
    for shard in range(schema.shards):
        members = schema.shapes_of(shard)
        arrays = {name: blank(specs[name], len(members)) for name in render_arrays(schema)}
        for row, index in enumerate(members):
            scale = np.array([1, 1 - 0.08 * (index % CLASSES), 0.2 + 0.08 * (index % CLASSES)])
            points = rng.normal(size=(sizes.points, 3))
            arrays["points"][row] = scale * points / np.linalg.norm(points, axis=1, keepdims=True)
            inside = (columns / scale[1]) ** 2 + (rows / scale[2]) ** 2 < 1
            color = rng.integers(40, 200, (sizes.views, 1, 3))
            noise = rng.integers(0, 16, (sizes.views, int(inside.sum()), 3))
            arrays["rgb"][row][:, inside] = color + noise
        files = store.write_shard(shard, arrays)
        outcomes = [encode_outcome(Outcome(shapes[index].id, "done")) for index in members]
        store.commit(RENDER, shard, {"files": files, "outcomes": outcomes})
    return ViewStore.open(folder)


if __name__ == "__main__":
    main()
