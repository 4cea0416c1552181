"""Who can connect to a dask cluster: only this machine, or clients with its certificates."""

import datetime
import ipaddress
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.render.jobs.cluster_jobs import children, claimants, ended, start, wait_for
from tests.render.jobs.clusters import REPOSITORY, cluster, environment
from tests.stores import tree


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
                "from pointcmt.render.jobs import cluster as clusters\n"
                "from tests.render.jobs.cluster_jobs import engine\n"
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
