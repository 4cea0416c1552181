"""Two hosts on one machine: each has its own network, processes and files, and one shared mount."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from pointcmt.datasets.store import claims
from tests.render.job_commands import SMALL
from tests.render.jobs.clusters import REPOSITORY, Cluster, environment, kill_group
from tests.stores import tree, tree_after_kills

NETWORK = "10.77.0"
# A host: its own process numbers, its own /tmp, and the shared mount at /mnt.
HOST = 'mount --bind "$0" /mnt && mount -t tmpfs none /tmp && mount -t proc proc /proc && exec "$@"'


@contextmanager
def network():
    """Two network namespaces with a cable between them."""
    names = [f"pointcmt{os.getpid()}{letter}" for letter in "ab"]
    ends = [f"pc{os.getpid()}{letter}" for letter in "ab"]
    commands = [f"ip link add {ends[0]} type veth peer name {ends[1]}"]
    for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
        commands += [
            f"ip netns add {name}",
            f"ip link set {end} netns {name}",
            f"ip -n {name} address add {NETWORK}.{number}/24 dev {end}",
            f"ip -n {name} link set {end} up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for command in commands:
            if subprocess.run(command.split(), capture_output=True).returncode:
                pytest.skip("network namespaces need root, and a kernel that has them")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def on(name, shared):
    """A prefix that runs a command on one of the hosts."""
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    return ("ip", "netns", "exec", name, *own, "sh", "-c", HOST, shared)


@pytest.mark.slow
def test_shards_of_a_vanished_host_are_taken_over_by_the_other(meshes, finished, tmp_path):
    shared = tmp_path / "shared"
    shutil.copytree(meshes, shared / "meshes")
    with network() as (first, second):
        own = Cluster(shared, host=f"{NETWORK}.1", prefix=on(first, shared))
        try:
            own.start_worker(host=f"{NETWORK}.1", prefix=on(first, shared), nanny=False)
            lost = own.start_worker(host=f"{NETWORK}.2", prefix=on(second, shared), nanny=False)
            assert re.fullmatch(rf"tcp://{NETWORK}.1:\d+", own.address)
            command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder"]
            command += ["--root", "/mnt/meshes", "--out", "/mnt/S", *SMALL]
            job = subprocess.Popen(
                [*on(first, shared), *command, "--scheduler", own.address],
                env=environment(),
                cwd=REPOSITORY,
                stderr=subprocess.PIPE,
                text=True,
            )
            while len(held := list((shared / "S/claims").glob("*.json"))) < 2:
                assert job.poll() is None, job.stderr.read()
                time.sleep(0.001)
            began = time.monotonic()
            kill_group(lost)
            said = job.communicate(timeout=300)[1]
            assert job.returncode == 3, said
            assert "waiting for 1 shards that other processes are working on" in said, held
            assert time.monotonic() - began > claims.LEASE
        finally:
            own.close()
    found, expected = tree_after_kills(shared / "S"), tree(finished)
    del found["zarr.json"], expected["zarr.json"]  # the data set has another path
    assert found == expected
