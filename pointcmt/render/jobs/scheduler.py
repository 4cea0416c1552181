"""A connection to a dask scheduler: blocking calls, each of which ends within a time limit.

It holds dask's asynchronous Client, on an event loop in a thread of its own. dask's blocking Client
has no time limit for most questions and leaves threads behind when it cannot connect.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from importlib import metadata
from itertools import chain
from threading import Thread
from typing import Any, TypeVar

import dask
from distributed import Client, Future

from pointcmt.errors import PointcmtError, UsageError

REQUEST_TIMEOUT = 10.0  # seconds for a scheduler or a worker to answer
RETRY_INTERVAL = 0.5  # seconds between attempts to connect
ADDRESS = re.compile(r"(?:([a-z]+)://)?(\[[0-9a-fA-F:.%]+\]|[^\s:@/\[\]]+):([0-9]{1,5})")
SCHEMES = (None, "tcp", "tls", "ucx", "ws", "wss")
TLS_FILES = ("distributed.comm.tls.ca-file", "distributed.comm.tls.client.cert")

T = TypeVar("T")


class SchedulerConnection:
    """A connection to the scheduler at an address; waits up to `timeout` seconds for it to answer.

    Raises UsageError for an invalid address, and PointcmtError if no scheduler answers.
    """

    def __init__(self, address: str, timeout: float) -> None:
        host, port = _host_and_port(address)
        self.address = address
        self._watchers: dict[asyncio.Task[None], Future[Any]] = {}
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # dask's own tasks
        self._thread = Thread(target=self._serve, name="dask client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(_connect(address, host, port, timeout))
        except (RuntimeError, TypeError) as error:
            self._stop()
            raise _invalid(address, str(error)) from error
        except (OSError, ImportError) as error:
            self._stop()
            raise PointcmtError(
                f"cannot connect to the scheduler: {_reason(error)}",
                where=f"--scheduler {address}",
                fix="start the scheduler or correct the address (tls:// if it uses "
                "certificates), then run the same command again",
            ) from error
        except BaseException:
            self._stop()
            raise

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        key: str,
        resources: dict[str, float] | None,
        workers: list[str] | None,
    ) -> "Future[Any]":
        """Submit a task. workers: addresses of those that may run it, None = any."""

        async def submit() -> "Future[Any]":
            future = self._client.submit(
                function, *arguments, key=key, resources=resources, workers=workers, pure=False
            )
            self._watchers[asyncio.create_task(_until_done(future))] = future
            return future

        return self._run(submit())

    def ended(self, seconds: float) -> "list[Future[Any]]":
        """Return the futures that have ended since the last call; wait for the first if needed.

        seconds: the longest wait. A future ends as "finished", "error", "cancelled" or "lost".
        """

        async def ended() -> "list[Future[Any]]":
            if not self._watchers:
                return []
            done, _ = await asyncio.wait(
                self._watchers, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            return [self._watchers.pop(watcher) for watcher in done]

        return self._run(ended())

    def result(self, future: "Future[Any]") -> Any:
        """Return the result of a future that has ended, or raise its error.

        Raises OSError if the worker that holds the result does not answer.
        """
        return self._run(_limited(future.result))

    def cancel(self, future: "Future[Any]") -> None:
        """Cancel a task that no worker can run. Raises OSError if the scheduler does not answer."""
        self._run(_limited(lambda: self._client.cancel([future])))

    def threads(self) -> dict[str, int]:
        """Return the number of threads of each worker, by address. Raises OSError."""
        return dict(self._ask(self._client.nthreads))

    def processing(self) -> set[str]:
        """Return the keys of the tasks that workers hold or run, of all clients. Raises OSError."""
        return set(chain(*self._ask(self._client.processing).values()))

    def versions(self, package: str) -> dict[str, str | None]:
        """Return the installed versions of a package: of the scheduler and of each worker.

        None: not installed. Processes that do not answer, as they may just have died, are left out.
        """
        found: dict[str, str | None] = {}

        async def ask() -> None:
            with suppress(OSError):
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    try:
                        scheduler = self._client.run_on_scheduler(metadata.version, package)
                        found["the scheduler"] = await scheduler
                    except (ImportError, KeyError):
                        found["the scheduler"] = None
            with suppress(OSError):
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    workers = self._client.run(metadata.version, package, on_error="return")
                    answers = await workers
                for address, answer in answers.items():
                    if not isinstance(answer, OSError):
                        found[address] = answer if isinstance(answer, str) else None

        self._run(ask())
        return found

    def close(self) -> None:
        """Disconnect; tasks that have not begun are dropped. Closing again does nothing."""
        if self._loop.is_closed():
            return

        async def close() -> None:
            with suppress(OSError):
                await self._client.close(timeout=REQUEST_TIMEOUT)

        try:
            self._run(close())
        finally:
            self._stop()

    def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            return self._run(_limited(question))
        except AttributeError as error:  # a Client that has given up has no scheduler
            raise OSError("the connection is closed") from error

    def _serve(self) -> None:
        with self._runner:
            self._loop.run_forever()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result. Raises OSError after `close`."""
        if self._loop.is_closed():
            coroutine.close()
            raise OSError("the connection is closed")
        running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return running.result()
        except BaseException:  # Ctrl-C, too
            running.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(REQUEST_TIMEOUT)


