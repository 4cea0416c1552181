"""Untrusted runs: each field of each file missing or wrong, for each command.

A command succeeds or raises one of our errors. Unused fields may hold anything; whether a field
is used is decided where its file is read, not by the commands.
"""

import copy
import itertools
import json
import os
import shutil

import pytest
import yaml

from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.files import load_config
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.probe import probe
from pointcmt.training.export.networks import export
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs.cost import read_cost
from tests.training.plain_student import PlainStudent
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")

REMOVED = object()
STRANGE = (REMOVED, None, "x", -1, {"x": 1})
STRANGER = (*STRANGE, 2**70, [1], "", 0, 1.5, True, 1e300, [], {})
LOGITS = "distillation.method=logits"
LENGTH = 2  # entries of a list that are changed


@pytest.fixture(scope="module")
def tiny(small_resnet, make_store):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "pointnet", PlainStudent)
        yield make_store(train=(4, 4, 4), test=(2, 2, 2))


def config(recipe="student", *overrides, **flags):
    overrides = ("data.batch_size=4", "loop.tensorboard=false", *overrides)
    return small_config(recipe, *overrides, **{"epochs": 2, **flags})


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """A student and a teacher, each with one epoch left."""
    folders = {}
    for recipe in ("student", "teacher"):
        folders[recipe] = tmp_path_factory.mktemp(recipe) / "run"
        train(tiny, config(recipe), folders[recipe], device="cpu", until=1)
    return folders


# Functions that read a run. Arguments: the store, the run, a new folder.
COMMANDS = {
    "evaluate": lambda store, run, new: evaluate(run, store, device="cpu"),
    "export": lambda store, run, new: export(run, "safetensors", new / "x"),
    "probe": lambda store, run, new: probe(run, store, device="cpu"),
    "resume": lambda store, run, new: train(store, config(), run, "cpu"),
    "init": lambda store, run, new: train(
        store, config("finetune", init=str(run), epochs=1), new / "run", "cpu"
    ),
    "teacher": lambda store, run, new: train(
        store, config("student", LOGITS, teacher=str(run), epochs=1), new / "run", "cpu"
    ),
}


# Each JSON file of a run, and the commands that read it.
FILES = {
    ("student", "run.json"): ("export", "resume", "evaluate", "init"),
    ("student", "last/checkpoint.json"): ("resume",),
    ("student", "best/checkpoint.json"): ("export", "evaluate", "init"),
    ("student", "metrics.jsonl"): ("resume",),
    ("teacher", "run.json"): ("teacher", "export"),
    ("teacher", "best/checkpoint.json"): ("teacher", "export"),
}


@pytest.mark.parametrize(("recipe", "file"), FILES)
def test_each_missing_or_wrong_field_raises_our_errors(recipe, file, tiny, runs, tmp_path):
    """Every third value is tried with one of the commands, in turn."""
    cases = list(strange_values(runs[recipe] / file, STRANGE))[::3]
    commands = itertools.cycle(FILES[recipe, file])
    refused = sum(
        not ends_well(command, tiny, runs[recipe], file, value, tmp_path / str(number))
        for number, (command, value) in enumerate(zip(commands, cases, strict=False))
    )
    assert refused > len(cases) / 2


@pytest.mark.slow  # every command, and more values
@pytest.mark.parametrize(("recipe", "file"), FILES)
def test_each_missing_or_wrong_field_with_every_command(recipe, file, tiny, runs, tmp_path):
    commands = [name for name in COMMANDS if (name == "teacher") == (recipe == "teacher")]
    cases = itertools.product(strange_values(runs[recipe] / file, STRANGER), commands)
    for number, (value, command) in enumerate(cases):
        ends_well(command, tiny, runs[recipe], file, value, tmp_path / str(number))


def test_a_cost_with_a_missing_or_wrong_field_is_measured_again(runs, tmp_path):
    cases = list(strange_values(runs["student"] / "cost.json", STRANGER))
    for value in cases:
        (tmp_path / "cost.json").write_text(value)
        cost = read_cost(tmp_path, 1)
        assert cost is None or cost.describe()
    (tmp_path / "cost.json").write_bytes((runs["student"] / "cost.json").read_bytes())
    assert read_cost(tmp_path, 1)


def test_a_configuration_with_a_missing_or_wrong_field_raises_our_errors(runs, tmp_path):
    """The configuration of a run, given with --config."""
    file, refused = tmp_path / "config.yaml", 0
    whole = yaml.safe_load((runs["student"] / "config.yaml").read_text())
    cases = itertools.product(fields(whole), (*STRANGER, {2: 3}, {None: {}}))
    for path, new in itertools.islice(cases, None, None, 3):  # another third for each field
        file.write_text(yaml.safe_dump(changed(whole, path, new)))
        try:
            load_config("student", file)
        except UsageError as error:
            refused += str(file) in error.where
    assert refused > 60
    for text in ("[" * 9_999, "{a: " * 9_999, "? [1]\n: 2", "- a", "&a [*a]", "\0"):
        file.write_text(text)
        with pytest.raises(UsageError):
            load_config("student", file)


BROKEN = ("", "{", "[]", "null", "7", '"x"', "[" * 99_999, '{"a":' * 9_999, "NaN", "\0")


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_files_that_are_not_json_objects_raise_our_errors(text, tiny, runs, tmp_path):
    for number, ((recipe, file), commands) in enumerate(FILES.items()):
        for command in commands:
            work = tmp_path / f"{number}-{command}"
            assert not ends_well(command, tiny, runs[recipe], file, text, work)


def strange_values(file, values):
    """Copies of a run's JSON file with each field removed, or replaced by each of the values."""
    whole = json.loads(file.read_text())
    for path, new in itertools.product(fields(whole), values):
        value = changed(whole, path, new)
        if value != whole and path[:1] != ("versions",):
            yield json.dumps(value) + "\n"


def ends_well(command, store, run, file, text, work):
    """Whether a command accepts a run with this text in a file. Errors not ours are raised."""
    (work / "new").mkdir(parents=True)
    shutil.copytree(run, work / "run", copy_function=os.link)
    (work / "run" / file).unlink()
    (work / "run" / file).write_text(text)
    try:
        COMMANDS[command](store, work / "run", work / "new")
        said = ""
    except PointcmtError as error:
        said = str(error)
    shutil.rmtree(work)
    assert len(said) < 5000
    return not said


def fields(value, path=()):
    """The path of every value inside a JSON value."""
    if path:
        yield path
    if isinstance(value, dict):
        inside = value.items()
    else:
        inside = enumerate(value[:LENGTH]) if isinstance(value, list) else ()
    for key, part in inside:
        yield from fields(part, (*path, key))


def changed(value, path, new):
    """A copy of a JSON value with one of its fields replaced or removed."""
    value = copy.deepcopy(value)
    *outer, last = path
    place = value
    for key in outer:
        place = place[key]
    if new is REMOVED:
        del place[last]
    else:
        place[last] = new
    return value
