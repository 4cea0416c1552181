"""Fixtures of the tests of image networks."""

import shutil
from pathlib import Path

import pytest

from tests.training.images.hub import served


@pytest.fixture
def copy_of(folder_of, tmp_path):
    """A function: a name of SMALL → a copy of its folder that the test may change."""
    return lambda name: Path(shutil.copytree(folder_of(name), tmp_path / f"{name}-copy"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub on this machine, with an empty local cache."""
    with served(monkeypatch, tmp_path / "cache") as found:
        yield found
