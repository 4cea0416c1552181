"""Time of a pre-training step by part, and holes in projected features.

Usage: python benchmarks/pretraining.py [--device auto] [--full] [--store S] [--steps 5]
       [--set KEY=VALUE …] [--holes]

Renders 48 toy shapes first (12 views of 224², 2,048 points) unless a store is given. Uses a small
configuration on a CPU (--config mvnet-toy), the defaults on a GPU or with --full. The 2D network
has random weights, which need no download and take as long. Medians of the steps after the first,
in milliseconds:
  store read     the wait for the batch, which is read while the previous one is computed
  3D network     the backbone, forward, with the points' features
  projection     index maps from cameras and visibility, masking, and the features' gather
  2D network     the frozen one on all views; with --set images.cache=true only reading features
  heads, losses  the 2D head, the matcher, the ground truth of matches, both losses
  backward       of everything
  optimizer      clipping and AdamW
and reading a batch from the store by itself. --holes prints, instead, for maps of several sizes the
share of foreground pixels without a point at the default radius and at smaller ones.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.streaming import Batch, StreamConfig, ViewStream, done_shapes
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import Job
from pointcmt.render.jobs.run import Options, render
from pointcmt.training.config.files import load_config
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.ops.augment import keep_patches
from pointcmt.training.ops.device import describe_device, find_device
from pointcmt.training.ops.projection import SPREAD, foreground, index_map, project, splat_radius
from pointcmt.training.recipes.mvnet import Mvnet, build, keep_points
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.optimization import make_optimizer

ROOT = Path(__file__).parents[1]
PARTS = (
    "store read",
    "3D network",
    "projection",
    "2D network",
    "heads, losses",
    "backward",
    "optimizer",
)


class Clock:
    """Milliseconds by part; a mark assigns the time since the last mark to the named part."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.parts = device, defaultdict(float)
        self.last = self.now()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def mark(self, part: str) -> None:
        now = self.now()
        self.parts[part] += 1000 * (now - self.last)
        self.last = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--holes", action="store_true")
    options = parser.parse_args()
    device = find_device(options.device)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = ViewStore.open(options.store) if options.store else toy(Path(folder) / "S")
        if options.holes:
            return count_holes(store)
        small = device.type == "cpu" and not options.full
        file = "mvnet-toy" if small else None
        config = load_config("mvnet", file, ["images.weights=random", *options.set])
        assert isinstance(config, MvnetConfig)
        measure(store, config, device, options.steps)


def toy(out: Path) -> ViewStore:
    """Render 48 shapes, spread over classes and splits."""
    listing = select(list_shapes("toy", None), None, 48)
    config = RenderConfig(find_rig("circle12"), size=224, points=2048)
    job = Job(str(out), "toy", None, listing.up, config, True)
    render(listing, job, Options())
    return ViewStore.open(out)


def measure(store: ViewStore, config: MvnetConfig, device: torch.device, steps: int) -> None:
    """Train for some steps and print the time of each part."""
    torch.manual_seed(0)
    recipe = build(config, 1, True)
    shapes = np.flatnonzero(store.status() == 1)
    accelerator = Accelerator(cpu=device.type == "cpu")
    recipe = recipe.prepare(RecipeContext(store, shapes, {}, device, accelerator))
    batches = endless(ViewStream(store, shapes, recipe.stream))
    rows = [
        each
        for number, each in enumerate(timed_steps(recipe, batches, device, steps + 1))
        if number
    ]
    medians = {part: statistics.median(row[part] for row in rows) for part in PARTS}
    total = sum(medians.values())
    print(
        f"{config.model.backbone} and {config.images.backbone} on {describe_device(device)}, "
        f"{config.loop.precision}: batches of {config.effective_batch_size} shapes, "
        f"{config.data.points} points, {config.data.views} views of "
        f"{config.images.size or store.schema.size}², maps of {config.projection.size}²"
    )
    for part, value in medians.items():
        print(f"{part:14} {value:9.1f} ms {value / total:7.1%}")
    speed = 1000 * config.effective_batch_size / total
    print(f"{'a step':14} {total:9.1f} ms   {speed:.1f} shapes/s")
    alone = ViewStream(store, shapes, replace(recipe.stream, prefetch=1))
    began = time.perf_counter()
    count = sum(1 for _ in alone)
    took = 1000 * (time.perf_counter() - began) / count
    print(f"reading a batch on its own: {took:.1f} ms")


