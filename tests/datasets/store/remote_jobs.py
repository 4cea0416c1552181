"""Commands and jobs for stores on object storage."""

import os
import subprocess
import sys
from contextlib import contextmanager

from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.errors import PointcmtError

SMALL = {"limit": 40, "shard": 4, "points": 64, "size": 32}
COMMAND = ("render", "--dataset", "toy", "--rig", "ortho6", "--limit", "40", "--shard-size", "4")
COMMAND += ("--size", "32", "--points", "64", "--workers", "2", "--out")
HALF_WAY = 330_000  # bytes of requests; the whole job sends twice as many


def pointcmt(*arguments, **more):
    """Run a command in this process; return its exit code and output."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], **more)
    error = found.exception
    if isinstance(error, PointcmtError):
        return error.exit_code, found.output + str(error)
    assert error is None or isinstance(error, SystemExit), repr(error)
    return found.exit_code, found.output


@contextmanager
def running(wire, *command):
    """Run a job through a connection that will break; yield it when it has broken."""
    environment = {**os.environ, "AWS_ENDPOINT_URL": wire.address}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "pointcmt", *command]
    with subprocess.Popen(command, env=environment, **quiet) as job:
        assert wire.broken.wait(60)
        yield job
    wire.cut()
