"""Runners for the worker tests, in a module that spawned processes can import."""

import importlib
import os
import signal
import time
from pathlib import Path

import numpy as np

from pointcmt.errors import StoreError
from pointcmt.render.jobs.backlog import Backlog, carry_out
from pointcmt.render.jobs.supervisor import LocalWorkers, WorkerPool

SHAPES = 4  # per task


class Runner:
    """Does nothing with a shape, except for its fault in `faults`: shape or "task N" → fault."""

    def __init__(self, argument):
        self.faults, self.folder = argument
        self.kept = []

    def __call__(self, task, blame, report):
        ended = []
        for shape in range(task * SHAPES, (task + 1) * SHAPES):
            report(shape)
            if shape in blame:
                ended.append((shape, *blame[shape]))
                continue
            self._suffer(self.faults.get(shape, ""), shape)
            ended.append((shape, "done", ""))
        report(None)
        self._suffer(self.faults.get(f"task {task}", ""), f"task{task}")
        return task, os.getpid(), ended

    def _suffer(self, fault, name):
        if fault.endswith(" once"):
            mark = Path(self.folder) / str(name)
            if mark.exists():
                return
            mark.touch()
        match fault.removesuffix(" once"):
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "odd":
                os.kill(os.getpid(), 40)
            case "exit":
                os._exit(7)
            case "hang":
                time.sleep(3600)
            case "wait":
                (Path(self.folder) / str(name)).touch()
                while not (Path(self.folder) / "go").exists():
                    time.sleep(0.05)
            case "greedy":
                with (Path(self.folder) / "greedy").open("a") as file:
                    file.write(f"{name} ")
                hoard = [np.ones(2**24) for _ in range(40)]  # 5 GiB
                raise AssertionError(f"{len(hoard)} arrays were allowed")
            case "heavy":
                self.kept.append(np.ones(2**25))  # 0.25 GiB, never freed
                time.sleep(0.2)
            case "slow":
                time.sleep(0.2)
            case "disk full":
                raise StoreError("the disk is full", where="here", fix="free some space")


def run_tasks(tasks, work, workers):
    """Run tasks in local worker processes, without a store and its claims."""
    return carry_out(Backlog(tasks, lambda shard: ""), LocalWorkers(work, workers, WorkerPool.run))


def make(argument, worker):
    return Runner(argument)


class CompilingRunner(Runner):
    """Compiles a long function in the middle of a shape; returns how many seconds it took."""

    def __call__(self, task, blame, report):
        lines = "\n".join(f"    if x > {i}.5: x = x * 1.1 + y / {i + 1}" for i in range(200))
        found = {}
        exec(f"def long(x, y):\n{lines}\n    return x", found)
        report(0)
        if blame:
            return blame, 0.0
        began = time.monotonic()
        self.numba.njit(found["long"])(1.0, 2.0)
        seconds = time.monotonic() - began
        report(None)
        return blame, seconds


def make_compiling(argument, worker):
    runner = CompilingRunner(argument)
    runner.numba = importlib.import_module("numba")
    return runner


def make_dead(argument, worker):
    os._exit(1)


def make_hanging(argument, worker):
    time.sleep(3600)
