"""Planning and accounting at scale: a job's overhead apart from rendering.

Usage: python benchmarks/planning.py [--shapes 60000 1000000] [--place DIR]

Shapes are simulated: a listing of that many, and the commit markers that rendering half of them
would leave. Each step runs in a separate process, which reports its wall seconds, CPU seconds and
peak memory:
  list      the listing itself (input of some of the other steps)
  plan      create the store
  commit    write the markers of half of the shards (both stages), milliseconds per shard
  resume    the same command again, until its tasks are known
  worker    what each worker does before its first task
  end       count and list failures, as at a job's end
  info      `pointcmt info`
  train     open the store and choose the rendered shapes of a split
The last line is the overhead per shape of a whole job whose shapes cost nothing to render: tasks,
claims, workers, hand-over, a file per array and shard, checksums, markers.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import Listing
from pointcmt.datasets.store.documents import Outcome, encode_outcome
from pointcmt.datasets.store.schema import (
    CORRESPONDENCES,
    DONE,
    RENDER,
    ShapeRecord,
    array_specs,
    blank,
    digest,
    render_arrays,
    shard_key,
)
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.summary import summarize
from pointcmt.errors import Reason
from pointcmt.render.config import RenderConfig
from pointcmt.render.jobs.backlog import Backlog, carry_out
from pointcmt.render.jobs.job import Job, create_store, tasks
from pointcmt.render.jobs.run import Options, complete
from pointcmt.render.jobs.runner import run_claimed
from pointcmt.render.jobs.supervisor import LocalWorkers, Work

STEPS = ("list", "plan", "commit", "resume", "worker", "end", "info", "train")
CLASSES = tuple(f"class_{i:02}" for i in range(40))
FREE = 6400  # shapes of the job without rendering cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, nargs="+", default=[60_000, 1_000_000])
    parser.add_argument("--place", type=Path, help="where stores are written, and deleted again")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # one step, as a child
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.shapes[0], options.place / "S")))
        return
    for count in options.shapes:
        with tempfile.TemporaryDirectory(dir=options.place) as folder:
            print(f"{count:,} shapes", flush=True)
            for step in STEPS:
                print(f"  {step:8}{describe(child(step, count, folder))}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.place) as folder:
        print(f"overhead {overhead(folder):.2f} ms per shape ({FREE:,} that cost nothing to draw)")


def describe(found: dict[str, float]) -> str:
    seconds, cpu, peak = (found.pop(name) for name in ("seconds", "cpu", "peak"))
    more = "".join(f"  {name} {value:,.6g}" for name, value in found.items())
    return f"{seconds:9.2f} s {cpu:9.2f} s CPU {peak:8.0f} MiB{more}"


def child(step: str, count: int, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--shapes", str(count), "--place", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(step: str, count: int, out: Path) -> dict[str, float]:
    """Return seconds and peak memory (MiB) of a step, and its other measurements."""
    job = Job(str(out), "simulated", None, "z", RenderConfig(find_rig("dodeca20")))
    listing = simulated(count) if step in ("plan", "resume", "list") else None
    started, used = time.perf_counter(), time.process_time()
    more = DO[step](out, job, listing)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "peak": peak, **more}


def simulated(count: int) -> Listing:
    shapes = tuple(
        ShapeRecord(
            f"{CLASSES[i % 40]}/{split}/{CLASSES[i % 40]}_{i:07}",
            CLASSES[i % 40],
            split,
            f"{CLASSES[i % 40]}/{split}/{CLASSES[i % 40]}_{i:07}.off",
        )
        for i in range(count)
        for split in ("test" if i % 5 == 0 else "train",)
    )
    return Listing("simulated", None, shapes, CLASSES, "z", "none", "", None, ())


def plan(out, job, listing):
    store = create_store(listing, job)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    shards, arrays = store.schema.shards, array_specs(store.schema)
    files = shards * (len(arrays) + 2) + len(arrays) + 2
    folders = sum(shards * len(spec.shape) for spec in arrays.values())
    return {"bytes": written, "shards": shards, "files when done": files, "folders": folders}


def commit(out, job, listing):
    store = ViewStore.open(out)
    shards = range(0, store.schema.shards, 2)
    started = time.perf_counter()
    for shard in shards:
        names = render_arrays(store.schema)
        keys = [shard_key(store.specs[name], name, shard) for name in names]
        outcomes = [
            Outcome(
                store.shapes[shape].id,
                *(("failed", Reason.BAD_INDEX, "face 7 of 9") if shape % 1000 == 0 else ("done",)),
                sha256=digest(b"%d" % shape),
                faces=5000,
                backend="embree",
                backend_reason="no GPU found",
            )
            for shape in store.schema.shapes_of(shard)
        ]
        marker = {"outcomes": [encode_outcome(o) for o in outcomes]}
        store.commit(RENDER, shard, {**marker, "files": dict.fromkeys(keys, "0" * 64)})
        key = shard_key(store.specs["visible"], "visible", shard)
        store.commit(CORRESPONDENCES, shard, {"failures": [], "files": {key: "0" * 64}})
    return {"ms per shard": 1e3 * (time.perf_counter() - started) / len(shards)}


def resume(out, job, listing):
    store = create_store(listing, job)
    return {"tasks": len(tasks(store, render=True, correspondences=True))}


def worker(out, job, listing):
    store = ViewStore.open(out)
    label, _ = store.label_and_split(store.shapes[store.schema.shapes - 1])
    return {"label of the last": label}


def end(out, job, listing):
    summary = complete(ViewStore.open(out), job, RENDER, Options(), [])
    return {"failures": len(summary.failures)}


def info(out, job, listing):
    return {"done": summarize(out)["done"]}


def train(out, job, listing):
    import numpy as np

    store = ViewStore.open(out)
    return {"shapes": int(np.sum((store.status() == DONE) & (store.splits == 0)))}


def count_nothing(out, job, listing):
    return {"shapes": len(listing.shapes)}


DO = {
    "list": count_nothing,
    "plan": plan,
    "commit": commit,
    "resume": resume,
    "worker": worker,
    "end": end,
    "info": info,
    "train": train,
}


def overhead(folder: str) -> float:
    """Return milliseconds per shape of a one-worker job whose shapes cost nothing to draw."""
    config = RenderConfig(find_rig("ortho6"), size=8, points=8)
    job = Job(f"{folder}/S", "simulated", None, "z", config)
    store = create_store(simulated(FREE), job)
    backlog = Backlog(tasks(store, render=True, correspondences=True), store.claims.look)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    make = importlib.import_module("planning").make_free_runner  # importable by workers
    running = carry_out(backlog, LocalWorkers(Work(make, job, timeout=600), 1, run_claimed))
    next(running)  # the worker has started
    started = time.perf_counter()
    count = sum(len(finished.outcomes) for finished in running)
    return 1e3 * (time.perf_counter() - started) / count


def make_free_runner(job: Job, worker: int):
    from pointcmt.render.jobs.shards import ShardRunner

    class FreeRunner(ShardRunner):
        """Return blank arrays instead of rendering."""

        def render_shape(self, record):
            specs = array_specs(self.store.schema)
            names = ("rgb", "depth", "face_index", "points", "normals", "visible")
            arrays = {name: blank(specs[name], 1)[0] for name in names}
            return arrays, Outcome(record.id, "done", faces=12, backend="embree")

    return FreeRunner(job, worker)


if __name__ == "__main__":
    main()
