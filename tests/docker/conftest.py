"""Fixtures of the tests of docker/."""

import os

import pytest


@pytest.fixture
def tools(tmp_path):
    """Make stand-ins for commands, to be found before the real ones: `tools(name, body)`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, body):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    make.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return make
