"""kill -9 a job at random moments and rerun it: is the finished store the same, byte for byte?

Usage: python benchmarks/kill.py [--rounds 20] [--shapes 60] [--workers 2]

Each round renders toy shapes into a new store, kills the job (half of the time its parent process,
else one of its workers) at random moments until it survives, and compares every file with an
undisturbed store. Only `seconds` in the commit markers may differ. Exit code 1 at any difference.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        started = time.monotonic()
        start(place / "straight", options).wait()
        straight, seconds = fingerprint(place / "straight"), time.monotonic() - started
        print(f"undisturbed: {len(straight)} files, {seconds:.1f} s", flush=True)
        failed = 0
        for round_ in range(options.rounds):
            out = place / "S"
            kills = disturb(out, options, chance, seconds)
            found = fingerprint(out)
            different = {k for k in {*found, *straight} if found.get(k) != straight.get(k)}
            failed += bool(different)
            result = f"DIFFERS in {sorted(different)[:5]}" if different else "the same bytes"
            print(f"round {round_}: {kills} kills, {result}", flush=True)
            shutil.rmtree(out)
    print(f"{options.rounds - failed} of {options.rounds} rounds ended with the same bytes")
    sys.exit(failed > 0)


def start(out: Path, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = ["render", "--dataset", "toy", "--limit", options.shapes, "--size", 96]
    command += ["--points", 512, "--shard-size", 3, "--workers", options.workers, "--out", out]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "pointcmt", *map(str, command)], **quiet)


def disturb(
    out: Path, options: argparse.Namespace, chance: random.Random, seconds: float
) -> dict[str, int]:
    """Run the job, killing it or a worker repeatedly, until it ends by itself."""
    kills = {"job": 0, "worker": 0}
    while True:
        job = start(out, options)
        if ended(job, chance.uniform(0.1, 0.6 * seconds)):
            return kills
        workers = children(job.pid)
        if workers and chance.random() < 0.5:
            subprocess.run(["kill", "-9", str(chance.choice(workers))], capture_output=True)
            kills["worker"] += 1
            if ended(job, chance.uniform(0.1, 0.6 * seconds)):
                return kills
        job.send_signal(signal.SIGKILL)
        job.wait()
        kills["job"] += 1


def ended(job: subprocess.Popen[bytes], seconds: float) -> bool:
    """Return whether a job ends by itself within some seconds."""
    try:
        return job.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file; of commit markers without the seconds."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.parent.parent.name == "commits" and path.suffix == ".json":
            marker = json.loads(data)
            del marker["checksum"]
            for outcome in marker.get("outcomes", []):
                del outcome["seconds"]
            data = json.dumps(marker).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


if __name__ == "__main__":
    main()
