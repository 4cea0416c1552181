"""Rendering, end to end: `pointcmt render` against the usual pyrender script, alternating.

Usage: python benchmarks/render.py [--meshes DIR] [--copies 24 ...] [--rounds 3] [--size 224]
           [--backends auto,egl,pyrender] [--against CHECKOUT]

DIR holds mesh files at any depth; default: the real meshes of the tests (POINTCMT_TEST_DATA). Each
run is a new process and includes everything (imports, loading, drawing 20 views; ours also
anti-aliasing, points, correspondences and the store; theirs PNG files). Prints a row per
backend, with wall and CPU seconds, for each number of copies; benchmarks/RESULTS.md keeps some.
CHECKOUT is another folder of the repository, such as a `git worktree` of an earlier commit, which
takes its turn in every round. Needs Mesa's EGL, or a GPU's.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

VIEWS = 20
REAL = Path(os.environ.get("POINTCMT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
SUFFIXES = {".off", ".obj"}
ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / "baselines" / "pyrender_script.py"


class Cost(NamedTuple):
    """Wall time and CPU time in seconds."""

    seconds: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meshes", type=Path, nargs="*", default=None)
    parser.add_argument(
        "--copies", type=int, nargs="+", default=[24], help="how often each mesh is in the job"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backends", default="auto", help="ours, with commas between")
    parser.add_argument("--against", type=Path, help="another checkout, with backend auto")
    options = parser.parse_args()
    folders = options.meshes or [REAL / "ModelNet40", REAL / "ModelNet10", REAL / "textured"]
    meshes = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not meshes:
        sys.exit(f"no meshes in {', '.join(map(str, folders))}: give --meshes DIR")
    sides = {"pyrender script": theirs}
    if options.against is not None:
        sides["before"] = partial(ours, "auto", checkout=options.against.absolute())
    sides |= {f"pointcmt, {name}": partial(ours, name) for name in options.backends.split(",")}
    with tempfile.TemporaryDirectory() as place:
        job = lay_out(meshes, 1, Path(place) / "meshes")
        for side in sides.values():  # compiles kernels and bytecode: what follows is a second run
            timed(side, job, Path(place), options)
    for copies in options.copies:
        print(f"{len(meshes)} meshes × {copies}, {VIEWS} views of {options.size}²")
        with tempfile.TemporaryDirectory() as place:
            job = lay_out(meshes, copies, Path(place) / "meshes")
            compare(sides, job, Path(place), options)


def compare(sides, job: list[Path], place: Path, options: argparse.Namespace) -> None:
    """Let the sides do the job in turn, and print each round and the medians."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for round_ in range(options.rounds):
        for name, side in sides.items():
            costs[name].append(timed(side, job, place, options))
        report(f"round {round_}", {name: own[-1] for name, own in costs.items()}, len(job))
    middle = {
        name: Cost(*map(statistics.median, zip(*own, strict=True))) for name, own in costs.items()
    }
    report("median", middle, len(job))


def lay_out(meshes: list[Path], copies: int, place: Path) -> list[Path]:
    """Make one folder per mesh and copy, with the mesh and the files beside it."""
    job = []
    for copy in range(copies):
        for index, mesh in enumerate(meshes):
            folder = place / f"{index:03d}_{copy}"
            folder.mkdir(parents=True)
            for sibling in mesh.parent.iterdir():
                if sibling == mesh or sibling.suffix.lower() not in SUFFIXES:
                    (folder / sibling.name).write_bytes(sibling.read_bytes())
            job.append(folder / mesh.name)
    return job


def ours(
    backend: str, job: list[Path], out: Path, options: argparse.Namespace, checkout: Path = ROOT
) -> None:
    root = job[0].parents[1]
    command = [sys.executable, "-P", "-m", "pointcmt", "render", "--dataset", "folder", "--up", "z"]
    command += ["--root", root, "--out", out, "--workers", options.workers, "--size", options.size]
    run([*command, "--limit", len(job), "--backend", backend, "--log-format", "plain"], checkout)


def theirs(job: list[Path], out: Path, options: argparse.Namespace) -> None:
    run([sys.executable, SCRIPT, out, options.size, *job], ROOT)


def run(command: list[object], checkout: Path) -> None:
    """Run a command with the package of a checkout, and with bytecode, as in an installation."""
    own = {**os.environ, "PYTHONPATH": str(checkout)}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=own)
    if done.returncode:
        sys.exit(f"{command[:4]} failed:\n{done.stderr[-3000:]}")


def timed(side, job: list[Path], place: Path, options: argparse.Namespace) -> Cost:
    out = place / "out"
    before, started = cpu_of_children(), time.perf_counter()
    side(job, out, options)
    cost = Cost(time.perf_counter() - started, cpu_of_children() - before)
    shutil.rmtree(out)
    return cost


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(title: str, costs: dict[str, Cost], shapes: int) -> None:
    baseline = costs["pyrender script"]
    print(title)
    for name, own in costs.items():
        rate, ratio = shapes * VIEWS / own.seconds, baseline.seconds / own.seconds
        print(
            f"  {name:16} {own.seconds:7.2f} s {rate:6.0f} views/s   ratio {ratio:5.2f}   "
            f"CPU {own.cpu:7.2f} s, ratio {baseline.cpu / own.cpu:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
