"""Jobs on real dask clusters: whatever is killed, no shard is lost or rendered twice."""

import asyncio
import datetime
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dask
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import Client

from pointcmt.datasets.store.schema import RENDER
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.render.jobs import cluster as clusters
from pointcmt.render.jobs import scheduler
from pointcmt.render.jobs.cluster import Cluster, ClusterWorkers
from pointcmt.render.jobs.job import Task
from pointcmt.render.jobs.runner import make_runner
from pointcmt.render.jobs.scheduler import SchedulerConnection
from pointcmt.render.jobs.supervisor import Work
from tests.render import shapes
from tests.render.clusters import REPOSITORY, cluster, environment, kill_group
from tests.render.jobs import SMALL, facts, pointcmt, render, write_off
from tests.stores import tree


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A scheduler and two workers that several tests share; no test may damage them."""
    with cluster(tmp_path_factory.mktemp("pair")) as own:
        yield own


def start(meshes, out, *more, env=None):
    """Start a job in the background."""
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder", "--root", meshes]
    command += ["--out", out, *SMALL, *more, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in command], env=env, **pipes)


def ended(job):
    """Wait for a job to end; return its exit code, summary and messages."""
    try:
        out, err = job.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        job.kill()
        raise AssertionError(job.communicate()) from None
    return job.returncode, json.loads(out.splitlines()[-1]) if out else {}, err


def wait_for(condition, job=None):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        assert job is None or job.poll() is None, job.communicate()
        time.sleep(0.005)
    return found


def claimants(out):
    """Return the processes that supervise the rendering of a store's shards."""
    found = []
    for path in (out / "claims").glob("*.json"):
        try:
            found.append(json.loads(path.read_bytes())["pid"])
        except (FileNotFoundError, ValueError):
            continue  # released, or not yet written
    return [pid for pid in found if psutil.pid_exists(pid)]


def test_a_cluster_writes_the_same_bytes(pair, meshes, finished, tmp_path):
    out = tmp_path / "S"
    done = render(meshes, out, "--scheduler", pair.address, "--log-format", "json", "--json")
    assert done.returncode == 3, done.stderr
    assert tree(out) == tree(finished)
    assert {key: facts(done)[key] for key in ("done", "failed", "skipped")} == {
        "done": 8,
        "failed": 1,
        "skipped": 0,
    }
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    progress = [line for line in lines if "eta_seconds" in line]
    assert sorted(line["shard"] for line in progress) == list(range(5))
    shutil.rmtree(out / "commits/visible")
    relative = ("build-correspondences", "S", "--root", os.path.relpath(meshes, tmp_path))
    done = pointcmt(*relative, "--scheduler", pair.address, cwd=tmp_path, env=environment())
    assert done.returncode == 3, done.stderr
    assert tree(out) == tree(finished)


def test_a_stopped_or_killed_client_that_comes_back_resumes(pair, meshes, finished, tmp_path):
    out = tmp_path / "S"
    job = start(meshes, out, "--scheduler", pair.address)
    wait_for(lambda: claimants(out), job)
    job.send_signal(signal.SIGINT)
    code, _, said = ended(job)
    assert code == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    job = start(meshes, out, "--scheduler", pair.address)
    wait_for(lambda: claimants(out), job)
    job.kill()
    job.communicate()
    code, summary, said = ended(start(meshes, out, "--scheduler", pair.address))
    assert code == 3, said
    assert summary["done"] + summary["skipped"] == 8
    assert tree(out) == tree(finished)


