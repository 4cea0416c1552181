"""Settings of the process that must be made before torch is loaded."""

import os


def let_waiting_threads_sleep() -> None:
    """Make OpenMP threads sleep while they wait, unless the environment says otherwise.

    OpenMP reads the policy when torch is loaded. By default, waiting threads spin; when two of them
    share a core (another process is enough), every layer then waits for the scheduler: on 2 cores,
    a training step of 0.1 s took 3 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
