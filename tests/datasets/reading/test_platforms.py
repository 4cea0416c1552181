"""Stores are read where Unix's own modules are missing, as on Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "posix_ipc")
# torch and numba are loaded first: what they need on this system is not ours to say.
BARE = f"""
import os, sys
try:
    import numba, torch, torch.utils.data, tensorstore, typer
except ImportError:
    pass
for name in {UNIX}:
    sys.modules[name] = None
for name in ("register_at_fork", "fork", "getuid", "sched_getaffinity", "O_NOFOLLOW", "O_NONBLOCK"):
    delattr(os, name)
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", BARE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_store_is_opened_and_read(toy_store):
    code = """
import pointcmt as pc
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.summary import describe, summarize

store = pc.open_store(sys.argv[1])
assert store[3].rgb.shape == (6, 32, 32, 3) and store[3].visible.any()
uv, depth = store[3].camera.project(store[3].points)
batch = next(iter(store.dataset("train", batch_size=4, views=2)))
assert batch["rgb"].shape == (4, 2, 32, 32, 3)
assert verify(sys.argv[1]).ok
print(describe(summarize(sys.argv[1])).splitlines()[1].strip())
assert not {"fcntl", "resource"} & {name for name, module in sys.modules.items() if module}
"""
    done = run(code, toy_store.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "shapes   40: 40 done, 0 failed, 0 pending\n"


@pytest.mark.parametrize("words", ["info {S}", "verify {S}", "preview {S} --out {P} --shapes 2"])
def test_commands_that_read_work(toy_store, tmp_path, words):
    code = "from pointcmt.cli import app; app(sys.argv[1:])"
    places = {"S": toy_store.path, "P": tmp_path / "P"}
    done = run(code, *(word.format(**places) for word in words.split()))
    assert done.returncode == 0, done.stderr


def test_writing_a_store_is_refused(toy_store, tmp_path):
    code = """
from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError

store = ViewStore.open(sys.argv[1])
try:
    create(Storage(sys.argv[2]), store.attributes, store.shapes)
except StoreError as error:
    print(error.what)
"""
    done = run(code, toy_store.path, tmp_path / "S")
    assert done.stdout == "stores can only be read on this system\n", done.stderr
    assert not (tmp_path / "S").exists()
