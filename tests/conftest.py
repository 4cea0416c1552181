"""Fixtures that several tests share."""

import logging
import os
from pathlib import Path

import pytest

from pointcmt.console import logger, show_messages
from pointcmt.datasets.sources import list_shapes
from tests.clouds import write_modelnet
from tests.stores import render_listing, render_toy


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real meshes, in POINTCMT_TEST_DATA or in shared/data beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("POINTCMT_TEST_DATA", beside))
    if not data.is_dir():
        pytest.skip("no real meshes here: set POINTCMT_TEST_DATA to a folder that contains them")
    return data


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """A rendered store of 40 toy shapes, 6 views of 32², 256 points."""
    return render_toy(tmp_path_factory.mktemp("toy") / "S", limit=40, shard=3)


@pytest.fixture
def messages(capsys):
    """Show messages as the commands do; calling it returns those since the last call."""
    show_messages("plain")
    yield lambda: capsys.readouterr().err
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def modelnet_clouds(tmp_path_factory):
    """Clouds of modelnet40-clouds by id [600,3], in their files' coordinates, and a store of them.

    6 train and 3 test clouds of 3 classes; the store has 512 points of each.
    """
    folder = tmp_path_factory.mktemp("modelnet")
    clouds = write_modelnet(folder / "D", points=600)
    listing = list_shapes("modelnet40-clouds", folder / "D")
    return clouds, render_listing(listing, folder / "S", rig="simpleview6", points=512)
