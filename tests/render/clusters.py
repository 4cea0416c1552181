"""Real dask schedulers and workers on loopback, each a process that can be killed."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FAULTS = REPOSITORY / "tests" / "faults"


def environment(**more):
    """Ours, with tests/faults on the path, and what is given."""
    path = os.pathsep.join([str(FAULTS), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, **{key: str(value) for key, value in more.items()}}


class Cluster:
    """A scheduler and its workers; each is a subprocess.Popen.

    folder: for their logs. options: of both commands. prefix: a command that starts a process.
    """

    def __init__(self, folder, *options, host="127.0.0.1", prefix=(), **env):
        self.folder, self.options, self.env = Path(folder), options, environment(**env)
        self.host, self.prefix = host, prefix
        self.workers = []
        self.started = 0
        self.address = ""
        self.start_scheduler(0)

    def start_scheduler(self, port=None):
        """Start it, anew on the same port by default."""
        port = self.address.rpartition(":")[2] if port is None else port
        options = ["--host", self.host, "--port", port, "--dashboard-address", "127.0.0.1:0"]
        self.scheduler, log = self._start(
            "dask_scheduler", *options, *self.options, prefix=self.prefix
        )
        self.address = self._wait_for(self.scheduler, log, r"Scheduler at:\s+(\S+)")

    def start_worker(self, *options, host="127.0.0.1", prefix=(), env=None, nanny=True):
        """Start a worker of one thread."""
        own = ["--host", host, "--dashboard-address", "127.0.0.1:0", "--nthreads", "1"]
        own += [] if nanny else ["--no-nanny"]
        own += ["--local-directory", self.folder]
        worker, log = self._start(
            "dask_worker", self.address, *own, *self.options, *options, prefix=prefix, env=env
        )
        self.workers.append(worker)
        self._wait_for(worker, log, r"Registered to:\s+(\S+)")
        return worker

    def close(self):
        for process in [*self.workers, self.scheduler]:
            kill_group(process)

    def _start(self, name, *arguments, prefix=(), env=None):
        self.started += 1
        log = self.folder / f"{name}_{self.started}.log"
        command = [*prefix, sys.executable, "-m", f"distributed.cli.{name}", *arguments]
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
    """A cluster for the duration of a test. env: variables of its processes."""
    own = Cluster(folder, *options, **env)
    try:
        for _ in range(workers):
            own.start_worker(nanny=False)
        yield own
    finally:
        own.close()


def kill_group(process):
    """Kill a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
