"""Does view-consistency pre-training beat random weights on the built-in shapes? By seed.

Usage: python benchmarks/pretraining_toy.py --out DIR [--quick] [--seeds 0,1,2,3,4] [--workers 2]
       [--backbone dgcnn] [--variants both L_k] [--images FOLDER] [--size 128]

Renders 400 train and 400 test shapes of `toy` into DIR/store (12 views of 64²) and pre-trains a
point network of 128 points on the train shapes, without labels, once per seed and variant:
    both      L_k + 0.3 L_m, 30 % of patches masked. The 2D network is EfficientNet-Lite0, trained
              on ImageNet (`image_weights.py`), or from --images; it sees the views at --size
    L_k, L_m  one of the losses alone
    unmasked  both losses, nothing masked
    untrained both losses, with a randomly initialized ResNet-18 as 2D network
Then, with the same seed, compares each with random weights:
    probes    a linear SVM on all labels; few-shot
    finetune  classes, with few of the labels
    tenth     the same with a tenth of them
    frozen    as finetune, with a frozen encoder: only the head learns
    partseg   parts, with few of the labels
All load the encoder alone, as the paper does. Nothing learns from test shapes; the last epoch
counts. DIR/RESULTS.md is rewritten after each network. Finished runs are not repeated: the same
command resumes, and more seeds or variants can be added; another backbone needs another DIR.
Workers are single-threaded processes.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_weights import network_in

from pointcmt.cameras import find_rig
from pointcmt.console import in_words
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.job import Job as RenderJob
from pointcmt.render.jobs.run import Options, render
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import FewShot, probe
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import DENSE
from pointcmt.training.ops.statistics import paired_difference, spread

MATCHING = "matching.weight=0.3"  # of all that match, ten times the default
VARIANTS: dict[str, tuple[str, ...]] = {
    "both": (MATCHING,),
    "L_k": ("matching.weight=0",),
    "L_m": (MATCHING, "transfer.weight=0"),
    "unmasked": (MATCHING, "masking=0"),
    "untrained": (MATCHING, "images.backbone=resnet-18", "images.weights=random"),
}
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {  # recipe and its options
    "finetune": ("finetune", ()),
    "tenth": ("finetune", ()),
    "frozen": ("finetune", ("model.encoder=frozen", "optimizer.learning_rate=0.002")),
    "partseg": ("partseg", ()),
}
EPISODES = ((5, 1), (10, 1), (5, 10), (5, 20), (10, 10), (10, 20))  # ways, shots
NONE = "random weights"


@dataclass(frozen=True)
class Plan:
    """Sizes of the study. shapes: per split. few: (share of labels, epochs) by task."""

    shapes: int = 400
    epochs: int = 20
    finetune: tuple[float, int] = (0.03, 60)
    tenth: tuple[float, int] = (0.1, 60)
    frozen: tuple[float, int] = (0.03, 60)
    partseg: tuple[float, int] = (0.05, 60)


FEW = (0.1, 3)
QUICK = Plan(shapes=200, epochs=2, finetune=FEW, tenth=FEW, frozen=FEW, partseg=(0.1, 2))


@dataclass(frozen=True)
class Job:
    """All measurements of one pre-trained network (or random weights) with one seed.

    images: the 2D network's folder. size: its input size in pixels.
    """

    out: Path
    plan: Plan
    backbone: str
    images: Path
    size: int
    variant: str
    seed: int

    @property
    def pre(self) -> Path:
        """The folder of the pre-training."""
        return self.out / "pre" / f"{self.variant}-{self.seed}"

    @property
    def load(self) -> str:
        """The weights to load downstream."""
        return "none" if self.variant == NONE else "encoder"


@dataclass(frozen=True)
class Score:
    """measures: of one run, by name. scores: per test shape [n], averaged by the first measure."""

    task: str
    row: str
    seed: int
    measures: dict[str, float]
    scores: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--backbone", choices=sorted(DENSE), default="pointvit-s")
    parser.add_argument("--images", type=Path, help="another 2D network: a folder of transformers'")
    parser.add_argument("--size", type=int, default=128, help="pixels that it sees")
    parser.add_argument("--quick", action="store_true", help="minutes; proves the script alone")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    plan, out = QUICK if options.quick else Plan(), options.out
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they import torch
    render_toy(out / "store", plan.shapes)
    images = options.images or network_in(out / "images")
    jobs = [
        Job(out, plan, options.backbone, images, options.size, variant, seed)
        for seed in seeds  # seed by seed: an interrupted study is a complete smaller one
        for variant in (NONE, *options.variants)
    ]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        scores = []
        for number, (job, found) in enumerate(zip(jobs, pool.map(measure, jobs), strict=True), 1):
            print(f"{number} of {len(jobs)}: {job.variant}, seed {job.seed}", flush=True)
            scores += found
            report = "\n".join(tables(scores))
            (out / "RESULTS.md").write_text(report + "\n")
    print(report)


def render_toy(folder: Path, shapes: int) -> None:
    """Render the store if it is not there yet."""
    listing = list_shapes("toy", None)
    chosen = {s.id for split in ("train", "test") for s in select(listing, split, shapes).shapes}
    listing = replace(listing, shapes=tuple(s for s in listing.shapes if s.id in chosen))
    config = RenderConfig(find_rig("circle12"), size=64, points=128)
    render(listing, RenderJob(str(folder), listing.name, None, listing.up, config, True), Options())


def measure(job: Job) -> list[Score]:
    """Pre-train, probe and fine-tune one network."""
    torch.set_num_threads(1)
    store, found = ViewStore.open(job.out / "store"), []
    if job.variant != NONE:
        train(store, pretraining(job), job.pre, "cpu")
        found += probed(job, store)
    for task in TASKS:
        folder = job.out / task / f"{job.variant}-{job.load}-{job.seed}".replace(" ", "-")
        train(store, downstream(job, task), folder, "cpu")
        report = evaluate(folder, store, which="last", device="cpu")
        found.append(Score(task, job.variant, job.seed, report.measures, report.scores))
    return found


def pretraining(job: Job) -> Any:
    """Return the configuration of the pre-training."""
    overrides = [
        f"model.backbone={job.backbone}",
        "model.width=64",
        "images.backbone=auto",
        f"images.weights={job.images}",
        "images.levels=[0.5, 0.7]",  # the last two whose patches are a sixteenth of the image
        f"images.size={job.size}",
        "images.cache=true",
        "projection.size=16",
        "matching.stride=1",
        "data.points=128",
        "data.batch_size=16",
        "data.validation=0.05",
        "optimizer.learning_rate=0.001",
        "schedule.warmup=2",
        "loop.precision=fp32",
        "loop.tensorboard=false",
        *VARIANTS[job.variant],
    ]
    return load_config("mvnet", None, overrides, epochs=job.plan.epochs, seed=job.seed)


def downstream(job: Job, task: str) -> Any:
    """Return a task's configuration; all variants of a seed see the same few labeled shapes."""
    recipe, more = TASKS[task]
    share, epochs = getattr(job.plan, task)
    overrides = [
        f"load={job.load}",
        f"model.backbone={job.backbone}",
        "data.points=128",
        "data.batch_size=10",
        "data.validation=0.05",
        f"data.fraction={share}",
        f"data.split_seed={job.seed}",  # other labels for each seed
        "schedule.warmup=1",
        "loop.tensorboard=false",
        *more,
    ]
    init = None if job.load == "none" else str(job.pre)
    return load_config(recipe, None, overrides, epochs=epochs, seed=job.seed, init=init)