def endless(stream: ViewStream) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from stream


def timed_steps(
    recipe: Mvnet, batches: Iterator[Batch], device: torch.device, steps: int
) -> Iterator[dict[str, float]]:
    """Yield milliseconds by part for each step, with `Mvnet.loss` split into its parts."""
    model, config = recipe.model.to(device).train(), recipe.config
    optimizer = make_optimizer(model, config.optimizer)
    generator = torch.Generator().manual_seed(0)
    clock, teacher = Clock(device), recipe.teacher
    assert teacher is not None, "transfer.weight=0 leaves nothing to measure"
    backbone = model.get_submodule("backbone")
    backbone.register_forward_pre_hook(lambda *_: clock.mark("projection"))
    backbone.register_forward_hook(lambda *_: clock.mark("3D network"))
    heads = [part for part in (model.head, model.matcher) if part is not None]
    heads[0].register_forward_pre_hook(lambda *_: clock.mark("projection"))

    def timed_features(batch: Batch) -> list[torch.Tensor]:
        clock.mark("heads, losses")
        levels = teacher.image_features(batch)
        clock.mark("2D network")
        return levels

    recipe.teacher = replace(teacher, image_features=timed_features)
    autocast = torch.autocast(device.type, torch.bfloat16, config.loop.precision == "bf16")
    for _ in range(steps):
        clock.parts.clear()
        clock.last = clock.now()
        batch = {name: data.to(device, non_blocking=True) for name, data in next(batches).items()}
        clock.mark("store read")
        with autocast:
            kept = keep_patches(batch["points"], config.masking, generator)
            points, maps = keep_points(batch["points"], recipe.project(batch), kept)
            points, features = recipe.inputs({**batch, "points": points}, generator)
            output = model(points, maps, recipe.grids, features)
            loss = recipe.total(recipe.terms(output, maps, batch, generator))
        clock.mark("heads, losses")
        loss.backward()
        clock.mark("backward")
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm or 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.mark("optimizer")
        yield dict(clock.parts)


def count_holes(store: ViewStore) -> None:
    """Print shares of foreground pixels without a point: over all shapes, and the worst shape's."""
    shapes = done_shapes(store, "train")
    arrays = ("points", "visible", "depth", "K", "world_to_camera")
    reads = StreamConfig(arrays, len(shapes), points=0, shuffle=False, drop_last=False)
    (batch,) = ViewStream(store, shapes, reads)
    uv, _ = project(batch["points"], batch["K"], batch["world_to_camera"])
    print(f"{len(shapes)} shapes, {store.schema.views} views of {store.schema.size}²")
    print(f"{'points':>6} {'map':>5} {'radius':>7} {'holes':>7} {'worst shape':>12} {'beyond':>7}")
    for points in (512, 1024, 2048):
        if points > store.schema.points:
            continue
        for size in (28, 56, 112):
            grid = (size, size)
            shown = foreground(batch["depth"], grid)
            area = shown.flatten(1).sum(dim=1)
            for share in (0.7, 0.85, 1.0):
                radius = share * splat_radius(points, grid)
                where = uv[:, :, :points] * (size / store.schema.size)
                found = index_map(where, batch["visible"][:, :, :points], grid, radius)[..., 0] >= 0
                holes = (shown & ~found).flatten(1).sum(dim=1) / area
                beyond = (found & ~shown).flatten(1).sum(dim=1) / area
                print(
                    f"{points:6} {size:4}² {radius:7.2f} {holes.mean():7.1%} {holes.max():12.1%} "
                    f"{beyond.mean():7.1%}"
                )
    print(f"default: radius = {SPREAD} · map / √points")


if __name__ == "__main__":
    main()
