"""Run commands with parts from outside the package."""

import json

from typer.testing import CliRunner

from pointcmt import cli
from tests.training.stores import SMALL

OWN = "from outside_parts.networks import IMAGES, Net\nfrom outside_parts.recipe import RECIPE\n"


def pointcmt(*arguments):
    """Run a command in this process; return what it prints with --json."""
    done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def overrides(recipe, *more):
    return [word for text in (*SMALL[recipe], *more) for word in ("--set", text)]


def begin(recipe, store, out, *more):
    options = ("--data", store.path, "--out", out, "--epochs", 1, "--device", "cpu")
    return pointcmt("train", recipe, *options, *overrides(recipe, *more))


def report_shapes(store):
    from pointcmt.training.runs.splits import labeled

    return labeled(store, "test")[0]


def export_of(run, out):
    pointcmt("export", run, "--to", "safetensors", "--checkpoint", "last", "--out", out)
    return out