async def _connect(address: str, host: str, port: int, timeout: float) -> Client:
    """Return a connected Client.

    Raises OSError if no scheduler answers in time or certificates do not match, ImportError for
    incompatible versions of dask, and RuntimeError or TypeError for a configuration of dask that
    does not allow the address.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return await _attempt(address, min(REQUEST_TIMEOUT, deadline - time.monotonic()))
        except (ImportError, RuntimeError):
            raise
        except TimeoutError:
            error = _refusal(host, port) or OSError(
                "the address is in use, but not by a dask scheduler that answers; is it the "
                "address of a worker?"
            )
        except OSError as failure:
            if _tls_failed(failure):
                raise
            error = _refusal(host, port) or failure
        except Exception as failure:  # what dask makes of other protocols
            if isinstance(failure, TypeError) and not _tls_configured(address):
                raise
            error = OSError(
                "the address is in use, but not by a dask scheduler; is it the address of a worker?"
            )
        if time.monotonic() + RETRY_INTERVAL >= deadline:
            raise error
        await asyncio.sleep(RETRY_INTERVAL)


async def _attempt(address: str, seconds: float) -> Client:
    """Return a Client that has connected within some seconds. Raises whatever dask raises."""
    client = Client(address, timeout=REQUEST_TIMEOUT, asynchronous=True, set_as_default=False)
    try:
        async with asyncio.timeout(seconds):
            await client
    except BaseException:
        with suppress(OSError):
            await client.close(timeout=REQUEST_TIMEOUT)
        raise
    return client


def _refusal(host: str, port: int) -> OSError | None:
    """Return the system's error for connecting to an address, None if something listens there.

    dask's own error often says no more than that time is up.
    """
    try:
        socket.create_connection((host, port), RETRY_INTERVAL).close()
    except OSError as error:
        return error
    return None


def _tls_failed(error: BaseException | None) -> bool:
    """Whether an error comes from certificates that do not match: waiting does not help then."""
    if error is None or isinstance(error, ssl.SSLEOFError):  # a scheduler that is ending
        return False
    reasons = (error.__cause__, error.__context__, getattr(error, "real_error", None))
    return isinstance(error, ssl.SSLError) or any(map(_tls_failed, reasons))


def _tls_configured(address: str) -> bool:
    """Whether dask's configuration names the certificates that an address needs."""
    return not address.startswith("tls:") or all(dask.config.get(name, None) for name in TLS_FILES)


def _reason(error: BaseException) -> str:
    """Return the text of an error's first cause: dask's own name objects and their addresses."""
    return (_reason(error.__cause__) if error.__cause__ else "") or str(error)


def _host_and_port(address: str) -> tuple[str, int]:
    """Raises UsageError for an address that no scheduler can have."""
    parts = ADDRESS.fullmatch(address)
    if parts is None:
        raise _invalid(address, "expected a host and a port")
    scheme, host, port = parts.groups()
    if scheme not in SCHEMES:
        raise _invalid(address, f"dask does not support the protocol '{scheme}'")
    if not 0 < int(port) < 2**16:
        raise _invalid(address, f"the port {port} is out of range")
    return host.strip("[]"), int(port)


def _invalid(address: str, reason: str) -> UsageError:
    return UsageError(
        f"invalid scheduler address: {reason}",
        where=f"--scheduler {address}",
        fix="use tcp://host:port, tls://host:port with DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
        "…__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY, or local",
    )


async def _until_done(future: "Future[Any]") -> None:
    """Wait for a future to end, however it ends, without fetching its result."""
    with suppress(Exception):
        await future.exception()


async def _limited(call: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(REQUEST_TIMEOUT):
        return await call()
