"""The commands of docs/clusters.md for dask: loopback only, and TLS with its certificates."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pointcmt.datasets.store.verify import verify

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
CLIENTS = """
import json, socket, ssl, sys
from distributed import Client
from distributed.security import Security

address, ours, others = sys.argv[1:]

def ask(address, security=None):
    with Client(address, timeout=20, security=security) as client:
        return client.submit(sum, [1, 2]).result(timeout=30)

def ask_without_certificate():
    context = ssl.create_default_context(cafile=f"{ours}/ca.pem")
    context.check_hostname = False
    host, port = address.removeprefix("tls://").split(":")
    with socket.create_connection((host, int(port)), 20) as plain:
        with context.wrap_socket(plain) as connection:
            return connection.recv(1)

def ask_with_another_certificate():
    pair = {"tls_client_cert": f"{others}/cluster.pem", "tls_client_key": f"{others}/cluster.key"}
    return ask(address, Security(tls_ca_file=f"{ours}/ca.pem", require_encryption=True, **pair))

def ask_in_plain():
    return ask(address.replace("tls:", "tcp:"), Security(require_encryption=False))

print("answered", ask(address))
for client in ask_without_certificate, ask_with_another_certificate, ask_in_plain:
    try:
        print("answered", client())
    except OSError as error:
        print("refused")
"""


def documented(command, port):
    """A command from the page, with another port, TLS and one thread."""
    (line,) = re.findall(rf"^\$ ({command} .*)$", PAGE, re.MULTILINE)
    for shown, instead in {
        "tcp://127.0.0.1:8786": f"tls://127.0.0.1:{port}",
        "127.0.0.1:8787": f"127.0.0.1:0 --port {port}",
        "--nthreads 4": "--nthreads 1",
    }.items():
        line = line.replace(shown, instead)
    program, *words = shlex.split(line)
    return [str(Path(sys.executable).with_name(program)), *words]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "docker").symlink_to(ROOT / "docker")
    subprocess.run([ROOT / "docker" / "make-certificates.sh", folder / "others"], check=True)
    return folder


@pytest.fixture(scope="module")
def environment(folder):
    """The environment variables that the page sets, with certificates made by its script."""
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shown = subprocess.run(
        ["bash", "-euc", f"{block}\nenv -0"], cwd=folder, capture_output=True, check=True
    )
    pairs = shown.stdout.decode().partition("days\n")[2].split("\0")[:-1]
    found = dict(pair.split("=", 1) for pair in pairs)
    return {**found, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20s"}


@pytest.fixture(scope="module")
def cluster(folder, environment):
    """(address, processes) of a scheduler and a worker, started as on the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = []
    with open(folder / "log", "w") as log:
        for command in ("dask scheduler", "dask worker"):
            arguments = documented(command, port)
            begun.append(
                subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=log)
            )
    yield f"tls://127.0.0.1:{port}", begun, folder / "log"
    for process in reversed(begun):
        process.terminate()
        process.wait(timeout=60)


def test_clients_without_the_certificate_are_refused(cluster, environment, folder):
    address, _, log = cluster
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS, address, folder / "certificates", folder / "others"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["answered 3", "refused", "refused", "refused"]
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in log.read_text()
    assert "CERTIFICATE_VERIFY_FAILED" in log.read_text()


def test_all_processes_listen_on_loopback_only(cluster):
    _, begun, log = cluster
    deadline = time.monotonic() + 60
    while "Registered to" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    processes = [p for each in begun for p in family(each.pid)]
    ports = [
        connection.laddr
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(ports) >= 5  # scheduler, nanny and worker; two web servers
    assert {address.ip for address in ports} == {"127.0.0.1"}


def family(pid):
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def test_a_job_runs_over_tls(cluster, environment, tmp_path):
    address, _, _ = cluster
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pointcmt", "render", "--dataset", "toy", "--limit", "3"),
            *("--rig", "ortho6", "--size", "32", "--points", "64", "--shard-size", "2"),
            # as in compose.yaml, where the configuration decides the protocol
            *("--out", tmp_path / "S", "--scheduler", address.removeprefix("tls://")),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    verdict = verify(str(tmp_path / "S"))
    assert (verdict.ok, verdict.pending) == (True, 0)
