"""CPU time of starting: whole processes, this checkout against another, alternating.

Usage: python benchmarks/start.py [--against CHECKOUT] [--rounds 7] [--store S]

Each row is the median over rounds of user + system time and the largest resident memory:
  typer      `import typer, typer.rich_utils`: what prints the help, the lower bound
  help       `pointcmt --help`
  version    `pointcmt --version`
  info       `pointcmt info STORE` (--store; else a store of 8 toy shapes)
  training   importing what `pointcmt train` imports
  doctor     `pointcmt doctor`, with all functions cached (--doctor)
  cold       `pointcmt doctor` with an empty NUMBA_CACHE_DIR (--doctor; once, not --rounds times)
CHECKOUT is another folder of the repository, such as a `git worktree` of an earlier commit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TRAINING = "import pointcmt.training.commands, pointcmt.training.loop"


class Cost(NamedTuple):
    """Seconds of CPU time, MiB of memory."""

    seconds: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--doctor", action="store_true")
    options = parser.parse_args()
    checkouts = [ROOT] if options.against is None else [options.against.absolute(), ROOT]
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or small_store(Path(folder))
        command = [sys.executable, "-P", "-m", "pointcmt"]
        rows = {
            "typer": [sys.executable, "-P", "-c", "import typer, typer.rich_utils"],
            "help": [*command, "--help"],
            "version": [*command, "--version"],
            "info": [*command, "info", str(store.absolute())],
            "training": [sys.executable, "-P", "-c", TRAINING],
        }
        if options.doctor:
            rows["doctor"] = [*command, "doctor", "--folder", folder]
        for words in rows.values():
            for checkout in checkouts:
                cost_of(words, checkout)  # compiles bytecode, fills the disk cache
        measured = {
            name: rounds_of(words, checkouts, options.rounds) for name, words in rows.items()
        }
        if options.doctor:
            measured["cold"] = [[cold(rows["doctor"], each)] for each in checkouts]
    for name, costs in measured.items():
        print(f"{name:10}", "   ".join(map(shown, costs)), ratio(costs), flush=True)


def rounds_of(words: list[str], checkouts: list[Path], rounds: int) -> list[list[Cost]]:
    """Return the costs by checkout; the checkouts take turns."""
    costs: list[list[Cost]] = [[] for _ in checkouts]
    for _ in range(rounds):
        for checkout, found in zip(checkouts, costs, strict=True):
            found.append(cost_of(words, checkout))
    return costs


def cold(words: list[str], checkout: Path) -> Cost:
    """Return the cost of a command that has to compile its functions."""
    with tempfile.TemporaryDirectory() as folder:
        return cost_of(words, checkout, NUMBA_CACHE_DIR=folder)


def cost_of(words: list[str], checkout: Path, **environment: str) -> Cost:
    """Run a command with the package of a checkout."""
    own = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **environment}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, env=own, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            errors.seek(0)
            sys.exit(errors.read()[-3000:].decode())
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def shown(costs: list[Cost]) -> str:
    middle = Cost(*map(statistics.median, zip(*costs, strict=True)))
    return f"{middle.seconds:7.3f} s {middle.memory:5.0f} MiB"


def ratio(costs: list[list[Cost]]) -> str:
    """Return the median of the new time over the old of the same round."""
    if len(costs) < 2:
        return ""
    pairs = [new.seconds / old.seconds for old, new in zip(*costs, strict=True)]
    return f"   new/old {statistics.median(pairs):.2f}"


def small_store(folder: Path) -> Path:
    store = folder / "S"
    command = ["render", "--dataset", "toy", "--limit", "8", "--rig", "ortho6", "--size", "64"]
    run = [sys.executable, "-m", "pointcmt", *command, "--workers", "1", "--out", str(store)]
    subprocess.run(run, check=True, capture_output=True)
    return store


if __name__ == "__main__":
    main()
