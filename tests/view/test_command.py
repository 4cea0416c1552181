"""`pointcmt view` from the command line."""

from functools import partial

import pytest

from pointcmt.cli import app
from pointcmt.errors import UsageError
from tests.pages import Page
from tests.view.conftest import on_command_line

view = partial(on_command_line, app)


def test_the_command_writes_the_chosen_shapes(toy_store, tmp_path):
    chosen = ("--class", "chair", "--class", "lamp", "--split", "test", "--limit", "3")
    code, said = view(toy_store.path, "--out", tmp_path / "P", *chosen, "--views", "2")
    assert (code, said.splitlines()[-1]) == (0, str(tmp_path / "P/index.html"))
    lines = Page(tmp_path / "P/index.html").json("index")["shapes"]
    assert sorted({line["class"] for line in lines}) == ["chair", "lamp"]
    assert {line["split"] for line in lines} == {"test"}
    assert len(lines) == 3
    ids = ("--ids", "chair/0000", "--ids", "lamp/0000")
    assert view(toy_store.path, "--out", tmp_path / "P", *ids)[0] == 0
    lines = Page(tmp_path / "P/index.html").json("index")["shapes"]
    assert sorted(line["id"] for line in lines) == ["chair/0000", "lamp/0000"]


@pytest.mark.parametrize("words", [(), ("--serve", "--out", "P")])
def test_a_page_is_either_written_or_served(toy_store, words):
    with pytest.raises(UsageError) as error:
        view(toy_store.path, *words)
    assert "pass either --out or --serve" in error.value.for_command_line()
