"""Where machine code is cached, also for users who cannot write to the package or a home."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pointcmt.compiled

# capabilities with which root ignores file modes
AS_A_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if not os.geteuid() else []
CODE = """
import numpy as np
from pointcmt.kernel import double
from pointcmt.compiled import _cache_folder
print(double(np.ones(2)).tolist(), _cache_folder())
"""
KERNEL = """
from pointcmt.compiled import compiled

@compiled
def double(values):
    return 2 * values
"""


@pytest.fixture
def site(tmp_path):
    """A package with one compiled function and an empty cache."""
    package = tmp_path / "site" / "pointcmt"
    package.mkdir(parents=True)
    shutil.copy(pointcmt.compiled.__file__, package)
    (package / "__init__.py").write_text("")
    (package / "kernel.py").write_text(KERNEL)
    yield package
    for folder in (tmp_path, *tmp_path.rglob("*")):
        if folder.is_dir():
            folder.chmod(0o755)  # so that pytest can remove it


def call(site, home, temporary):
    """Call the function; return where the cache is and which files numba read and wrote."""
    done = subprocess.run(
        [*AS_A_USER, sys.executable, "-B", "-c", CODE],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(site.parent),
            "XDG_CACHE_HOME": str(home),
            "TMPDIR": str(temporary),
            "NUMBA_DEBUG_CACHE": "1",
        },
        cwd=temporary,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result, place = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert result == "[2.0, 2.0]"
    moves = re.findall(r"\[cache\] data (saved|loaded) \w+ '([^']+)'", done.stdout)
    assert all(place in path for _, path in moves)
    return place, [move for move, _ in moves]


def lock(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_read_only_cache_beside_the_package_is_used(site, tmp_path):
    """Compiled once beside the package, as when building an image; read-only from then on."""
    locked, home, temporary = tmp_path / "locked", tmp_path / "home", tmp_path / "temporary"
    locked.mkdir()
    temporary.mkdir()
    place, moves = call(site, locked, temporary)
    assert (Path(place).parent, moves) == (site / "__pycache__", ["saved"])
    lock(site)
    lock(locked)
    place, moves = call(site, home, temporary)
    assert (Path(place).parent, moves) == (home / "pointcmt", ["loaded"])
    place, moves = call(site, locked, temporary)
    own = temporary / f"pointcmt-{os.getuid()}"
    assert (Path(place).parent, moves) == (own, ["loaded"])
    assert own.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in own.iterdir()] == [Path(place).name]  # no draft is left


def test_a_folder_that_others_can_write_is_not_used_as_a_cache(site, tmp_path):
    """Code in a cache is executed."""
    own = tmp_path / f"pointcmt-{os.getuid()}"
    own.mkdir()
    own.chmod(0o777)
    lock(site)
    assert call(site, site, tmp_path) == ("None", [])
    own.chmod(0o700)
    place, moves = call(site, site, tmp_path)
    assert (Path(place).parent, moves) == (own, ["saved"])
