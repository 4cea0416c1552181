"""How `needs` prepares a process for torch."""

import ctypes
import os
import subprocess
import sys

import pytest

# Page faults while an array of 256 MiB is written that is as large as one just freed.
FAULTS = """
import resource
import numpy as np
from pointcmt.extras import needs

with needs("{extra}"):
    np.ones(1 << 25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 25)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (1 << 28) // 2**21  # of the largest size, should the system use such pages


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt"
)
@pytest.mark.parametrize(
    ("extra", "environment", "kept"),
    [
        ("train", {}, True),
        ("egl", {}, False),
        ("train", {"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
    ],
)
def test_memory_that_torch_frees_stays_with_the_process(extra, environment, kept):
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS.format(extra=extra)]
    done = subprocess.run(
        command, env=own | environment, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < PAGES // 2) == kept
