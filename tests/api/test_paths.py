"""Paths as arguments: an empty one is not the current directory, and a URL is not a folder."""

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
