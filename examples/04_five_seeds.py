"""Print a table as papers have it: two networks, mean ± standard deviation over five seeds.

Usage: python examples/04_five_seeds.py STORE OUT [SEEDS] [EPOCHS]

Called again, it trains only what is missing. For paired differences with intervals, and for
distilled against vanilla students: `pointcmt train … --seeds 0,1,2,3,4`.
"""

import statistics
import sys
from pathlib import Path

import pointcmt as pc

store, out = pc.open_store(sys.argv[1]), Path(sys.argv[2])
seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
epochs = int(sys.argv[4]) if len(sys.argv) > 4 else 20
networks = {"PointNet": "pointnet", "DGCNN": "dgcnn"}
measures = ("overall_accuracy", "mean_class_accuracy")

print(f"| network | OA | mAcc | parameters |\n|---|{'---|' * 3}")
for name, backbone in networks.items():
    scores: dict[str, list[float]] = {measure: [] for measure in measures}
    for seed in range(seeds):
        result = pc.train(
            "student",
            data=store,
            out=out / f"{backbone}-{seed}",
            seed=seed,
            epochs=epochs,
            model__backbone=backbone,
            data__points=128,
            data__batch_size=10,
        )
        # "last" is the honest choice with few shapes: "best" is selected on a validation split
        report = pc.evaluate(result.folder, data=store, checkpoint="last")
        for measure in measures:
            scores[measure].append(100 * report.measures[measure])
    cells = [
        f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
        for values in scores.values()
    ]
    parameters = result.cost.inference_parameters / 1e6 if result.cost else 0
    print(f"| {name} | {' | '.join(cells)} | {parameters:.2f} M |", flush=True)
