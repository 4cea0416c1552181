"""Settings in error messages: options on the command line, arguments in Python."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import pointcmt as pc
from pointcmt.errors import UsageError
from pointcmt.wording import ARGUMENTS, as_arguments, place_as_arguments

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("option", "argument"),
    [
        ("choose another --out", "choose another out="),
        ("use fewer --workers, or another --device", "use fewer workers=, or another device="),
        ("set --memory-limit 4.5 or more", "set memory_limit=4.5 or more"),
        ("a --size of 64 or less", "a size= of 64 or less"),
        ("give --init RUN, or --set load=none", "give init=RUN, or load=none"),
        ("--set data.points=64 or fewer", "data__points=64 or fewer"),
        ("--set images.weights=…", "images__weights=…"),
        ("use --backend embree", "use backend=embree"),
        ("or use --overwrite", "or use overwrite=True"),
        ("run `pointcmt render --out S`", "run `pointcmt render --out S`"),
        ("`--dataset clouds` reads it", "`dataset=clouds` reads it"),
        ("torchrun --nproc-per-node", "torchrun --nproc-per-node"),
        ("nothing -- at all --", "nothing -- at all --"),
    ],
)
def test_options_become_arguments(option, argument):
    assert as_arguments(option) == argument


@pytest.mark.parametrize(
    ("where", "worded"),
    [
        ("--out /data/my store", "out=/data/my store"),
        ("--set data.points=many", "data__points=many"),
        ("--size", "size="),
        ("--set a.b=1, --set c=2", "a__b=1, c=2"),
        ("--init, --teacher, --generator", "init=, teacher=, generator="),
        ("/data/S/zarr.json", "/data/S/zarr.json"),
        ("--scheduler tcp://a", "--scheduler tcp://a"),
    ],
)
def test_places_with_values_become_arguments(where, worded):
    assert place_as_arguments(where) == worded


def test_an_error_is_worded_for_python_or_for_the_command_line():
    error = UsageError("9 views", where="--size 9", fix="use --overwrite")
    assert str(error) == "9 views\n  where: size=9\n  fix:   use overwrite=True"
    shown = "9 views\n  where: --size 9\n  fix:   use --overwrite"
    assert error.for_command_line() == shown


def functions():
    for name in pc.__all__:
        value = getattr(pc, name)
        if inspect.isclass(value):
            own = (getattr(value, each) for each in vars(value) if not each.startswith("_"))
            yield from filter(callable, own)
        elif callable(value):
            yield value
    yield from map(pc.load_public, ("render", "view"))  # these are callable packages


def test_every_argument_named_in_messages_exists():
    known = {"precision", "compile"}  # of the section `loop`, for which there are options
    known |= {"init", "teacher", "generator", "epochs", "seed", "dataset"}  # of configurations
    for function in functions():
        known |= set(inspect.signature(function).parameters)
    known |= set(pc.RenderSettings.__annotations__) | set(pc.DrawSettings.__annotations__)
    assert {name.replace("-", "_") for name in ARGUMENTS} <= known


# Modules used only from the command line (clusters, exports, probes, repairs, `info`), and those
# that name an option of torchrun or pip.
COMMANDS = ("cli", "doctor", "demo", "cluster", "export", "study", "probe", "repair", "onnx_export")
COMMANDS += ("summary", "distributed", "scheduler", "serve")
OF_PIP = "--index-url"


def test_no_message_names_a_command_line_option_in_python():
    """Every text of the package that names an option is converted to an argument for Python."""
    left = []
    for path in sorted((ROOT / "pointcmt").rglob("*.py")):
        if path.stem.startswith(COMMANDS) or {"commands", "export"} & set(path.parts):
            continue
        tree = ast.parse(path.read_text())
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = as_arguments(node.value)
                outside = "".join(text.split("`")[::2]).replace(OF_PIP, "")
                if id(node) not in documentation and re.search(r"--[a-z]", outside):
                    left.append(f"{path.name}: {text}")
    assert left == []
