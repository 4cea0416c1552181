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
IMPORT = """
from pointcmt.twice import twice
"""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import numpy as np
from pointcmt.kernel import double
from pointcmt.compiled import _cache_folder

ready = Barrier(8)

def first(_):
    ready.wait()
    return double(np.ones(2)).tolist()

with ThreadPoolExecutor(8) as pool:
    (result,) = {tuple(each) for each in pool.map(first, range(8))}
print(list(result), _cache_folder())
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


def call(site, home, temporary, code=CODE, **environment):
    """Call the function; return where the cache is and which files numba read and wrote."""
    done = subprocess.run(
        [*AS_A_USER, sys.executable, "-B", "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(site.parent),
            "XDG_CACHE_HOME": str(home),
            "TMPDIR": str(temporary),
            "NUMBA_DEBUG_CACHE": "1",
            **environment,
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


def test_a_chosen_folder_is_shared_by_those_who_may_write_there_and_those_who_may_not(
    site, tmp_path
):
    """Compiled once into NUMBA_CACHE_DIR, which other versions may share."""
    chosen, home = tmp_path / "chosen", tmp_path / "home"
    variable = {"NUMBA_CACHE_DIR": str(chosen)}
    other = chosen / "pointcmt" / "kernels-of-another-version"
    other.mkdir(parents=True)
    place, moves = call(site, home, tmp_path, **variable)
    assert (Path(place).parent, moves) == (chosen / "pointcmt", ["saved"])
    assert other.is_dir()
    assert call(site, home, tmp_path, **variable) == (place, ["loaded"])
    lock(chosen)
    place, moves = call(site, home, tmp_path, **variable)
    assert (Path(place).parent, moves) == (home / "pointcmt", ["loaded"])


def test_threads_that_call_a_function_first_at_once_compile_it_once(site, tmp_path):
    """Two files, so that one function reaches the other through an import."""
    (site / "kernel.py").write_text(KERNEL.replace("2 * values", "twice(values)") + IMPORT)
    (site / "twice.py").write_text(KERNEL.replace("double", "twice"))
    assert call(site, tmp_path, tmp_path, code=THREADS)[1] == ["saved"] * 2


def test_numba_is_imported_by_the_first_call(site, tmp_path):
    code = CODE.replace("print(", "import sys; assert 'numba' not in sys.modules; print(")
    assert call(site, tmp_path, tmp_path, code=code)[1] == ["saved"]
