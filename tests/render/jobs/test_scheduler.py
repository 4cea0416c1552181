"""Schedulers that are missing, hang, or are other servers; options that contradict each other."""

import signal
import socket
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dask
import pytest

from pointcmt.errors import PointcmtError, UsageError
from pointcmt.render.jobs import cluster as clusters
from pointcmt.render.jobs import scheduler
from pointcmt.render.jobs.scheduler import SchedulerConnection
from tests.commands import pointcmt
from tests.render.jobs.cluster_jobs import engine
from tests.render.jobs.clusters import cluster, kill_group


def test_missing_schedulers_and_invalid_addresses_are_reported(monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 1.0)
    with pytest.raises(PointcmtError, match="cannot connect to the scheduler") as raised:
        engine("tcp://127.0.0.1:9")
    assert "--scheduler tcp://127.0.0.1:9" in raised.value.where
    assert "Connection refused" in raised.value.what
    assert " object at " not in raised.value.what
    nonsense = ("tcp://127.0.0.1", "tcp://127.0.0.1:99999", "ftp://127.0.0.1:9", "tls://[::1]:9")
    for address in nonsense:
        with pytest.raises(UsageError, match="invalid scheduler address"):
            engine(address)
    insisting = dask.config.set({"distributed.comm.require-encryption": True})
    with insisting, pytest.raises(UsageError, match="encryption required"):
        engine("tcp://127.0.0.1:9")


def test_a_refused_connection_is_reported_even_after_a_short_attempt():
    for _ in range(40):
        with pytest.raises(PointcmtError, match=r"\[Errno \d+\] Connection refused"):
            SchedulerConnection("tcp://127.0.0.1:9", 0.05)


@contextmanager
def web_server():
    """A server that waits for the rest of a request, as dask's own dashboard does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def silent():
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def greeter():
    """A server that speaks first, as SSH does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=greet, args=(listener,)).start()
        yield listener.getsockname()[1]


def greet(listener):
    with listener.accept()[0] as caller:
        caller.send(b"SSH-2.0-OpenSSH_9.2")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("other", [web_server, silent, greeter])
def test_a_server_that_is_not_a_scheduler_is_reported(other, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 2.0)
    says = "cannot connect to the scheduler: the address is in use, but not by a dask scheduler"
    with other() as port, pytest.raises(PointcmtError, match=says):
        engine(f"tcp://127.0.0.1:{port}")


@pytest.mark.timeout(60)
def test_a_job_waits_for_a_scheduler_that_hangs_but_not_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(scheduler, "REQUEST_TIMEOUT", 2.0)
    with cluster(tmp_path, workers=0) as own:
        workers = engine(own.address)
        workers.finished(0)
        own.scheduler.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(clusters, "RECONNECT_TIMEOUT", 3.0)
        with pytest.raises(PointcmtError, match="not by a dask scheduler that answers"):
            workers.finished(0)
        monkeypatch.setattr(clusters, "RECONNECT_TIMEOUT", 30.0)
        again = Thread(
            target=lambda: (time.sleep(1), kill_group(own.scheduler), own.start_scheduler())
        )
        again.start()
        workers.finished(0)
        again.join()
        workers.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scheduler", "local", "--shard-index", 0, "--num-shards", 2), "distributes all shards"),
        (("--scheduler", "tcp://127.0.0.1:9", "--workers", 2), "determined by the scheduler"),
        (("--resources", "GPU=1"), "resources need a dask scheduler"),
        *(
            (("--scheduler", "tcp://127.0.0.1:9", "--resources", nonsense), "such as GPU=1")
            for nonsense in ("GPU", "GPU=nan", "GPU=inf", "GPU=-1", "GPU=0", "=1", " =1", ",")
        ),
        (("--scheduler", "local", "--resources", "GPU=1"), "have no resources"),
    ],
)
def test_contradictory_options_are_a_usage_error(tmp_path, arguments, says):
    done = pointcmt("render", "--dataset", "toy", "--out", tmp_path / "S", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "S").exists()
