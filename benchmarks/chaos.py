"""Inject faults into a job on a dask cluster; the finished store must equal an undisturbed one.

Usage: python benchmarks/chaos.py [--shapes 300] [--seed 0] [--short]

Two workers render a folder of meshes, some of which crash the process that reads them, while at
random moments processes are killed or stopped, the disk is filled, and other jobs join in. Killed
processes are restarted with the same command. When all is rendered, files are damaged, and repaired
by `pointcmt verify --repair`. Then every file is compared with those of an undisturbed run; only
`seconds` in the commit markers may differ. Finally a student is trained from the store while files
of it disappear, a copy of it is interrupted, and foreign files lie in all of its folders
(chaos_training.py). Prints what was done and the verdict; exit code 1 if a byte differs, or if a
shape failed unexpectedly or for the wrong reason.

Needs a POSIX system; filling the disk requires permission to mount a small file system (root).
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos_training import train_disturbed
from kill import children, fingerprint

from pointcmt.datasets.sources import list_shapes, select, toy

REPOSITORY = Path(__file__).parents[1]
HOOK = REPOSITORY / "tests" / "faults"  # triggers the faults of faulty meshes
REASONS = {"segfault": "crashed", "hang": "timeout", "greedy": "too_large"}
SHARD = 3  # shapes
LIMITS = ["--timeout", "8", "--memory-limit", "1"]
FAULTS = {  # how often each happens; for the first three, the number of meshes with it
    "segfault": 3,
    "hang": 2,
    "greedy": 2,
    "kill a render process": 6,
    "kill a dask worker": 5,
    "kill a nanny": 3,
    "kill the job": 4,
    "kill the scheduler": 2,
    "stop a worker for a while": 2,
    "another job on the same store": 2,
    "fill the disk": 2,
    "flip a bit": 2,
    "truncate a file": 2,
    "delete a file": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="60 shapes, each fault once")
    options = parser.parse_args()
    faults = dict.fromkeys(FAULTS, 1) if options.short else FAULTS
    shapes = 60 if options.short else options.shapes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that child processes are cleaned up
    with tempfile.TemporaryDirectory() as folder, disk(Path(folder) / "disk") as place:
        if not os.path.ismount(place):
            print("not root: the disk is not filled")
            faults = {**faults, "fill the disk": 0}
        meshes = Path(folder) / "meshes"
        expected = lay_out(meshes, shapes, faults)
        started = time.monotonic()
        run(render(meshes, Path(folder) / "straight", "--workers", "2"), codes=(3,))
        straight = fingerprint(Path(folder) / "straight")
        print(f"undisturbed: {len(straight)} files, {time.monotonic() - started:.0f} s", flush=True)
        started = time.monotonic()
        shards = -(-shapes // SHARD)
        chaos = Chaos(Path(folder), meshes, place / "S", shards, random.Random(options.seed))
        try:
            chaos.run(faults)
        except BaseException:
            print((Path(folder) / "job.log").read_text())
            raise
        finally:
            chaos.close()
        print(f"disturbed: {time.monotonic() - started:.0f} s", flush=True)
        code = judge(place / "S", straight, expected, faults, chaos.done)
        started = time.monotonic()
        training = Path(folder) / "training"
        losses = 1 if options.short else 3
        happened = train_disturbed(training, place / "S", meshes, pointcmt, chaos.chance, losses)
        for kind, count in happened.items():
            print(f"{kind:44}{count:5}")
        print(f"trained while disturbed: {time.monotonic() - started:.0f} s, the same bytes")
        sys.exit(code)


class Chaos:
    """A cluster, a job on it, and the faults injected. done: how often each happened."""

    def __init__(
        self, folder: Path, meshes: Path, out: Path, shards: int, chance: random.Random
    ) -> None:
        self.folder, self.meshes, self.out, self.chance = folder, meshes, out, chance
        self.markers = 2 * shards  # one for images, one for correspondences
        self.done: Counter[str] = Counter()
        self.spared: set[str] = set()  # shards with a killed process: two kills count as a crash
        self.others: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = 0
        self.start_scheduler()
        self.job = self.start_job()

    def run(self, faults: dict[str, int]) -> None:
        """Inject all faults, finish the job, damage the files and have them repaired."""
        damage = [kind for kind in DAMAGE for _ in range(faults[kind])]
        moments = [kind for kind in MOMENTS for _ in range(faults[kind])]
        self.chance.shuffle(moments)
        for index, kind in enumerate(moments):
            self.keep_going(until=index / len(moments))
            time.sleep(self.chance.uniform(0, 0.5))
            MOMENTS[kind](self)
            self.note(kind)
        while self.missing() or self.job.poll() not in (0, 3):
            self.start_again()
            time.sleep(0.05)
        for other in self.others:
            assert other.wait() in (0, 3)
        for kind in damage:
            DAMAGE[kind](self.some_file(), self.chance)
            self.note(kind)
        verify = ["verify", self.out, "--root", self.meshes, "--repair"]
        run(pointcmt("verify", self.out), codes=(1,) if damage else (0,))
        run(pointcmt(*verify, "--workers", "2"), codes=(0,))

    def note(self, kind: str) -> None:
        self.done[kind] += 1
        shards = len(list(self.out.glob("commits/render/*.json")))
        print(f"  {kind}, at {shards} shards", flush=True)

    def keep_going(self, until: float = 0.0) -> None:
        """Restart what has stopped; wait until a share is done and more is in progress."""
        while True:
            if self.job.poll() is not None and not self.missing():
                self.lose_markers()
            self.start_again()
            if self.claims() and self.missing() <= (1 - until) * self.markers:
                return
            time.sleep(0.05)

    def start_again(self) -> None:
        """Restart workers and the job if they have stopped."""
        self.start_workers()
        if self.job.poll() is not None:
            self.job = self.start_job()

    def start_workers(self) -> None:
        """Start missing workers; some exit late after losing their scheduler."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            self.start_worker()

    def lose_markers(self) -> None:
        """Delete half of the commit markers, so that there is work left."""
        markers = sorted(self.out.glob("commits/render/*.json"))
        for marker in self.chance.sample(markers, len(markers) // 2):
            marker.unlink()

    def missing(self) -> int:
        """Return the number of missing commit markers."""
        return self.markers - len(list(self.out.glob("commits/*/*.json")))

    def claims(self) -> list[tuple[str, int]]:
        """Return (shard, owning process) of everything being rendered now."""
        found = []
        for path in self.out.glob("claims/*.json"):
            with suppress(OSError, ValueError):
                found.append((path.name, json.loads(path.read_text())["pid"]))
        return found

    def start_scheduler(self) -> None:
        name = f"scheduler{time.monotonic_ns()}.log"
        at = ["--host", "127.0.0.1", "--port", self.port, "--dashboard-address", "127.0.0.1:0"]
        self.scheduler = self.start(dask("scheduler", at), name)
        while not (found := re.search(r"Scheduler at:.*:(\d+)", (self.folder / name).read_text())):
            assert self.scheduler.poll() is None, (self.folder / name).read_text()
            time.sleep(0.05)
        self.port = int(found[1])

    def start_worker(self) -> None:
        own = [f"tcp://127.0.0.1:{self.port}", "--host", "127.0.0.1", "--nthreads", "1"]
        own += ["--dashboard-address", "127.0.0.1:0", "--local-directory", self.folder]
        self.workers.append(self.start(dask("worker", own), f"worker{time.monotonic_ns()}.log"))

    def start_job(self) -> subprocess.Popen[bytes]:
        cluster = ["--scheduler", f"tcp://127.0.0.1:{self.port}"]
        return self.start(render(self.meshes, self.out, *cluster), "job.log")

    def start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("a") as file:
            return subprocess.Popen(
                command, env=environment(), stdout=file, stderr=file, start_new_session=True
            )

    def close(self) -> None:
        for process in (self.job, *self.others, self.scheduler, *self.workers):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def kill_render_process(self) -> None:
        """Kill one in a shard without an earlier kill: after two, its shape would be blamed."""
        while True:
            self.keep_going()
            for shard, supervisor in self.claims():
                victims = children(supervisor)
                if shard not in self.spared and victims:
                    self.spared.add(shard)
                    return kill(victims[0])
            time.sleep(0.01)

    def kill_dask_worker(self) -> None:
        nannies = {worker.pid for worker in self.workers}
        workers = [pid for _, pid in self.claims() if parent(pid) in nannies]
        kill(self.chance.choice(workers or sorted(nannies)))

    def kill_nanny(self) -> None:
        victim = self.chance.choice(self.workers)
        victim.kill()
        victim.wait()

    def kill_job(self) -> None:
        self.job.kill()
        self.job.wait()

    def kill_scheduler(self) -> None:
        """Kill the scheduler; connected workers exit by themselves after finishing their shards."""
        self.scheduler.kill()
        self.scheduler.wait()
        self.start_scheduler()

    def stop_worker(self) -> None:
        victim = self.chance.choice(self.workers).pid
        os.killpg(victim, signal.SIGSTOP)
        time.sleep(self.chance.uniform(1, 6))
        with suppress(ProcessLookupError):
            os.killpg(victim, signal.SIGCONT)

    def another_job(self) -> None:
        command = render(self.meshes, self.out, "--workers", "1")
        self.others.append(self.start(command, "other.log"))

    def fill_disk(self) -> None:
        """Fill the disk until all jobs notice. Repeat if the job had just finished writing."""
        ballast = self.out.parent / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**16))
        deadline = time.monotonic() + 120
        running = [self.job, *self.others]
        while any(one.poll() is None for one in running) and time.monotonic() < deadline:
            self.start_workers()
            time.sleep(0.05)
        ballast.unlink()
        codes = [one.poll() for one in running]
        assert set(codes) <= {0, 1, 3}, f"not all noticed that the disk was full: {codes}"
        self.others = []
        if codes[0] != 1:
            self.keep_going()
            self.fill_disk()

    def some_file(self) -> Path:
        """Return a file of a shard, or a marker. Markers that record crashes are excluded: without
        them the crashing shapes would be tried again."""
        arrays = [path for path in self.out.glob("*/c/**/*") if path.is_file()]
        markers = [
            path
            for path in self.out.glob("commits/*/*.json")
            if not any(reason.encode() in path.read_bytes() for reason in REASONS.values())
        ]
        return self.chance.choice(sorted(self.chance.choice([arrays, markers])))


