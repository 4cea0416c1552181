"""A training step of point networks on a CPU: ours and the textbook's, alternating.

Usage: python benchmarks/networks.py [--network pointnet2-ssg] [--compile] [--threads 1]
       [--rounds 5]

Clouds of 1,024 points on the unit sphere, float32, forward and backward, cross entropy of 40
classes. The textbooks (baselines/textbook_*.py) are how these networks are usually written in
PyTorch; both have the same weights and must give the same logits (but for neighbors that the
textbook's distances misplace), or the benchmark stops. "ours" allocates memory as the textbook,
by glibc's defaults; "as trained" keeps what is freed, as `pointcmt train` does. `--compile` adds
torch.compile, which needs a C++ compiler and takes a minute on its first step; that step is not
counted. Medians in milliseconds, ratios round by round.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from baselines.textbook_networks import TextbookDGCNN, TextbookPointMLP
from baselines.textbook_pointnet2 import TextbookPointNet2
from torch import Tensor, nn

from pointcmt.extras import keep_freed_memory
from pointcmt.training.networks.backbones import build_backbone

POINTS, CLASSES = 1024, 40
NETWORKS = {  # the textbook's, and clouds of a step
    "pointnet2-ssg": (TextbookPointNet2, 16),
    "dgcnn": (TextbookDGCNN, 8),
    "pointmlp": (TextbookPointMLP, 4),
}
TEXTBOOK, OURS, KEPT, COMPILED = "textbook", "ours", "as trained", "as trained, compiled"
TOLERANCE = 1e-2  # for logits, which are some tenths large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="pointnet2-ssg")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    textbook, ours, points, _ = networks(options.network)
    print(f"logits differ by {difference(textbook, ours, points):.1e} (median over the clouds)")
    names = [TEXTBOOK, OURS, KEPT, COMPILED][: 4 if options.compile else 3]
    with processes(options.network, names, options.threads) as ask:
        rounds = [{name: ask(name) for name in names} for _ in range(options.rounds)]
    print(f"\n{f'{options.threads} thread(s)':22}{'step':>12}{'ratio':>8}   rounds")
    for name in names:
        ratios = sorted(times[TEXTBOOK] / times[name] for times in rounds)
        median = statistics.median(times[name] for times in rounds)
        spread = f"{ratios[0]:.2f} ... {ratios[-1]:.2f}"
        print(f"{name:22}{median:9.0f} ms{statistics.median(ratios):8.2f}   {spread}")


@contextmanager
def processes(network: str, names: list[str], threads: int) -> Iterator[Callable[[str], float]]:
    """Start a process for each name, since a process allocates in one way; yield `ask`.

    ask(name) makes a step in that process and returns its milliseconds.
    """
    context, ends, running = get_context("spawn"), {}, []
    for name in names:
        ends[name], end = context.Pipe()
        running.append(context.Process(target=serve, args=(end, network, name, threads)))
        running[-1].start()

    def ask(name: str) -> float:
        ends[name].send(True)
        milliseconds: float = ends[name].recv()
        return milliseconds

    for name in names:  # one after another: the first step may compile
        ask(name)
    yield ask
    for name, process in zip(names, running, strict=True):
        ends[name].send(False)
        process.join()


def serve(end: Connection, network: str, name: str, threads: int) -> None:
    """Make a step whenever asked, and send its milliseconds, of CPU time on one thread."""
    torch.set_num_threads(threads)
    if name in (KEPT, COMPILED):
        keep_freed_memory()
    textbook, ours, points, labels = networks(network)
    if name == COMPILED:
        ours.compile()
    clock = time.process_time if threads == 1 else time.perf_counter
    while end.recv():
        model = textbook if name == TEXTBOOK else ours
        started = clock()
        model.zero_grad()
        logits = textbook(points) if name == TEXTBOOK else ours(points).logits
        F.cross_entropy(logits, labels).backward()
        end.send((clock() - started) * 1e3)


def networks(name: str) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """Return the textbook's network and ours, with the same weights, clouds, and their labels."""
    torch.manual_seed(0)
    kind, clouds = NETWORKS[name]
    points = F.normalize(torch.randn(clouds, POINTS, 3), dim=-1)
    textbook, ours = kind(CLASSES), build_backbone(name, CLASSES)
    take_over(textbook, ours)
    return textbook, ours, points, torch.randint(CLASSES, (clouds,))


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
            if own.bias is not None:
                own.bias.copy_(theirs.bias)
            elif theirs.bias is not None:
                theirs.bias.zero_()


def difference(textbook: nn.Module, ours: nn.Module, points: Tensor) -> float:
    """Return the largest difference of a cloud's training logits, median over the clouds."""
    with torch.no_grad():
        found = textbook(points) - ours(points).logits
    median = float(found.abs().amax(dim=1).median())
    if median > TOLERANCE:
        raise SystemExit(f"the two networks disagree: their logits differ by {median:.1e}")
    return median


if __name__ == "__main__":
    main()
