"""Configurations that earlier versions wrote into their runs are still read, and mean the same."""

import json
from pathlib import Path

import pytest

from pointcmt.training.config.files import flatten, parse_config

# The default configuration of each recipe, as the first version that had it wrote it.
OLDER = json.loads(Path(__file__).with_name("older_configs.json").read_text())


@pytest.mark.parametrize("recipe", OLDER)
def test_the_configuration_of_an_older_run_is_read(recipe):
    config = flatten(parse_config(recipe, OLDER[recipe], "run").model_dump(mode="json"))
    before = flatten(OLDER[recipe])
    assert {key: config[key] for key in before} == before
