"""The pages of the documentation site: complete, and listed once. `make docs` builds them."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import pointcmt as pc
from tests.test_packaging import PROJECT, normal, pins

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
NOTEBOOKS = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.ipynb")}


@pytest.fixture
def site(monkeypatch):
    """The modules in docs/site, by name, loaded as Sphinx loads them."""
    monkeypatch.syspath_prepend(DOCS / "site")

    def load(name):
        spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_the_landing_page_lists_every_page_once():
    listed = re.findall(r"^- \[.*?\]\(([\w/.-]+)\)", PAGES["index.md"], re.MULTILINE)
    assert sorted(listed) == sorted({*PAGES, *NOTEBOOKS} - {"index.md"})


def test_the_python_reference_has_every_public_name():
    documented = re.findall(r"auto(?:function|class|exception):: (\w+)$", PAGES["api.md"], re.M)
    assert sorted(documented) == sorted(set(pc.__all__) - {"__version__"})


def test_the_contracts_exist():
    """Of each kind of plugin, with what its docstring says."""
    named = re.findall(r"auto\w+:: (pointcmt[\w.]+)", PAGES["contracts.md"])
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name
    kinds = ("Source", "Prediction", "ImageNetwork", "OwnRecipe")
    assert set(kinds) <= {name.rpartition(".")[2] for name in named}


def test_every_figure_is_shown_and_drawn(site):
    figures = site("figures").FIGURES
    shown = [name for text in PAGES.values() for name in re.findall(r"<!-- figure: (\S+)", text)]
    assert sorted(shown) == sorted(figures)
    assert figures["pixels.png"]().size == (520, 344)


def test_what_the_site_needs_is_pinned():
    pinned = pins(ROOT / "constraints.txt")
    for text in PROJECT["dependency-groups"]["docs"]:
        name, bound = re.fullmatch(r"([\w-]+)>=([\d.]+)", text).groups()
        assert list(map(int, pinned[normal(name)].split("."))) >= list(map(int, bound.split(".")))


def test_docstrings_become_lists(site):
    pytest.importorskip("sphinx", reason="pip install --group docs")
    docstrings = site("docstrings")
    lines = [
        "Load it.", "", "root: the folder. size [N,2] f32: pixels. Raises UsageError for none;",
        "see docs/rigs.md.", "", ">>> load()",
    ]  # fmt: skip
    docstrings._list_parameters(None, "", "", lambda root, size: None, None, lines)
    assert "\n".join(lines) == (
        "Load it.\n\n* **root** – the folder.\n* **size** [N,2] – f32: pixels.\n\n"
        "Raises :exc:`~pointcmt.UsageError` for none; see :doc:`rigs`.\n\n>>> load()"
    )
    types = "numpy.ndarray[tuple[Any, ...], numpy.dtype[numpy.float64]]"
    assert docstrings._shorten(types) == "NDArray[float64]"


def test_pages_are_completed(site):
    pytest.importorskip("sphinx", reason="pip install --group docs")
    pages = site("pages")
    commands = pages.commands()
    assert "## `pointcmt render`" in commands
    assert "--holdout SHARE" in commands
    assert "([datasets](datasets.md))" in commands
    assert "## student\n" in pages.settings()
    page = ["See [it](../README.md).\n\n<!-- figure: rigs.png All\nrigs. -->\n"]
    pages._complete(None, "rigs", page)
    assert f"[it]({pages.REPOSITORY}README.md)" in page[0]
    assert '<img src="_static/figures/rigs.png" alt="All rigs.">' in page[0]
    with pytest.raises(ValueError, match=r"draws no none\.png"):
        pages._complete(None, "rigs", ["<!-- figure: none.png Nothing. -->"])
    table = pages.contents("\n## Start\n- [First](first.md): it\n- [Second](more/second.ipynb)\n")
    assert ":caption: Start\n\nFirst <first>\nSecond <more/second>\n" in table
