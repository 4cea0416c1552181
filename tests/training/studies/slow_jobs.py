"""Jobs that only write when they began and ended, for other processes."""

import os
import signal
import time
from pathlib import Path

from pointcmt import plugins
from pointcmt.errors import UsageError


def write_trusted(job, out):
    """Write which names this process may import into OUT/trusted."""
    (Path(out) / "trusted").write_text(" ".join(plugins.trusted()))


def note(job, out):
    """Write the time of beginning and end into OUT/KEY."""
    began = time.time()
    if "bad" in job.key:
        raise UsageError("this job fails", where=job.key)
    if "killed" in job.key:  # as by the kernel when memory runs out
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    path = Path(out) / job.key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{began} {time.time()}")
