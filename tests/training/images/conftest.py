"""Fixtures of the tests of image networks."""

import shutil
from pathlib import Path

import pytest

from tests.training.images.hub import served


@pytest.fixture
def copy_of(folder_of, tmp_path):
    """A name of SMALL → a folder of it to be changed."""
    return lambda name: Path(shutil.copytree(folder_of(name), tmp_path / f"{name}-copy"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine, with nothing on it; its local cache is empty."""
    with served(monkeypatch, tmp_path / "cache") as found:
        yield found
