"""A short run of benchmarks/chaos.py, in which everything breaks."""

import os
import subprocess
import sys

import pytest

from tests.render.jobs.clusters import REPOSITORY

CHAOS = REPOSITORY / "benchmarks" / "chaos.py"


@pytest.mark.slow  # minutes; test_command.py kills jobs, too
@pytest.mark.skipif(not CHAOS.exists(), reason="a source distribution has no benchmarks")
def test_the_store_of_a_disturbed_job_equals_an_undisturbed_one():
    with subprocess.Popen(
        [sys.executable, CHAOS, "--short"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as chaos:
        try:
            said, _ = chaos.communicate(timeout=1000)
        except subprocess.TimeoutExpired:
            chaos.terminate()
            raise AssertionError(chaos.communicate()[0]) from None
    assert chaos.returncode == 0, said
    assert "the same bytes as undisturbed" in said
    assert "4 shapes failed, for good reasons" in said
