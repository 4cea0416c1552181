"""A worker's share of the memory, and shards that cannot fit into it."""

import math
import os
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import list_shapes, select
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.render.config import RenderConfig, schema_for
from pointcmt.render.jobs.job import Job
from pointcmt.render.jobs.memory import (
    GIB,
    HEADROOM,
    SHARED,
    memory_quota,
    require_memory,
    shard_memory,
    share_out,
    usable_memory,
    with_share,
)
from pointcmt.render.jobs.run import Options, render
from pointcmt.render.jobs.supervisor import Work
from pointcmt.render.limits import usable_cores
from tests.commands import pointcmt
from tests.render.job_commands import facts
from tests.render.test_limits import VERSION_1, VERSION_2, group

HUGE = ("--rig", "fibonacci60", "--size", 4096)


@pytest.mark.parametrize(
    ("pod", "me", "allowed"),
    [
        ("max", "max", math.inf),
        ("max", "1073741824", GIB),
        ("536870912", "1073741824", GIB / 2),  # that of the group around it
        ("0", "max", math.inf),
    ],
)
def test_the_smallest_limit_of_a_container_and_the_groups_around_it(pod, me, allowed, tmp_path):
    (tmp_path / "cgroup").write_text(VERSION_2)
    group(tmp_path / "fs/pod", memory__max=pod)
    group(tmp_path / "fs/pod/me", memory__max=me)
    assert memory_quota(tmp_path / "cgroup", tmp_path / "fs") == allowed
    machine = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    usable = usable_memory(tmp_path / "cgroup", tmp_path / "fs") * GIB
    assert usable == min(allowed, machine)


def test_the_memory_limit_of_control_groups_version_1(tmp_path):
    (tmp_path / "cgroup").write_text(VERSION_1)
    group(tmp_path / "fs/memory/other", memory__limit_in_bytes="9223372036854771712")
    assert memory_quota(tmp_path / "cgroup", tmp_path / "fs") == math.inf
    group(tmp_path / "fs/memory", memory__limit_in_bytes=str(3 * GIB))
    assert memory_quota(tmp_path / "cgroup", tmp_path / "fs") == 3 * GIB


def test_workers_share_the_memory_and_are_fewer_if_it_is_small():
    assert share_out(4, None, need=0.5, memory=32).limit == 32 * SHARED / 4
    assert share_out(4, None, need=0.5, memory=32).workers == 4
    few = share_out(16, None, need=0.6, memory=8)
    assert few.workers == int(8 * SHARED / (HEADROOM * 0.6)) < 16
    assert HEADROOM * 0.6 <= few.limit <= 8 * SHARED / few.workers
    assert share_out(16, None, need=5, memory=6).workers == 1
    for limit in (0.0, 1.5):  # the user's own
        assert share_out(16, limit, need=0.6, memory=8).limit == limit
        assert share_out(16, limit, need=0.6, memory=8).workers == 16


def test_a_cluster_worker_uses_the_memory_of_its_own_machine():
    work = Work(print, None, 1.0, None, need=0.5)
    limit = with_share(work, 1).memory_limit
    assert limit == pytest.approx(usable_memory() * SHARED / usable_cores(), abs=0.01)
    threads = 1000  # more than the memory: at least what a shard takes
    assert with_share(work, threads).memory_limit == HEADROOM * 0.5
    assert with_share(replace(work, memory_limit=0.0), 1).memory_limit == 0.0
    with pytest.raises(PointcmtError, match=r"a shard needs 100000\.0 GiB, but a worker may"):
        with_share(replace(work, need=1e5), 1)


def schema(rig, size, shapes, shard=None):
    return schema_for(RenderConfig(find_rig(rig), size), shapes, shard=shard)


def test_shards_too_large_for_memory_are_refused_with_numbers():
    large = schema("fibonacci60", 4096, 100)
    need = shard_memory(large)
    assert need > 4 * 60 * 4096**2 * 9 / GIB
    with pytest.raises(UsageError) as raised:
        require_memory(large, 8.0, math.inf)
    assert f"60 views of 4096² pixels needs {need:.1f} GiB" in raised.value.what
    assert "may only use 8.0 GiB" in raised.value.what
    assert raised.value.where == "--memory-limit 8"
    size = int(raised.value.fix.split("--size of ")[1].split()[0])
    require_memory(schema("fibonacci60", size, 100, 1), 8.0, math.inf)
    with pytest.raises(UsageError):
        require_memory(schema("fibonacci60", size + 8, 100, 1), 8.0, math.inf)
    with pytest.raises(UsageError, match="this machine's or container's memory"):
        require_memory(large, None, memory=need)
    require_memory(large, None, memory=need / SHARED + 0.1)
    require_memory(large, 0.0, memory=1)  # no limit


def test_an_oversized_shard_is_refused_with_the_size_that_fits():
    with pytest.raises(UsageError, match="a shard of 1000 shapes") as raised:
        require_memory(schema("dodeca20", 224, 4000, 1000), 1.0, math.inf)
    shard = int(raised.value.fix.removeprefix("use --shard-size ").removesuffix(" or less"))
    require_memory(schema("dodeca20", 224, 4000, shard), 1.0, math.inf)
    with pytest.raises(UsageError):
        require_memory(schema("dodeca20", 224, 4000, shard + 1), 1.0, math.inf)


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--overwrite",)])
def test_a_plan_that_does_not_fit_creates_no_store(tmp_path, more):
    out = tmp_path / "S"
    command = ("render", "--dataset", "toy", "--limit", 2, "--out", out, "--memory-limit", 2, *more)
    done = pointcmt(*command, *HUGE)
    assert done.returncode == 2
    assert "60 views of 4096² pixels needs" in done.stderr
    assert not out.exists()


def test_the_default_limit_depends_on_the_machine(tmp_path):
    listing = select(list_shapes("toy", None), None, 2)
    config = RenderConfig(find_rig("fibonacci60"), 4096)
    job = Job(str(tmp_path / "S"), listing.name, None, listing.up, config)
    if usable_memory() * SHARED > shard_memory(schema_for(config, 2)):
        pytest.skip("this machine has enough memory for that")
    with pytest.raises(UsageError, match="this machine's or container's memory"):
        render(listing, job, Options())


def test_a_store_is_rendered_without_a_limit_and_with_the_default(tmp_path):
    small = ("--dataset", "toy", "--limit", 2, "--rig", "ortho6", "--size", 16, "--points", 16)
    for name, more in (("S", ()), ("T", ("--memory-limit", 0))):
        done = pointcmt("render", *small, "--out", tmp_path / name, "--json", *more)
        assert facts(done)["done"] == 2


PEAK = """
import sys
from tests.render.memory import peak
from tests.stores import render_toy
out, rig, shapes, size = sys.argv[1:]
store = render_toy(out, int(shapes), rig=rig, size=int(size), shard=int(shapes))
from pointcmt.render.jobs.memory import shard_memory
print(peak() / 2**30, shard_memory(store.schema))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("rig", "shapes", "size"),
    [("ortho6", 4, 512), pytest.param("dodeca20", 1, 1024, marks=pytest.mark.slow)],
)
def test_a_shard_takes_about_as_much_memory_as_planned(tmp_path, rig, shapes, size):
    def run(out, *settings):
        code = [sys.executable, "-c", PEAK, tmp_path / out, *map(str, settings)]
        return subprocess.run(code, capture_output=True, text=True, check=True)

    run("first", rig, shapes, size)  # compiles the kernels, which takes as much memory
    done = run("S", rig, shapes, size)
    peak, expected = np.array(done.stdout.split(), float)
    assert 0.5 * expected < peak < HEADROOM * expected