def probed(job: Job, store: ViewStore) -> Iterator[Score]:
    """Yield SVM accuracy and few-shot means of the network, before and after pre-training."""
    for result in probe(job.pre, store, True, EPISODES, "last", "cpu"):
        if isinstance(result, FewShot):
            for name, values in result.accuracies.items():
                found = {"accuracy": float(np.mean(values))}
                row = job.variant if name == "trained" else NONE
                yield Score(result.name, row, job.seed, found, np.array(values))
        else:
            for name, report in result.reports.items():
                found = {"accuracy": report.overall_accuracy}
                row = job.variant if name == "trained" else NONE
                yield Score("svm", row, job.seed, found, report.scores)


def tables(scores: list[Score]) -> Iterator[str]:
    """Yield Markdown tables by task: a row per network, with its difference to random weights."""
    for task in dict.fromkeys(score.task for score in scores):
        mine = [score for score in scores if score.task == task]
        rows: dict[str, dict[int, Score]] = {}
        for score in mine:
            rows.setdefault(score.row, {})[score.seed] = score
        names = list(mine[0].measures)
        yield f"\n{task}\n"
        yield f"| | {' | '.join(map(in_words, names))} | minus {NONE}, paired by seed |"
        yield "|---" * (len(names) + 2) + "|"
        for row in sorted(rows, key=lambda row: row != NONE):
            cells = []
            for name in names:
                mean, std = spread([100 * s.measures[name] for s in rows[row].values()])
                cells.append(f"{mean:.1f} ± {std:.1f}")
            yield f"| {row} ({len(rows[row])}) | {' | '.join(cells)} | {gain(rows, row)} |"


def gain(rows: dict[str, dict[int, Score]], row: str) -> str:
    """Return the first measure's difference to random weights, by seed, with its interval."""
    seeds = sorted(rows[row].keys() & rows.get(NONE, {}).keys())
    if row == NONE or not seeds:
        return ""
    a, b = (np.array([rows[each][seed].scores for seed in seeds]) for each in (row, NONE))
    d = paired_difference(a, b)
    return f"{100 * d.mean:+.1f} ± {100 * d.std:.1f} ({100 * d.low:+.1f} … {100 * d.high:+.1f})"


if __name__ == "__main__":
    main()