MOMENTS: dict[str, Callable[[Chaos], None]] = {
    "kill a render process": Chaos.kill_render_process,
    "kill a dask worker": Chaos.kill_dask_worker,
    "kill a nanny": Chaos.kill_nanny,
    "kill the job": Chaos.kill_job,
    "kill the scheduler": Chaos.kill_scheduler,
    "stop a worker for a while": Chaos.stop_worker,
    "another job on the same store": Chaos.another_job,
    "fill the disk": Chaos.fill_disk,
}


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "flip a bit": flip,
    "truncate a file": truncate,
    "delete a file": delete,
}


def lay_out(folder: Path, shapes: int, faults: dict[str, int]) -> dict[str, str]:
    """Write toy meshes, some with a fault; return the reasons that those must fail for."""
    names = [kind for kind in REASONS for _ in range(faults[kind])]
    names += ["broken"] * max(1, shapes // 100)
    places = {number * shapes // len(names): name for number, name in enumerate(names)}
    expected = {}
    for index, shape in enumerate(select(list_shapes("toy", None), None, shapes).shapes):
        mesh = toy.build(shape.id)
        lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
        lines += [" ".join(map(repr, vertex)) for vertex in mesh.vertices.tolist()]
        lines += [" ".join(map(str, [3, *face])) for face in mesh.faces.tolist()]
        path = folder / f"{shape.class_name}/{shape.split}/{shape.id.replace('/', '_')}.off"
        path.parent.mkdir(parents=True, exist_ok=True)
        fault = places.get(index, "")
        name = path.relative_to(folder).with_suffix("").as_posix()
        if fault == "broken":
            lines, expected[name] = lines[:-1], "truncated"
        path.write_text("\n".join(lines) + "\n")
        if fault in REASONS:
            path.with_suffix(".fault").write_text(fault)
            expected[name] = REASONS[fault]
    return expected


def judge(
    out: Path,
    straight: dict[str, str],
    expected: dict[str, str],
    faults: dict[str, int],
    done: Counter[str],
) -> int:
    """Print what happened and the outcome; return 1 if anything is wrong."""
    found = fingerprint(out)
    different = sorted(key for key in {*found, *straight} if found.get(key) != straight.get(key))
    info = run(pointcmt("info", out, "--json"), codes=(0,))
    failed = {one["id"]: one["reason"] for one in json.loads(info.splitlines()[-1])["failures"]}
    for name, reason in sorted(failed.items()):
        print(f"failed: {name}: {reason}")
    print(f"{'fault':34}times")
    for kind, count in faults.items():
        print(f"{kind:34}{done.get(kind, count if kind in REASONS else 0):5}")
    total = sum(done.values()) + sum(faults[kind] for kind in REASONS)
    print(f"{total} faults, {len(found)} files: ", end="")
    print(f"DIFFERENT: {different[:5]}" if different else "the same bytes as undisturbed")
    wrong = {key for key in {*failed, *expected} if failed.get(key) != expected.get(key)}
    print(f"WRONG REASONS: {wrong}" if wrong else f"{len(failed)} shapes failed, for good reasons")
    return int(bool(different or wrong))


def render(meshes: Path, out: Path, *more: str) -> list[str]:
    small = ["--rig", "ortho6", "--size", "64", "--points", "256"]
    small += ["--shard-size", str(SHARD)]
    where = ["--dataset", "folder", "--up", "z", "--root", str(meshes), "--out", str(out)]
    return pointcmt("render", *where, *small, *LIMITS, *more)


def pointcmt(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pointcmt", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{HOOK}{os.pathsep}{REPOSITORY}"}


def dask(name: str, arguments: list[object]) -> list[str]:
    return [sys.executable, "-m", f"distributed.cli.dask_{name}", *map(str, arguments)]


def run(command: list[str], codes: tuple[int, ...]) -> str:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode not in codes:
        sys.exit(f"{command[2:5]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """Mount a file system of 200 MB if permitted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    mounted = not os.geteuid() and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


if __name__ == "__main__":
    main()
