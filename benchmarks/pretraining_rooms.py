"""Does view-consistency pre-training beat random weights in toy rooms? By seed.

Usage: python benchmarks/pretraining_rooms.py --out DIR [--train 120] [--test 30] [--seeds 0,1,2]
       [--labels 5,10,20,0] [--ablation-labels 10] [--epochs 4] [--tune-epochs 24]
       [--variants both L_k L_m]
       [--images FOLDER] [--size 256] [--resolution 320x240] [--workers 2] [--device cpu]
       [--set KEY=VALUE …] [--quick]

Renders rooms into DIR/rooms and pre-trains `mvnet-toyrooms` on the train rooms, without labels,
once per seed and variant:
    L_k, L_m  one of the losses alone
    both      L_k + L_m
The 2D network is EfficientNet-Lite0, trained on ImageNet (`image_weights.py`), or from --images; it
sees the frames at --size, and its features are cached. Then trains `semseg-toyrooms` on crops of
5,000 voxels from the encoder of each, and from random weights, with the labels of 5, 10, 20 and all
(0) train rooms (--ablation-labels for a single loss), the whole network and with a frozen encoder.
Runs of a seed see the same rooms, and about as many steps with few rooms as with many. Nothing
learns from test rooms, or chooses by them; the last epoch counts.

DIR/RESULTS.md, rewritten after each seed, has for each number of labeled rooms the mIoU on the test
rooms, mean ± standard deviation over seeds, and the differences from random weights, paired by seed
and room. Finished runs are not repeated: the same command resumes, and more seeds, variants and
labels can be added. --set is for the pre-training, and needs another DIR, as do other sizes.
Workers are single-threaded processes; for a GPU, use --workers 1 --device cuda.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from image_weights import network_in
from pretraining_toy import NONE
from pretraining_toy import VARIANTS as TOY_VARIANTS
from semseg import render_rooms

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import Evaluation, evaluate
from pointcmt.training.loop import train
from pointcmt.training.runs.splits import split_shapes
from pointcmt.training.study import Study

VARIANTS = {name: TOY_VARIANTS[name] for name in ("both", "L_k", "L_m")}
CROP = 5000  # voxels, about half of a room
ENCODERS = ("train", "frozen")
QUICK = [
    *("--train", "8", "--test", "2", "--labels", "2,0", "--ablation-labels", "2"),
    *("--seeds", "0", "--variants", "both", "L_k"),
    *("--epochs", "1", "--tune-epochs", "1", "--resolution", "96x72", "--size", "64"),
    *("--set", "data.points=1024", "--set", "scenes.pairs=2"),
]


@dataclass(frozen=True)
class Job:
    """All measurements of one pre-trained network (or random weights) with one seed.

    options: those of the command. images: the 2D network's folder.
    """

    options: argparse.Namespace
    images: Path
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """The name of the folders of its runs."""
        return f"{self.variant}-{self.seed}".replace(" ", "-")


Scores = dict[tuple[int, str], Evaluation]  # by the number of labeled rooms and the encoder


def main() -> None:
    """Run the study and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of stores and runs")
    parser.add_argument("--train", type=int, default=120, help="rooms to train on")
    parser.add_argument("--test", type=int, default=30, help="rooms to test on")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--labels", default="5,10,20,0", help="labeled rooms, 0 = all")
    parser.add_argument("--ablation-labels", default="10", help="the same for L_k and L_m")
    parser.add_argument("--epochs", type=int, default=4, help="of the pre-training")
    parser.add_argument("--tune-epochs", type=int, default=24, help="of each segmentation")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--images", type=Path, help="another 2D network: a folder of transformers'")
    parser.add_argument("--size", type=int, default=256, help="longer side that it sees, in pixels")
    parser.add_argument("--resolution", default="320x240", help="of the frames")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], help="options of the pre-training")
    parser.add_argument("--quick", action="store_true", help="minutes; proves the script alone")
    options = parser.parse_args()
    if options.quick:
        options = parser.parse_args([*QUICK, *sys.argv[1:]])  # which may say otherwise
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they import torch
    render_rooms(options.out / "rooms", options.train, options.test, options.resolution)
    images = options.images or network_in(options.out / "images")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    variants = (NONE, *options.variants)
    jobs = [Job(options, images, variant, seed) for seed in seeds for variant in variants]
    found: dict[str, list[Scores]] = {variant: [] for variant in variants}
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for number, (job, scores) in enumerate(zip(jobs, pool.map(measure, jobs), strict=True), 1):
            print(f"{number} of {len(jobs)}: {job.variant}, seed {job.seed}", flush=True)
            found[job.variant].append(scores)
            done = min(map(len, found.values()))
            if done and job.variant == variants[-1]:
                results = "\n\n".join(describe(found, tuple(seeds[:done])))
                (options.out / "RESULTS.md").write_text(f"```text\n{results}\n```\n")
    print(results)


