"""Segmentation of toy rooms by `train semseg`, beside a forest of hand-made features.

Usage: python benchmarks/semseg.py --out DIR [--train 200] [--test 50] [--seeds 0,1,2]
           [--epochs 18] [--config semseg-toyrooms] [--resolution 320x240]

Renders the rooms into DIR/rooms, trains one run per seed (all resume), and prints the mIoU of each
on the test rooms, its mean ± standard deviation, and the IoU of each class. The forest is the one
of `benchmarks/rooms.py` with all of its features, here of the stored points and normals of the same
rooms. It is trained and scored on one point per 5 cm; the runs are scored on all points.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rooms import VOXEL, features
from sklearn.ensemble import RandomForestClassifier

from pointcmt.console import show_messages
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.datasets.store.scene_streams.voxels import Voxels
from pointcmt.datasets.store.schema import SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.render.jobs.job import job_of_listing
from pointcmt.render.jobs.run import Options, render
from pointcmt.render.scenes.config import SceneConfig
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.semantic import confusion

TRAINED_POINTS = 6000  # of each room


def main():
    """Print the scores of all seeds and of the forest."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="folder of the store and the runs")
    options.add_argument("--train", type=int, default=200, help="rooms to train on")
    options.add_argument("--test", type=int, default=50, help="rooms to test on")
    options.add_argument("--seeds", default="0,1,2", help="seeds of the runs")
    options.add_argument("--epochs", type=int, default=18, help="epochs of each run")
    options.add_argument("--config", default="semseg-toyrooms", help="configuration of the runs")
    options.add_argument("--resolution", default="320x240", help="of the frames")
    given = options.parse_args()
    show_messages()
    store = render_rooms(given.out / "rooms", given.train, given.test, given.resolution)
    report("forest of hand-made features", [forest_scores(store)], store.semantic_names)
    tables = []
    for seed in map(int, given.seeds.split(",")):
        config = load_config("semseg", given.config, epochs=given.epochs, seed=seed)
        train(store, config, given.out / f"seed-{seed}", device="auto")
        scored = evaluate(given.out / f"seed-{seed}", store, which="last")
        tables.append(scored.total)
    report(f"semseg, {given.epochs} epochs, last", tables, store.semantic_names)


def render_rooms(out, train, test, resolution):
    """Render the first rooms of both splits, or those that are missing; return the store."""
    listing = list_shapes("toyrooms", None)
    counts = {"train": train, "test": test}
    chosen = [select(listing, split, count).shapes for split, count in counts.items()]
    listing = replace(listing, shapes=sum(chosen, ()))
    width, height = map(int, resolution.split("x"))
    job = job_of_listing(listing, str(out), SceneConfig(height=height, width=width))
    render(listing, job, Options())
    return ViewStore.open(out)


def room_points(store, room):
    """Return hand-made features [n,9] and classes [n] of one point per voxel of a room."""
    points = store.read("points", room)
    voxels = Voxels.of(points, VOXEL)
    chosen = voxels.first_points(np.arange(len(voxels)))
    upward = np.abs(store.read("normals", room)[chosen, 2])
    return features(points[chosen], upward), store.read("semantic", room)[chosen]


def forest_scores(store):
    """Train the forest on all train rooms of a store; return its confusion on the test rooms."""
    values, labels = [], []
    for room in np.flatnonzero(store.splits == SPLITS.index("train")):
        columns, label = room_points(store, room)
        chosen = np.random.default_rng(room).permutation(len(label))[:TRAINED_POINTS]
        values.append(columns[chosen])
        labels.append(label[chosen])
    forest = RandomForestClassifier(60, min_samples_leaf=5, max_samples=0.3, random_state=0)
    forest.fit(np.concatenate(values), np.concatenate(labels))
    tests = map(partial(room_points, store), np.flatnonzero(store.splits == SPLITS.index("test")))
    classes = len(store.semantic_names)
    each = [confusion(label, forest.predict(columns), classes) for columns, label in tests]
    return sum(each[1:], each[0])


def report(title, tables, names):
    """Print the mIoU of each table, mean ± standard deviation, and the mean IoU of each class."""
    scores = [table.miou for table in tables]
    spread = f" ± {np.std(scores, ddof=1):.1%}" if len(scores) > 1 else ""
    each = ", ".join(f"{score:.1%}" for score in scores)
    print(f"{title}: mIoU {np.mean(scores):.1%}{spread} ({each})")
    ious = np.mean([table.iou for table in tables], axis=0)
    print("  " + ", ".join(f"{name} {iou:.0%}" for name, iou in zip(names, ious, strict=True)))


if __name__ == "__main__":
    main()
