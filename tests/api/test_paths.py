"""Paths as arguments: an empty one is not the current directory, and a URL is not a folder."""

import subprocess
import sys

import pytest

import pointcmt as pc
from tests.stores import tree

SMALL = {"rig": "ortho6", "size": 16, "points": 32, "workers": 1}
USES = {
    "root=": lambda path, store: pc.render("folder", root=path, out=f"{store}2", **SMALL),
    "out=": lambda path, store: pc.train("student", data=store, out=path, data__points=64),
    "out= of pictures": lambda path, store: pc.preview(store, path),
    "RUN": lambda path, store: pc.load_run(path),
    "RUN to evaluate": lambda path, store: pc.evaluate(path, data=store),
}


@pytest.mark.parametrize("name", USES)
def test_an_empty_path_is_refused(workplace, monkeypatch, name):
    (workplace / "empty").mkdir()
    for here in (workplace, workplace / "RUN", workplace / "empty"):
        before = tree(here)
        monkeypatch.chdir(here)
        with pytest.raises(pc.UsageError, match="the path is empty") as raised:
            USES[name]("", workplace / "S")
        assert f"where: {name.split()[0]}" in str(raised.value)
        assert tree(here) == before


@pytest.mark.parametrize("name", [name for name in USES if name != "root="])
def test_a_url_is_refused_where_a_folder_is_needed(workplace, name):
    before = tree(workplace)
    with pytest.raises(pc.UsageError, match="only view stores can be on object storage"):
        USES[name]("s3://bucket/RUN", workplace / "S")
    assert tree(workplace) == before


def test_a_path_that_begins_with_a_tilde_is_in_the_home_folder(workplace, monkeypatch, tmp_path):
    """No shell expands it in Python, or in an option such as --out=~/S."""
    monkeypatch.setenv("HOME", str(workplace))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = pc.open_store("~/S")
    assert len(store) == len(pc.open_store(workplace / "S"))
    assert pc.load_run("~/RUN").recipe == pc.load_run(workplace / "RUN").recipe
    assert all(path.is_relative_to(workplace) for path in pc.preview("~/S", "~/pictures", shapes=1))
    made = pc.render("toy", out="~/new", limit=1, **SMALL)
    assert (made.done, (workplace / "new" / "zarr.json").exists()) == (1, True)
    done = subprocess.run(
        [sys.executable, "-m", "pointcmt", "preview", "~/new", "--out=~/more"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, (workplace / "more").exists()) == (0, True), done.stderr
    assert list((tmp_path / "here").iterdir()) == []
