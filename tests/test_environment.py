"""Environment variables: imports do not change them; commands set those that libraries read."""

import os
import socket
import subprocess
import sys

import pytest

from tests.test_imports import MODULES

OWN = ("OMP_WAIT_POLICY", "TENSORSTORE_CURL_", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")


def run(code, *arguments, **settings):
    """Run code in a fresh process without the variables that we set; return its output."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(OWN)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**inherited, **settings}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_do_not_change_the_environment():
    """Apart from what open3d and torch set for themselves when they are imported."""
    names = [f"pointcmt.{name}" for name in MODULES if name not in ("", "__main__")]
    code = (
        "import importlib, os, sys\n"
        "foreign = dict.fromkeys(['TCM_ENABLE', 'TORCHINDUCTOR_CACHE_DIR'])\n"
        "before = {**os.environ, **foreign}\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert {**os.environ, **foreign} == before, name\n"
        "print('unchanged')\n"
    )
    assert run(code, *names) == "unchanged\n"


WATCH = (  # prints the policy at the time when torch is imported
    "import os, sys\n"
    "class Watch:\n"
    "    def find_spec(self, name, *more):\n"
    "        if name == 'torch':\n"
    "            print(os.environ.get('OMP_WAIT_POLICY'))\n"
    "            sys.exit(0)\n"
    "sys.meta_path.insert(0, Watch())\n"
)


@pytest.mark.parametrize(
    "use", ["train", "load_run", "ViewDataset", "open_store(sys.argv[1]).dataset()"]
)
def test_the_python_interface_sets_the_policy_before_torch_is_loaded(use, toy_store):
    assert run(f"{WATCH}import pointcmt as pc\npc.{use}\n", toy_store.path) == "passive\n"


@pytest.mark.parametrize("command", ["train", "evaluate", "demo"])
@pytest.mark.parametrize("policy", ["", "active"])
def test_openmp_threads_sleep_while_waiting(command, policy, toy_store, tmp_path):
    """OpenMP reads its policy when torch is loaded; the user's own policy has priority."""
    arguments = {
        "train": ("student", "--data", toy_store.path, "--out", tmp_path / "R"),
        "evaluate": (tmp_path / "R", "--data", toy_store.path),
        "demo": ("--out", tmp_path / "D"),
    }[command]
    code = f"{WATCH}from pointcmt.cli import main\nmain()\n"
    settings = {"OMP_WAIT_POLICY": policy} if policy else {}
    assert run(code, command, *arguments, **settings) == f"{policy or 'passive'}\n"


def test_time_limits_set_on_opening_a_store_apply_to_silent_servers():
    """tensorstore reads them when it first opens a remote location, long after its import."""
    code = (
        "import os, sys, time\n"
        "from pointcmt.datasets.store import locations, storage\n"
        "from pointcmt.errors import StoreError\n"
        "locations.CURL_LIMITS['TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS'] = '1'\n"
        "storage.FIRST_TRIES, storage.FIRST_ANSWER = 1, 200.0\n"
        "storage.Storage(sys.argv[1]).read('key')\n"
        "assert not any(name.startswith('TENSORSTORE_CURL') for name in os.environ)\n"
        "began = time.monotonic()\n"
        "try:\n"
        "    storage.Storage('s3://bucket/store').first_read('key')\n"
        "except StoreError as error:\n"
        "    print(error.what.split(':')[0], time.monotonic() - began < 20)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        said = run(code, "/nowhere", AWS_ENDPOINT_URL=address, **keys)
    assert said == "the server does not answer True\n"