def measure(job: Job) -> Scores:
    """Pre-train one network, and segment with each number of labels."""
    torch.set_num_threads(1)
    options = job.options
    rooms = ViewStore.open(options.out / "rooms")
    pre = options.out / "pre" / job.name
    if job.variant != NONE:
        train(rooms, pretraining(job), pre, options.device)
    found = {}
    counts = options.ablation_labels if job.variant in ("L_k", "L_m") else options.labels
    for labels in map(int, counts.split(",")):
        for encoder in ENCODERS:
            folder = options.out / f"semseg-{labels}-{encoder}" / job.name
            train(rooms, segmentation(job, rooms, labels, encoder, pre), folder, options.device)
            report = evaluate(folder, rooms, which="last", device=options.device)
            found[labels, encoder] = report
    return found


def pretraining(job: Job) -> Any:
    """Return the configuration of the pre-training."""
    options = job.options
    overrides = [
        "images.backbone=auto",
        f"images.weights={job.images}",
        "images.levels=[0.5, 0.7]",  # the last two whose patches are a sixteenth of the image
        f"images.size={options.size}",
        "images.cache=true",
        "loop.tensorboard=false",
        *VARIANTS[job.variant],
        *options.set,
    ]
    return load_config("mvnet", "mvnet-toyrooms", overrides, epochs=options.epochs, seed=job.seed)


def segmentation(job: Job, rooms: ViewStore, labels: int, encoder: str, pre: Path) -> Any:
    """Return the configuration of a segmentation; all variants of a seed see the same rooms."""
    epochs = job.options.tune_epochs

    def configure(*more: str, **flags: Any) -> Any:
        overrides = [f"data.split_seed={job.seed}", f"model.encoder={encoder}"]
        overrides += ["data.validation=0", "loop.tensorboard=false", "schedule.warmup=1", *more]
        return load_config("semseg", "semseg-toyrooms", overrides, seed=job.seed, **flags)

    every = len(split_shapes(rooms, configure().data).train)
    used = min(labels or every, every)
    few = (f"data.fraction={used / every}", f"data.crops={round(every / used)}")
    few += (f"data.crop={CROP}",)
    init = None if job.variant == NONE else str(pre)
    return configure(*few, epochs=epochs, init=init)


def describe(found: dict[str, list[Scores]], seeds: tuple[int, ...]) -> Iterator[str]:
    """Yield the results of each number of labeled rooms, with and without a frozen encoder."""
    for labels, encoder in found[NONE][0]:
        title = f"{labels or 'all'} labeled rooms, encoder: {encoder}"
        reports = {
            (variant, "last"): [scores[labels, encoder] for scores in all_seeds[: len(seeds)]]
            for variant, all_seeds in found.items()
            if (labels, encoder) in all_seeds[0]
        }
        yield Study(title, seeds, reports).describe()


if __name__ == "__main__":
    main()