def test_shapes_that_crash_their_worker_are_recorded_and_the_others_are_rendered(
    pair, meshes, tmp_path
):
    root, out = tmp_path / "meshes", tmp_path / "S"
    shutil.copytree(meshes, root)
    for fault in ("segfault", "hang", "greedy"):
        write_off(root / f"bad/train/{fault}.off", shapes.box(0.5))
        (root / f"bad/train/{fault}.fault").write_text(fault)
    before = [worker.poll() for worker in pair.workers]
    limits = ("--scheduler", pair.address, "--timeout", 4, "--memory-limit", 1)
    code, summary, said = ended(start(root, out, *limits))
    assert code == 3, said
    assert {failure["id"]: failure["reason"] for failure in summary["failures"]} == {
        "bad/train/segfault": "crashed",
        "bad/train/hang": "timeout",
        "bad/train/greedy": "too_large",
        "ball/train/broken": "bad_index",
    }
    details = {failure["id"]: failure["detail"] for failure in summary["failures"]}
    assert "SIGSEGV" in details["bad/train/segfault"]
    assert "--memory-limit 1 " in details["bad/train/greedy"]
    assert summary["done"] == 8
    assert before == [worker.poll() for worker in pair.workers] == [None, None]
    for file in root.glob("bad/train/*.fault"):
        file.unlink()
    code, summary, said = ended(start(root, out, *limits, "--retry-failed"))
    assert [failure["id"] for failure in summary["failures"]] == ["ball/train/broken"], said
    assert summary["done"] > 0
    assert verify(str(out)).ok


def test_a_worker_killed_in_the_middle_of_a_shard_loses_nothing(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        own.start_worker(nanny=True)
        job = start(meshes, out, "--scheduler", own.address)
        for victim in range(2):  # without a nanny, the first stays dead: the second has one
            pid = wait_for(lambda: claimants(out), job)[0]
            if victim == 0:
                assert pid in (own.workers[0].pid, *children(own.workers[1].pid))
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.3)
        code, summary, said = ended(job)
    assert code == 3, said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree(out) == tree(finished)


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def test_a_job_resumes_when_a_killed_scheduler_comes_back(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        job = start(meshes, out, "--scheduler", own.address)
        wait_for(lambda: list(out.glob("commits/render/*.json")), job)
        kill_group(own.scheduler)
        own.start_scheduler()
        own.start_worker(nanny=False)
        code, summary, said = ended(job)
    assert code == 3, said
    assert "lost the scheduler" in said
    assert "Traceback" not in said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree(out) == tree(finished)


@pytest.mark.slow
def test_a_job_waits_for_workers_with_the_resources_it_asks_for(meshes, finished, tmp_path):
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1) as own:
        job = start(meshes, out, "--scheduler", own.address, "--resources", "GPU=1")
        said = job.stderr.readline()
        while "no workers with --resources GPU=1" not in said:
            said = job.stderr.readline()
            assert job.poll() is None
        assert not list(out.glob("commits/render/*"))
        own.start_worker("--resources", "GPU=1", nanny=False)
        assert ended(job)[0] == 3
    assert tree(out) == tree(finished)


def run_until_error(workers):
    while True:
        workers.finished(0.1)


