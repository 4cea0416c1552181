"""Limits on the size of files, functions and folders."""

import ast

import pytest

from tests.test_imports import MODULES, PACKAGE, ROOT

MOST_LINES = 400  # of a module, and of a test file
MOST_IN_FUNCTION = 80  # lines, without the option list of a command
MOST_MODULES = 20  # in a folder


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module):
    text = MODULES[module].read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - _begin(node, module) <= MOST_IN_FUNCTION, node.name


def _begin(node, module):
    """The line a function starts at; for commands, the first line of the body."""
    return node.body[0].lineno if module.startswith("commands.") else node.lineno


def test_no_folder_has_too_many_modules():
    folders = {path.parent for path in MODULES.values()}
    crowded = {
        str(folder.relative_to(PACKAGE)): count
        for folder in folders
        if (count := len([p for p in folder.glob("*.py") if not p.stem.startswith("__")]))
        > MOST_MODULES
    }
    assert crowded == {}


def test_test_files_are_short():
    files = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    long = {
        str(path.relative_to(ROOT)): lines
        for path, text in files.items()
        if (lines := text.count("\n")) > MOST_LINES
    }
    assert long == {}
