"""Detection in toy rooms by `train detect`: average precision by class.

Usage: python benchmarks/detect.py --out DIR [--train 60] [--test 20] [--seeds 0,1,2]
           [--epochs 60] [--config detect-toyrooms] [--resolution 320x240] [--init RUN]
           [--set KEY=VALUE …]

Renders the rooms into DIR/rooms, trains one run per seed (all resume), and prints the
AP25 and AP50 of each on the test rooms, their mean ± standard deviation, and those of each class.
"""

import argparse
from pathlib import Path

import numpy as np
from semseg import render_rooms

from pointcmt.console import show_messages
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.loop import train


def main():
    """Print the scores of all seeds."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="folder of the store and the runs")
    options.add_argument("--train", type=int, default=60, help="rooms to train on")
    options.add_argument("--test", type=int, default=20, help="rooms to test on")
    options.add_argument("--seeds", default="0,1,2", help="seeds of the runs")
    options.add_argument("--epochs", type=int, default=60, help="epochs of each run")
    options.add_argument("--config", default="detect-toyrooms", help="configuration of the runs")
    options.add_argument("--resolution", default="320x240", help="of the frames")
    options.add_argument("--init", default=None, help="run whose weights to start from")
    options.add_argument("--set", action="append", default=[], help="KEY=VALUE for the runs")
    given = options.parse_args()
    show_messages()
    store = render_rooms(given.out / "rooms", given.train, given.test, given.resolution)
    reports = []
    for seed in map(int, given.seeds.split(",")):
        settings = {"epochs": given.epochs, "seed": seed, "init": given.init}
        config = load_config("detect", given.config, given.set, **settings)
        train(store, config, given.out / f"seed-{seed}", device="auto")
        reports.append(evaluate(given.out / f"seed-{seed}", store, which="last"))
    for name in ("ap25", "ap50"):
        report(f"detect, {given.epochs} epochs, last: {name.upper()}", reports, name)


def report(title, reports, name):
    """Print a measure of each report, mean ± standard deviation, and the mean of each class."""
    scores = [each.measures[name] for each in reports]
    spread = f" ± {np.std(scores, ddof=1):.1%}" if len(scores) > 1 else ""
    each = ", ".join(f"{score:.1%}" for score in scores)
    print(f"{title} {np.mean(scores):.1%}{spread} ({each})")
    rows = {
        label: [one.per_class[label][name] for one in reports]
        for label, row in reports[0].per_class.items()
        if row["boxes"]
    }
    print("  " + ", ".join(f"{label} {np.mean(values):.0%}" for label, values in rows.items()))


if __name__ == "__main__":
    main()