@pytest.mark.timeout(60)
def test_tasks_of_other_clients_do_not_hide_that_no_worker_can_run_ours(
    pair, monkeypatch, messages
):
    monkeypatch.setattr(clusters, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(clusters, "RECONNECT_TIMEOUT", 1.0)
    with Client(pair.address, set_as_default=False) as others:
        running = others.submit(time.sleep, 8)
        workers = engine(pair.address, GPU=1.0)
        workers.submit(Task(RENDER, 0))
        with pytest.raises(PointcmtError, match="no workers with --resources GPU=1"):
            run_until_error(workers)
        assert "waiting up to 1 s for some" in messages()
        assert running.status == "pending"
        running.cancel()
        workers.close()


HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


@pytest.fixture
def hiding():
    """A command prefix that starts a worker for which a folder is empty, like a missing mount."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("only root can hide a folder from a process")
    return lambda folder: (*HIDDEN, folder)


def test_a_worker_that_does_not_see_the_data_set_stops_the_job(meshes, tmp_path, hiding):
    out = tmp_path / "out" / "S"
    with cluster(tmp_path, workers=0) as own:
        own.start_worker(prefix=hiding(meshes), nanny=False)
        code, _, said = ended(start(meshes, out, "--scheduler", own.address))
        assert code == 1
        assert re.search(rf"--root {meshes}, worker tcp://127.0.0.1:\d+ on ", said)
        assert "mount the dataset at the same path" in said
        assert "Traceback" not in said
        assert ViewStore.open(out).committed() == [], "missing files are not a shape's fault"


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_store_loses_nothing_if_others_do(
    meshes, finished, tmp_path, hiding
):
    out = tmp_path / "out" / "S"
    out.parent.mkdir()
    with cluster(tmp_path, workers=1) as own:
        own.start_worker(prefix=hiding(out.parent), nanny=False)
        code, _, said = ended(start(meshes, out, "--scheduler", own.address))
    assert code == 3, said
    assert "there is no store here" in said
    assert tree(out) == tree(finished)


OTHERS = {"scheduler": None, "old": "0.0.7", "none": None}


def other_version(folder, version):
    """Return an environment with another version of pointcmt, or without it (None)."""
    package = shutil.copytree(REPOSITORY / "pointcmt", folder / "pointcmt")
    code = f"__version__ = {version!r}" if version else "raise ModuleNotFoundError('pointcmt')"
    (package / "__init__.py").write_text(code)
    said = f"Version: {version}\n" if version else ""
    (folder / "pointcmt-0.dist-info").mkdir()
    (folder / "pointcmt-0.dist-info/METADATA").write_text(f"Name: pointcmt\n{said}")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_processes_with_another_pointcmt_or_none_are_named(meshes, tmp_path):
    found = {name: other_version(tmp_path / name, version) for name, version in OTHERS.items()}
    with cluster(tmp_path, workers=0, **found["scheduler"]) as own:
        for name in ("old", "none"):
            own.start_worker("--name", name, env=found[name], nanny=False)
        code, _, said = ended(start(meshes, tmp_path / "S", "--scheduler", own.address))
        assert all(process.poll() is None for process in own.workers), "nothing was sent to them"
    assert code == 1
    assert re.search("all workers need pointcmt .*: the scheduler has none, ", said)
    assert re.search(r"tcp://127.0.0.1:\d+ has 0.0.7", said)
    assert re.search(r"tcp://127.0.0.1:\d+ has none", said)
    assert "Traceback" not in said


def listening(pid):
    """Return the addresses that a process listens on, as /proc writes them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
        except FileNotFoundError:
            continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    LISTEN = "0A"
    return {line[1].split(":")[0] for line in lines if line[3] == LISTEN and line[9] in sockets}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_only_this_machine_can_reach_the_local_cluster(meshes, finished, tmp_path):
    out = tmp_path / "S"
    job = start(meshes, out, "--scheduler", "local", "--workers", 2)
    wait_for(lambda: claimants(out), job)
    workers = children(job.pid)
    found = [address for pid in (job.pid, *workers) for address in listening(pid)]
    code, _, said = ended(job)
    assert code == 3, said
    LOOPBACK = "0100007F"  # 127.0.0.1
    assert len(workers) >= 2
    assert set(found) == {LOOPBACK}
    assert tree(out) == tree(finished)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A key and a certificate for a cluster, and a stranger's."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "strangers"):
        make_certificate(folder, name)
    return folder


def make_certificate(folder, name):
    """Write a key and a self-signed certificate for 127.0.0.1 that is valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(own, own, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(key, hashes.SHA256())
    )
    kind = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, *kind))


def tls(folder, name):
    """Return a client's environment variables for TLS with one of the certificates."""
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        f"{prefix}CA_FILE": str(folder / f"{name}.pem"),
        f"{prefix}CLIENT__CERT": str(folder / f"{name}.pem"),
        f"{prefix}CLIENT__KEY": str(folder / f"{name}.key"),
    }


