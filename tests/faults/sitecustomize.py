"""Files that crash their reader, without a hook in the package: Python loads this at startup.

With this folder on PYTHONPATH, a process that opens `mesh.off` fails in the way that `mesh.fault`
beside it names, as if the code that reads the mesh had that fault.
"""

import os
import signal
import sys
import time

MOST = 4 << 30  # the most bytes a greedy mesh takes if it is not stopped


def meet(event: str, arguments: tuple[object, ...]) -> None:
    path = arguments[0] if event == "open" and arguments else None
    if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).endswith(".off"):
        return
    try:
        with open(os.fsdecode(path).removesuffix(".off") + ".fault") as file:
            fault = file.read()
    except OSError:
        return
    if fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "greedy":
        hoard = [b"x" * 2**25 for _ in range(MOST >> 25)]
        os._exit(len(hoard))
    elif fault == "assassin":  # takes the process down that looks after this one
        os.kill(os.getppid(), signal.SIGKILL)


sys.addaudithook(meet)
