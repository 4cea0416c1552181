"""Real dask schedulers and workers on the loopback device, as processes that tests can kill."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
FAULTS = REPOSITORY / "tests" / "faults"


def environment(**more):
    """Return this process' environment with tests/faults on the path, and more variables."""
    path = os.pathsep.join([str(FAULTS), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, **{key: str(value) for key, value in more.items()}}


class Cluster:
    """A scheduler and its workers, each a subprocess.Popen.

    folder: for their logs. options: of both commands. prefix: a command that starts the scheduler.
    """

    def __init__(self, folder, *options, host="127.0.0.1", prefix=(), **env):
        self.folder, self.options, self.env = Path(folder), options, environment(**env)
        self.host, self.prefix = host, prefix
        self.workers = []
        self.started = 0
        self.address = ""
        self.start_scheduler(0)

    def start_scheduler(self, port=None):
        """Start the scheduler; by default, again on the same port."""
        port = self.address.rpartition(":")[2] if port is None else port
        options = ["--host", self.host, "--port", port, "--dashboard-address", "127.0.0.1:0"]
        self.scheduler, log = self._start("scheduler", *options, *self.options, prefix=self.prefix)
        self.address = self._wait_for(self.scheduler, log, r"Scheduler at:\s+(\S+)")

    def start_worker(self, *options, host="127.0.0.1", prefix=(), env=None, nanny=True):
        """Start a worker with one thread."""
        own = ["--host", host, "--dashboard-address", "127.0.0.1:0", "--nthreads", "1"]
        own += [] if nanny else ["--no-nanny"]
        own += ["--local-directory", self.folder]
        worker, log = self._start(
            "worker", self.address, *own, *self.options, *options, prefix=prefix, env=env
        )
        self.workers.append(worker)
        self._wait_for(worker, log, r"Registered to:\s+(\S+)")
        return worker

    def close(self):
        for process in [*self.workers, self.scheduler]:
            kill_group(process)

    def _start(self, name, *arguments, prefix=(), env=None):
        self.started += 1
        log = self.folder / f"dask_{name}_{self.started}.log"
        command = [*prefix, sys.executable, "-m", "dask", name, *arguments]
        with log.open("w") as file:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=file,
                stderr=file,
                env=self.env if env is None else env,
                cwd=self.folder,
                start_new_session=True,
            )
        return process, log

    def _wait_for(self, process, log, pattern):
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        return found.group(1)


@contextmanager
def cluster(folder, workers=2, options=(), **env):
    """Run a cluster for the duration of a test. env: variables of its processes."""
    own = Cluster(folder, *options, **env)
    try:
        for _ in range(workers):
            own.start_worker(nanny=False)
        yield own
    finally:
        own.close()


def kill_group(process):
    """Kill a process and everything that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
