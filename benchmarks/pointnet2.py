"""PointNet++ SSG, forward and backward of a training step: ours and the textbook's, alternating.

Usage: python benchmarks/pointnet2.py [--compile] [--threads 1] [--rounds 5]

16 clouds of 1,024 points on the unit sphere, float32, cross entropy of 40 classes. The textbook
(baselines/textbook_pointnet2.py) is how PointNet++ is usually written in PyTorch; both have the
same weights and must give the same logits (except for points on the very edge of a ball, which the
textbook's distances misplace), or the benchmark stops. `--compile` adds ours with torch.compile,
which needs a C++ compiler and takes a minute on its first step; that step is not counted.
Medians in milliseconds, ratios round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from baselines.textbook_pointnet2 import TextbookPointNet2
from torch import Tensor, nn

from pointcmt.training.networks.backbones.pointnet2 import PointNet2SSG

CLOUDS, POINTS, CLASSES = 16, 1024, 40
TOLERANCE = 1e-2  # for logits, which are some tenths large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    points = F.normalize(torch.randn(CLOUDS, POINTS, 3), dim=-1)
    labels = torch.randint(CLASSES, (CLOUDS,))
    textbook, ours = TextbookPointNet2(CLASSES), PointNet2SSG(CLASSES)
    take_over(textbook, ours)
    print(f"logits differ by {difference(textbook, ours, points):.1e} (median over the clouds)")
    steps = {
        "textbook": step(textbook, lambda: textbook(points), labels),
        "ours": step(ours, lambda: ours(points).logits, labels),
    }
    if options.compile:
        compiled = PointNet2SSG(CLASSES)
        compiled.load_state_dict(ours.state_dict())
        compiled.compile()
        steps["ours, compiled"] = step(compiled, lambda: compiled(points).logits, labels)
    for call in steps.values():
        call()
    rounds = [{name: clock(call) for name, call in steps.items()} for _ in range(options.rounds)]
    print(f"\n{f'{options.threads} thread(s)':16}{'step':>12}{'ratio':>8}   rounds")
    for name in steps:
        ratios = sorted(times["textbook"] / times[name] for times in rounds)
        median = statistics.median(times[name] for times in rounds)
        spread = f"{ratios[0]:.2f} ... {ratios[-1]:.2f}"
        print(f"{name:16}{median:9.0f} ms{statistics.median(ratios):8.2f}   {spread}")


def take_over(textbook: nn.Module, ours: nn.Module) -> None:
    """Copy the textbook's weights to ours; biases before a batch norm do nothing and become 0."""
    kinds = nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d
    pairs = zip(
        (module for module in textbook.modules() if isinstance(module, kinds)),
        (module for module in ours.modules() if isinstance(module, kinds)),
        strict=True,
    )
    with torch.no_grad():
        for theirs, own in pairs:
            own.weight.copy_(theirs.weight.view_as(own.weight))
            if own.bias is None:
                theirs.bias.zero_()
            else:
                own.bias.copy_(theirs.bias)


def difference(textbook: nn.Module, ours: nn.Module, points: Tensor) -> float:
    """Return the largest difference of a cloud's training logits, median over the clouds."""
    with torch.no_grad():
        found = textbook(points) - ours(points).logits
    median = float(found.abs().amax(dim=1).median())
    if median > TOLERANCE:
        raise SystemExit(f"the two networks disagree: their logits differ by {median:.1e}")
    return median


def step(model: nn.Module, logits: Callable[[], Tensor], labels: Tensor) -> Callable[[], None]:
    def run() -> None:
        model.zero_grad()
        F.cross_entropy(logits(), labels).backward()

    return run


def clock(call: Callable[[], None]) -> float:
    """Return the milliseconds of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    main()
