"""Is preset `modern` better for its changes? Students on the built-in shapes, with and without.

Usage: python benchmarks/modern.py --out DIR [--seeds 0,1,2] [--epochs 16] [--quick]

Renders the first 200 train and 200 test shapes of `toy` into DIR/store, and trains PointNets on 128
points of them, once per seed and setting:

- after: --set preset=modern, with points drawn from 150, as many in proportion as its 1,200 for
  1,024, and decay of matrices alone.
- before: the same with what the preset had earlier, points drawn from twice as many as are used
  (--set data.resample=256) and decay of all parameters (--set optimizer.decay=all).
- official: without the preset, on the same points.

Prints test accuracy of the last epoch, mean ± standard deviation (n - 1) over seeds, and the paired
differences of `after` with their 95 % bootstrap intervals. All settings have the same epochs, so
that the comparison is about the preset's other options. An interrupted run resumes. --quick: 20
shapes of each split and one epoch, to see that it works.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, render
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.statistics import mean_interval

SHAPES, POINTS, DENSE = 200, 128, 256  # of each split; points of the network, of the store
SAME = (
    f"data.points={POINTS}",
    "data.validation=0",
    "data.batch_size=20",
    "loop.tensorboard=false",
)
MODERN = ("preset=modern", "data.resample=150", "schedule.warmup=2")
SETTINGS = {
    "before": (*MODERN, f"data.resample={DENSE}", "optimizer.decay=all"),
    "after": MODERN,
    "official": (),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    shapes, epochs = (20, 1) if options.quick else (SHAPES, options.epochs)
    store = render_toy(options.out / "store", shapes)
    scores: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for seed in seeds:
        for name, given in SETTINGS.items():
            scores[name].append(accuracy(store, given, seed, epochs, options.out / name))
    print(f"{len(seeds)} seeds, {epochs} epochs, {shapes} train and test shapes")
    for name, found in scores.items():
        print(f"{name:10}{describe(found)}")
    for name in ("official", "before"):
        paired = np.subtract(scores["after"], scores[name])
        low, high = mean_interval(paired)
        print(f"after - {name:10}{describe(paired)}  ({low:+.1f} … {high:+.1f})")


def accuracy(
    store: ViewStore, settings: tuple[str, ...], seed: int, epochs: int, out: Path
) -> float:
    """Train a student, or finish it, and return its test accuracy in percent."""
    config = load_config("student", None, [*SAME, *settings], seed=seed, epochs=epochs)
    folder = out / f"seed-{seed}"
    train(store, config, folder, "cpu")
    return 100 * evaluate(folder, store, device="cpu").measures["overall_accuracy"]


def describe(scores: list[float] | np.ndarray) -> str:
    """Return mean and standard deviation, which divides by n - 1."""
    deviation = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):5.1f}{deviation}"


def render_toy(out: Path, count: int) -> ViewStore:
    """Render the benchmark's shapes, or reuse them."""
    listing = list_shapes("toy", None)
    chosen = {
        shape.id for split in ("train", "test") for shape in select(listing, split, count).shapes
    }
    listing = replace(listing, shapes=tuple(s for s in listing.shapes if s.id in chosen))
    config = RenderConfig(find_rig("ortho6"), size=32, points=DENSE)
    render(listing, job_of_listing(listing, str(out), config), Options())
    return ViewStore.open(out)


if __name__ == "__main__":
    main()
