"""Fixtures that several tests share."""

import logging
import os
from pathlib import Path

import pytest

from pointcmt.console import logger, show_messages
from tests.stores import render_toy


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real meshes, which no checkout holds: POINTCMT_TEST_DATA, else shared/data beside it."""
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
    """Show the package's messages as the commands do; call it for those since the last call."""
    show_messages("plain")
    yield lambda: capsys.readouterr().err
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
