"""Start jobs on a dask cluster in the background, wait for them, and create engines."""

import json
import subprocess
import sys
import time

import psutil

from pointcmt.render.jobs.cluster import Cluster, ClusterWorkers
from pointcmt.render.jobs.runner import make_runner
from pointcmt.render.jobs.supervisor import Work
from tests.render.job_commands import SMALL


def start(meshes, out, *more, env=None):
    """Start a job in the background."""
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder", "--root", meshes]
    command += ["--out", out, *SMALL, *more, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in command], env=env, **pipes)


def ended(job):
    """Wait for a job to end; return its exit code, summary and messages."""
    try:
        out, err = job.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        job.kill()
        raise AssertionError(job.communicate()) from None
    return job.returncode, json.loads(out.splitlines()[-1]) if out else {}, err


def wait_for(condition, job=None):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        assert job is None or job.poll() is None, job.communicate()
        time.sleep(0.005)
    return found


def claimants(out):
    """Return the processes that supervise the rendering of a store's shards."""
    found = []
    for path in (out / "claims").glob("*.json"):
        try:
            found.append(json.loads(path.read_bytes())["pid"])
        except (FileNotFoundError, ValueError):
            continue  # released, or not yet written
    return [pid for pid in found if psutil.pid_exists(pid)]


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def run_until_error(workers):
    while True:
        workers.finished(0.1)


def engine(address, **resources):
    cluster = Cluster(address, resources=resources)
    return ClusterWorkers(Work(make_runner, None, 1.0), cluster)
