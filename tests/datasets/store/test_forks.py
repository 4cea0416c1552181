"""Stores after a fork, where tensorstore itself would abort the process, and pickled stores."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pointcmt as pc
from pointcmt.datasets.store.view_store import ViewStore

ROOT = Path(__file__).parents[3]

FORKED = """
import os, sys
import numpy as np
import pointcmt as pc
from pointcmt.datasets.store.view_store import ViewStore

store = pc.open_store("S")
expected = store[3].rgb, store.read("points", [1, 5, 2]), store.status()
child = os.fork()
if child == 0:
    try:
        again = ViewStore.open("S")
        for each in (store, again):
            np.testing.assert_array_equal(each.read("rgb", 3), expected[0])
            np.testing.assert_array_equal(each.read("points", [1, 5, 2]), expected[1])
            np.testing.assert_array_equal(each.status(), expected[2])
            each.require_complete()
        assert [shape.id for shape in store[:2]] == [shape.id for shape in again.shapes][:2]
        grandchild = os.fork()
        if grandchild == 0:
            np.testing.assert_array_equal(store.read("rgb", 3), expected[0])
            print("grandchild", flush=True)
            os._exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        try:
            ViewStore.open("nowhere")
        except pc.StoreError as error:
            print(error.what, flush=True)
        print("child", flush=True)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
np.testing.assert_array_equal(store[3].rgb, expected[0])
print("parent")
"""


def run(code, folder):
    (folder / "script.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_store_is_read_in_a_forked_process(toy_store, tmp_path):
    (tmp_path / "S").symlink_to(toy_store.path)
    done = run(FORKED, tmp_path)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.split("\n") == [
        "grandchild", "there is no view store here", "child", "parent", "",
    ]  # fmt: skip


def test_damage_is_reported_in_a_forked_process(toy_store, tmp_path):
    code = """
import os, shutil
import pointcmt as pc
shutil.copytree("S", "T")
store = pc.open_store("T")
store.read("rgb", 0)
path = "T/rgb/c/1/0/0/0/0"
data = bytearray(open(path, "rb").read())
data[100] ^= 4
open(path, "wb").write(data)
if os.fork() == 0:
    try:
        store.read("rgb", 3)
    except pc.DamageError as error:
        print(error.what[:12], error.where, flush=True)
    os._exit(0)
os.wait()
"""
    (tmp_path / "S").symlink_to(toy_store.path)
    assert run(code, tmp_path).stdout == "damaged data T/rgb\n"


LOADERS = """
import sys
import torch
from torch.utils.data import DataLoader
import pointcmt as pc

def digest(batches):
    return [(batch["shape"].tolist(), batch["view"].tolist(), int(batch["rgb"].sum()))
            for batch in batches]

if __name__ == "__main__":
    store = pc.open_store("S")
    data = store.dataset("train", arrays=("rgb", "points"), batch_size=5, views=2, seed=7)
    bare = []
    for epoch in range(3):
        data.set_epoch(epoch)
        bare.append(digest(data))
    assert bare[0] != bare[1] != bare[2]
    method, workers, lasting = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "lasting"
    loader = DataLoader(data, batch_size=None, num_workers=workers, persistent_workers=lasting,
                        multiprocessing_context=method if workers else None)
    assert len(loader) == len(data) == 4
    for epoch in (0, 1, 2, 0):
        data.set_epoch(epoch)
        assert digest(loader) == bare[epoch], (epoch, method)
    for _ in loader:
        break  # and away
    assert digest(loader) == bare[0]
    print("same")
"""


@pytest.mark.parametrize(
    ("method", "workers", "lasting"),
    [
        ("none", 0, ""),
        ("fork", 3, "lasting"),
        ("spawn", 2, "lasting"),
        pytest.param("forkserver", 2, "lasting", marks=pytest.mark.slow),
    ],
)
def test_batches_are_the_same_in_any_loader_process(toy_store, tmp_path, method, workers, lasting):
    (tmp_path / "S").symlink_to(toy_store.path)
    code = LOADERS.replace("sys.argv[1]", repr(method)).replace("sys.argv[2]", str(workers))
    done = run(code.replace("sys.argv[3]", repr(lasting)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_a_users_map_style_data_set_works_in_forked_workers(toy_store, tmp_path):
    code = """
from torch.utils.data import DataLoader, Dataset
import pointcmt as pc

class Own(Dataset):
    def __init__(self):
        self.store = pc.open_store("S")
        assert self.store[0].points.shape == (256, 3)
    def __len__(self):
        return len(self.store)
    def __getitem__(self, index):
        shape = self.store[index]
        return shape.points, shape.label

loader = DataLoader(Own(), batch_size=8, num_workers=2, multiprocessing_context="fork")
print(sum(len(labels) for _, labels in loader))
"""
    (tmp_path / "S").symlink_to(toy_store.path)
    done = run(code, tmp_path)
    assert done.stdout == "40\n", done.stderr


@pytest.mark.parametrize("kind", [ViewStore, pc.ViewStore])
def test_a_store_is_pickled_by_its_location(toy_store, tmp_path, kind):
    store = kind.open(toy_store.path, threads=2, features=tmp_path / "features")
    again = pickle.loads(pickle.dumps(store))
    assert type(again) is kind
    assert (again.path, again.storage.threads) == (toy_store.path, 2)
    assert again.derived.path == store.derived.path
    np.testing.assert_array_equal(again.read("rgb", 1), store.read("rgb", 1))
