"""Configurations that earlier versions wrote into their runs are still read, and mean the same."""

import json
from pathlib import Path

import pytest

from pointcmt.training.config.files import flatten, parse_config

# Configurations by name, as the first version that had them wrote them.
OLDER = json.loads(Path(__file__).with_name("older_configs.json").read_text())


@pytest.mark.parametrize("name", OLDER)
def test_the_configuration_of_an_older_run_is_read(name):
    written = OLDER[name]
    config = flatten(parse_config(written["recipe"], written, "run").model_dump(mode="json"))
    before = flatten(written)
    assert {key: config[key] for key in before} == before
