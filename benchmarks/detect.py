"""Detection in toy rooms by `train detect`: average precision by class, and what pre-training adds.

Usage: python benchmarks/detect.py --out DIR [--train 120] [--test 30] [--seeds 0,1,2]
           [--labels 0,24] [--epochs 24] [--few-epochs 60] [--init RUN] [--resolution 320x240]
           [--workers 2] [--device cpu] [--set KEY=VALUE …]

Renders the rooms into DIR/rooms and trains `detect-toyrooms` with the labels of so many train rooms
(0 = all, which run for --epochs; fewer ones run for --few-epochs), one run per seed: all from
random weights, and, with --init, again from the encoder of that run, such as
`DIR/pre/both-{seed}` of `benchmarks/pretraining_rooms.py`, where {seed} is replaced. Runs of a seed
see the same rooms. The last epoch counts; nothing is held out for validation.

DIR/DETECT.md, rewritten after each seed, has AP25, AP50 and recalls on the test rooms, mean ±
standard deviation over seeds, differences paired by seed and room, and the AP of each class. All
runs resume. Workers are single-threaded processes; for a GPU: --workers 1 --device cuda.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretraining_toy import NONE
from semseg import render_rooms

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.boxes import DetectionReport
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.runs.splits import split_shapes
from pointcmt.training.study import Study


@dataclass(frozen=True)
class Job:
    """One run. labels: labeled rooms, 0 = all. init: run to start from, or empty."""

    options: argparse.Namespace
    labels: int
    seed: int
    init: str

    @property
    def variant(self) -> str:
        """What it starts from."""
        return "pre-trained" if self.init else NONE


def main() -> None:
    """Run the study and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the store and the runs")
    parser.add_argument("--train", type=int, default=120, help="rooms to train on")
    parser.add_argument("--test", type=int, default=30, help="rooms to test on")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--labels", default="0,24", help="labeled rooms, 0 = all")
    parser.add_argument("--epochs", type=int, default=24, help="with all rooms")
    parser.add_argument("--few-epochs", type=int, default=60, help="with fewer labeled rooms")
    parser.add_argument("--init", default="", help="run to start from; {seed} is replaced")
    parser.add_argument("--resolution", default="320x240", help="of the frames")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for the runs")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they import torch
    render_rooms(options.out / "rooms", options.train, options.test, options.resolution)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    labels = [int(count) for count in options.labels.split(",")]
    jobs = [
        Job(options, count, seed, init.replace("{seed}", str(seed)))
        for seed in seeds
        for init in dict.fromkeys(("", options.init))
        for count in labels
    ]
    found: dict[tuple[int, str], list[DetectionReport]] = {}
    results = ""
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for job, scores in zip(jobs, pool.map(measure, jobs), strict=True):
            found.setdefault((job.labels, job.variant), []).append(scores)
            done = sum(map(len, found.values()))
            print(f"{done} of {len(jobs)}: {job.labels or 'all'} rooms, {job.variant}", flush=True)
            if done % (len(jobs) // len(seeds)) == 0:
                results = "\n\n".join(describe(found, seeds))
                (options.out / "DETECT.md").write_text(f"```text\n{results}\n```\n")
    print(results)


def measure(job: Job) -> DetectionReport:
    """Train one run, and detect the boxes of the test rooms."""
    torch.set_num_threads(1)
    options = job.options
    rooms = ViewStore.open(options.out / "rooms")
    name = f"{job.variant}-{job.seed}".replace(" ", "-")
    folder = options.out / f"detect-{job.labels}" / name
    train(rooms, configure(job, rooms), folder, options.device)
    report: Any = evaluate(folder, rooms, which="last", device=options.device)
    return report


def configure(job: Job, rooms: ViewStore) -> Any:
    """Return the configuration of a run; all variants of a seed see the same rooms."""
    options = job.options
    overrides = [f"data.split_seed={job.seed}", "data.validation=0", "loop.tensorboard=false"]
    overrides += options.set
    flags = {"seed": job.seed, "init": job.init or None}
    config = load_config("detect", "detect-toyrooms", overrides, epochs=options.epochs, **flags)
    every = len(split_shapes(rooms, config.data).train)
    if not job.labels or job.labels >= every:
        return config
    few = f"data.fraction={job.labels / every}"
    epochs = options.few_epochs
    return load_config("detect", "detect-toyrooms", [*overrides, few], epochs=epochs, **flags)


def describe(
    found: dict[tuple[int, str], list[DetectionReport]], seeds: list[int]
) -> Iterator[str]:
    """Yield the results of each number of labeled rooms, then of their classes."""
    for labels in dict.fromkeys(labels for labels, _ in found):
        reports = {
            (variant, "last"): each for (count, variant), each in found.items() if count == labels
        }
        done = min(map(len, reports.values()))
        title = f"{labels or 'all'} labeled rooms"
        yield Study(title, tuple(seeds[:done]), reports).describe()
        for (variant, _), each in reports.items():
            yield f"{title}, {variant}: AP25 / AP50 by class\n{by_class(each)}"


def by_class(reports: list[DetectionReport]) -> str:
    """Return the mean AP25 and AP50 of each class that has boxes, as text."""
    rows = []
    for label, row in reports[0].per_class.items():
        if row["boxes"]:
            means = [
                float(np.mean([one.per_class[label][name] for one in reports]))
                for name in ("ap25", "ap50")
            ]
            rows.append(f"  {label:10} {means[0]:4.0%} / {means[1]:4.0%}, {row['boxes']:,} boxes")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
