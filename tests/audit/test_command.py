"""`pointcmt audit` from the command line: exit code, JSON and page."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pointcmt.audit.probe import probe, sample_of
from pointcmt.cli import app
from pointcmt.errors import StoreError
from tests.audit.planted import planted
from tests.pages import Page


def run(*words):
    done = CliRunner().invoke(app, ["audit", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def dark_store(toy_store, tmp_path_factory):
    """A store with one dark view."""

    def edit(arrays, classes):
        arrays["rgb"][5, 1] //= 64

    return planted(toy_store, tmp_path_factory.mktemp("dark") / "S", edit)


def test_a_finding_is_shown_and_ends_with_exit_code_1(dark_store, tmp_path):
    code, said = run(dark_store.path, "--out", tmp_path / "P", "--json")
    assert code == 1
    facts = json.loads(said.splitlines()[-1])
    name = dark_store.shapes[5].id
    assert not facts["ok"]
    assert [(f["kind"], f["shapes"], f["views"]) for f in facts["findings"]] == [
        ("dark views", [name], [[name, 1]])
    ]
    page = Page(tmp_path / "P/index.html")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == [f"{name}, view 1"]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    text = (tmp_path / "P/index.html").read_text()
    assert f"{dark_store.shapes[5].class_name} · {dark_store.shapes[5].split} · view 1" in text


def test_foreign_files_are_kept(dark_store, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(StoreError, match="not from an audit"):
        run(dark_store.path, "--out", tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


@pytest.mark.parametrize("seed", range(5))
def test_random_values_do_not_tell_classes(seed):
    """Under the null hypothesis, p is uniform: it is small only by chance, here for no seed."""
    rng = np.random.default_rng(seed)
    told = probe(rng.normal(size=(60, 3)), rng.integers(0, 4, 60))
    assert told.p > 0.01
    assert abs(told.chance - 0.25) < 0.1


def test_values_that_follow_from_the_class_tell_it():
    labels = np.repeat(np.arange(3), 20)
    told = probe(np.eye(3)[labels], labels)
    assert told.accuracy == 1
    assert told.p == 1 / 5000
    assert probe(np.ones((9, 2)), labels[:9]) is None
    assert probe(np.eye(9), labels[:9]) is None  # one class


def test_the_probe_takes_a_bounded_sample():
    labels = np.random.default_rng(0).integers(-1, 3, 50_000)
    chosen = sample_of(labels)
    assert len(chosen) == 2000
    assert labels[chosen].min() == 0
