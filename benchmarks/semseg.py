"""Segmentation of toy rooms by `train semseg`, beside a forest of hand-made features.

Usage: python benchmarks/semseg.py --out DIR [--train 60] [--test 20] [--seeds 0,1,2]
           [--epochs 36] [--config semseg-toyrooms] [--resolution 320x240]

Renders the rooms into DIR/train and DIR/test, trains one run per seed (all resume), and prints the
mIoU of each on the test rooms, its mean ± standard deviation, and the IoU of each class. The forest
is the one of `benchmarks/rooms.py` with all of its features, here of the stored points and normals
of the same rooms. It is trained and scored on one point per 5 cm; the runs are scored on all
points.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from rooms import VOXEL, features
from sklearn.ensemble import RandomForestClassifier

from pointcmt.console import show_messages
from pointcmt.datasets.store.scene_streams.voxels import Voxels
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train
from pointcmt.training.ops.semantic import confusion

TRAINED_POINTS = 6000  # of each room


def main():
    """Print the scores of all seeds and of the forest."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="folder of the store and the runs")
    options.add_argument("--train", type=int, default=60, help="rooms to train on")
    options.add_argument("--test", type=int, default=20, help="rooms to test on")
    options.add_argument("--seeds", default="0,1,2", help="seeds of the runs")
    options.add_argument("--epochs", type=int, default=36, help="epochs of each run")
    options.add_argument("--config", default="semseg-toyrooms", help="configuration of the runs")
    options.add_argument("--resolution", default="320x240", help="of the frames")
    given = options.parse_args()
    show_messages()
    stores = {
        split: render_rooms(given.out / split, split, count, given.resolution)
        for split, count in (("train", given.train), ("test", given.test))
    }
    table = forest_scores(*stores.values())
    report("forest of hand-made features", [table], stores["test"].semantic_names)
    tables = []
    for seed in map(int, given.seeds.split(",")):
        config = load_config("semseg", given.config, epochs=given.epochs, seed=seed)
        train(stores["train"], config, given.out / f"seed-{seed}", device="auto")
        scored = evaluate(given.out / f"seed-{seed}", stores["test"], which="last")
        tables.append(scored.total)
    report(f"semseg, {given.epochs} epochs, last", tables, stores["test"].semantic_names)


def render_rooms(out, split, count, resolution):
    """Render the first rooms of a split, or those that are missing; return their store."""
    command = ["render", "--dataset", "toyrooms", "--split", split, "--limit", str(count)]
    words = [sys.executable, "-m", "pointcmt", *command, "--resolution", resolution, "--out", out]
    subprocess.run(words, check=True)
    return ViewStore.open(out)


def room_points(store, room):
    """Return hand-made features [n,9] and classes [n] of one point per voxel of a room."""
    points = store.read("points", room)
    voxels = Voxels.of(points, VOXEL)
    chosen = voxels.first_points(np.arange(len(voxels)))
    upward = np.abs(store.read("normals", room)[chosen, 2])
    return features(points[chosen], upward), store.read("semantic", room)[chosen]


def forest_scores(train_store, test_store):
    """Train the forest on all rooms of one store; return its confusion on those of the other."""
    values, labels = [], []
    for room in range(train_store.schema.shapes):
        columns, label = room_points(train_store, room)
        chosen = np.random.default_rng(room).permutation(len(label))[:TRAINED_POINTS]
        values.append(columns[chosen])
        labels.append(label[chosen])
    forest = RandomForestClassifier(60, min_samples_leaf=5, max_samples=0.3, random_state=0)
    forest.fit(np.concatenate(values), np.concatenate(labels))
    tests = (room_points(test_store, room) for room in range(test_store.schema.shapes))
    classes = len(test_store.semantic_names)
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
