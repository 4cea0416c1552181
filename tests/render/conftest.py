"""A small dataset and its store, for all tests of whole jobs."""

import os
import subprocess

import pytest

from tests.render import shapes
from tests.render.jobs import render, write_off


@pytest.fixture(scope="session")
def meshes(tmp_path_factory):
    """A folder dataset of nine shapes, of which one is broken."""
    root = tmp_path_factory.mktemp("meshes")
    for i in range(4):
        write_off(root / f"box/train/box_{i}.off", shapes.box(0.2 + 0.1 * i, (0.1 * i, 0, 0)))
        write_off(root / f"ball/test/ball_{i}.off", shapes.sphere(6 + 3 * i))
    (root / "ball/train").mkdir()
    (root / "ball/train/broken.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    return root


@pytest.fixture(scope="session")
def finished(meshes, tmp_path_factory):
    """A store of all shapes, rendered with one worker."""
    out = tmp_path_factory.mktemp("finished") / "S"
    done = render(meshes, out, "--workers", 1)
    assert done.returncode == 3, done.stderr
    return out


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)
