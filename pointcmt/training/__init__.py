"""Training: from a view store to networks and their scores. Start reading at `loop.train`."""

import os

# Read by OpenMP when torch is loaded. Its default lets threads that wait spin, and where two of
# them meet on one core (another process is enough) every layer then waits for the scheduler:
# measured on 2 cores, a training step of 0.1 s took 3 s.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
