"""Fixtures of the tests of docker/."""

import os

import pytest


@pytest.fixture
def tools(tmp_path):
    """`tools(name, body)` makes a stand-in that is found before the real command."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, body):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    make.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return make
