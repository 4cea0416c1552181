"""`python -m pointcmt.datasets.store.array_server PIPE`: read stores for a process that cannot.

forks.py starts it and has the other end of the pipe (a file descriptor); it ends with that process.
"""

import signal
import sys
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pointcmt.datasets.store.storage import Storage
from pointcmt.errors import PointcmtError

_open = cache(Storage)


def main(pipe: int) -> None:
    """Answer requests until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the other process handles it
    connection = Connection(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = connection.recv()
            try:
                answer = True, _answer(*request)
            except (PointcmtError, OSError, ValueError, IndexError, MemoryError) as error:
                answer = False, error
            except Exception as error:  # any other error might not be picklable
                answer = False, ValueError(f"{type(error).__name__}: {error}")
            connection.send(answer)


def _answer(kind: str, path: str, threads: int, *request: Any) -> Any:
    if kind == "files":
        method, given, named = request
        return getattr(_open(path, threads).kv, method)(*given, **named).result()
    name, options, index = request
    array = _array(path, threads, name, tuple(options.items()))
    return np.asarray(array[index].read().result())


@cache
def _array(path: str, threads: int, name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    return _open(path, threads).open_array(name, **dict(options))


if __name__ == "__main__":
    main(int(sys.argv[1]))