def test_a_cluster_with_tls_accepts_only_clients_with_its_certificates(
    meshes, finished, tmp_path, certificates
):
    options = ("--protocol", "tls", "--tls-ca-file", certificates / "ours.pem")
    options += ("--tls-cert", certificates / "ours.pem", "--tls-key", certificates / "ours.key")
    out = tmp_path / "S"
    with cluster(tmp_path, workers=1, options=options) as own:
        assert own.address.startswith("tls://127.0.0.1:")
        job = start(
            meshes, out, "--scheduler", own.address, env=environment(**tls(certificates, "ours"))
        )
        assert ended(job)[0] == 3
        assert tree(out) == tree(finished)
        plain = own.address.replace("tls://", "tcp://")
        for address, env in ((plain, {}), (own.address, tls(certificates, "strangers"))):
            code = (
                "from tests.render.test_cluster import clusters, engine\n"
                "clusters.CONNECT_TIMEOUT = 2.0\n"
                f"engine({address!r})\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment(**env),
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
            )
            assert "PointcmtError: cannot connect to the scheduler" in done.stderr


def test_a_full_disk_stops_the_job_which_resumes_when_there_is_space(
    pair, meshes, finished, small_disk
):
    out = small_disk / "S"
    code, _, said = ended(start(meshes, out, "--scheduler", pair.address))
    assert code == 1
    assert "the disk is full" in said
    assert "worker tcp://127.0.0.1:" in said
    assert "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert ended(start(meshes, out, "--scheduler", pair.address))[0] == 3
    assert tree(out) == tree(finished)


def test_a_worker_that_dask_considers_lost_but_that_still_works_keeps_its_shard(
    meshes, finished, tmp_path
):
    """It is stopped for longer than dask waits, but for less time than its claim lasts."""
    out = tmp_path / "S"
    with cluster(tmp_path, workers=2, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s") as own:
        job = start(meshes, out, "--scheduler", own.address)
        pid = wait_for(lambda: claimants(out), job)[0]
        os.killpg(pid, signal.SIGSTOP)
        claimed = [
            path.name for path in (out / "claims").glob("*.json") if str(pid) in path.read_text()
        ]
        log = own.folder / "dask_scheduler_1.log"
        wait_for(lambda: "Worker failed to heartbeat" in log.read_text(), job)
        others = ViewStore.open(out).schema.shards - len(claimed)
        wait_for(lambda: len(list(out.glob("commits/render/*.json"))) == others, job)
        assert claimed
        assert not [name for name in claimed if (out / "commits/render" / name).exists()]
        os.killpg(pid, signal.SIGCONT)
        code, summary, said = ended(job)
    assert code == 3, said
    assert "waiting for" in said
    assert (summary["done"] + summary["skipped"], summary["failed"]) == (8, 1)
    assert tree(out) == tree(finished)


def engine(address, **resources):
    cluster = Cluster(address, resources=resources)
    return ClusterWorkers(Work(make_runner, None, 1.0), cluster)


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


def test_an_engine_runs_inside_the_event_loop_of_a_notebook(pair):
    """A notebook runs its cells in a thread with a running event loop."""

    async def cell():
        workers = engine(pair.address)
        assert workers.finished(0) == []
        workers.close()

    asyncio.run(cell())


def test_no_thread_is_left_behind(pair, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 1.0)
    before = set(threading.enumerate())
    with pytest.raises(PointcmtError, match="cannot connect to the scheduler"):
        engine("tcp://127.0.0.1:9")
    assert set(threading.enumerate()) == before
    workers = engine(pair.address)
    workers.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "dask client"]


def test_a_refusal_is_reported_however_short_the_last_attempt():
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


def test_the_address_of_a_worker_is_reported(pair, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 2.0)
    log = (pair.folder / "dask_worker_2.log").read_text()
    with pytest.raises(PointcmtError, match="is it the address of a worker"):
        engine(re.search(r"Listening to:\s+(tcp://\S+)", log)[1])


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
