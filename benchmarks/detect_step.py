"""Where the time of one training step of `train detect` goes, and its memory.

Usage: python benchmarks/detect_step.py STORE [--config detect-toyrooms] [--steps 8] [--threads 1]
           [--set KEY=VALUE …]

STORE: a store of scenes with boxes, such as that of `benchmarks/detect.py`. Times are medians over
steps, after two that warm up, of the CPU time of the whole process (reading runs in threads):
    read       decode a batch, and draw its points
    move       move the scenes at random, and make the targets
    sample     farthest points and neighbors, wherever the network needs them
    backbone   the rest of the network of the seeds
    head       the rest of the network: votes, clusters, boxes; or the decoder
    loss       the terms, and the matching of queries
    backward, update
"""

import argparse
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.streams import open_stream
from pointcmt.training import ops
from pointcmt.training.config.files import load_config
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.recipe import RecipeContext
from pointcmt.training.runs.optimization import make_optimizer
from pointcmt.training.runs.splits import split_shapes
from pointcmt.training.runs.store_kinds import scene_classes

WARMUP = 2  # steps that are not counted
SAMPLING = ("farthest_points", "ball_query", "k_nearest", "three_nearest_weights")


class Laps:
    """CPU seconds by part; a part within another one counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: list[str] = []
        self.last = time.process_time()

    def _close(self) -> None:
        now = time.process_time()
        if self.open:
            self.seconds[self.open[-1]] += now - self.last
        self.last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs within for `name`."""
        self.begin(name)
        yield
        self.end()

    def begin(self, name: str) -> None:
        self._close()
        self.open.append(name)

    def end(self) -> None:
        self._close()
        self.open.pop()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same function, counted for `name`."""

        def run(*inputs: Any, **options: Any) -> Any:
            with self.part(name):
                return call(*inputs, **options)

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--config", default="detect-toyrooms")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    store = ViewStore.open(options.store)
    config = load_config("detect", options.config, options.set)
    split = split_shapes(store, config.data)
    recipe = build_recipe(config, len(scene_classes(store, "boxes")), False)
    device = torch.device("cpu")
    shapes = np.concatenate([split.train, split.validation])
    context = RecipeContext(store, shapes, {}, device, Accelerator(cpu=True), split.train)
    recipe = recipe.prepare(context)
    laps = Laps()
    watch(recipe, laps)
    rounds = list(
        steps(recipe, config, open_stream(store, split.train, recipe.stream), laps, options)
    )
    print(f"{config.model.backbone}, {config.data.batch_size} × {config.data.points:,} points")
    total = statistics.median(sum(each.values()) for each in rounds)
    for name in rounds[0]:
        spent = statistics.median(each[name] for each in rounds)
        print(f"  {name:9} {1000 * spent:7.0f} ms  {spent / total:4.0%}")
    print(
        f"  {'step':9} {1000 * total:7.0f} ms, {1000 * total / config.data.batch_size:.0f} a scene"
    )
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def watch(recipe: Any, laps: Laps) -> None:
    """Count the parts of a step wherever they are called."""
    for name in SAMPLING:
        setattr(ops, name, laps.timed("sample", getattr(ops, name)))
    recipe.model.seeds.forward = laps.timed("backbone", recipe.model.seeds.forward)
    recipe.model.forward = laps.timed("head", recipe.model.forward)
    recipe.head.losses = laps.timed("loss", recipe.head.losses)


def steps(
    recipe: Any, config: Any, stream: Any, laps: Laps, options: argparse.Namespace
) -> Iterator[dict[str, float]]:
    """Train for some steps; yield the seconds of each, by part."""
    optimizer = make_optimizer(recipe.model, config.optimizer)
    generator = torch.Generator().manual_seed(0)
    recipe.model.train()
    done = 0
    while True:
        batches = iter(stream)
        while True:
            laps.seconds = dict.fromkeys(
                ("read", "move", "sample", "backbone", "head", "loss", "backward", "update"), 0.0
            )
            with laps.part("read"):
                batch = next(batches, None)
            if batch is None:
                break
            with laps.part("move"):
                loss, _ = recipe.loss(recipe.model, batch, generator)
            with laps.part("backward"):
                loss.backward()
            with laps.part("update"):
                optimizer.step()
                optimizer.zero_grad()
            done += 1
            if done > WARMUP:
                yield laps.seconds
            if done == WARMUP + options.steps:
                return


if __name__ == "__main__":
    main()
