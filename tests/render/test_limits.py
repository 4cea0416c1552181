"""Counting usable processors, also in a container."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pointcmt.render.limits import cpu_quota, usable_cores

VERSION_2 = "0::/pod/me\n"
VERSION_1 = "7:memory:/other\n3:cpu,cpuacct:/pod/me\n0::/\n"


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("pod", "me", "allowed"),
    [
        ("max 100000", "max 100000", math.inf),
        ("max 100000", "150000 100000", 1.5),
        ("300000 100000", "max 100000", 3.0),  # the limit of the enclosing group
        ("50000 100000", "400000 100000", 0.5),
    ],
)
def test_the_smallest_limit_of_a_group_and_its_parents_applies(pod, me, allowed, tmp_path):
    (tmp_path / "cgroup").write_text(VERSION_2)
    group(tmp_path / "fs")
    group(tmp_path / "fs/pod", cpu__max=pod)
    group(tmp_path / "fs/pod/me", cpu__max=me)
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == allowed


def test_the_cpu_limit_of_control_groups_version_1(tmp_path):
    (tmp_path / "cgroup").write_text(VERSION_1)
    group(tmp_path / "fs/cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    group(tmp_path / "fs/cpu/pod", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == 2.5


def test_the_limit_of_a_container_that_sees_its_group_as_the_root(tmp_path):
    (tmp_path / "cgroup").write_text("0::/\n")
    group(tmp_path / "fs", cpu__max="200000 100000")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == 2.0
    (tmp_path / "cgroup").write_text(VERSION_1)  # a path outside the container
    group(tmp_path / "fs/cpu", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "fs") == 1.0


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinities")
def test_an_affinity_for_one_processor_is_one_core():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from pointcmt.render.limits import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert Path("/proc/self/cgroup").exists() or cpu_quota() == math.inf
