"""What the package must not do: unpickle, start a shell, compile in constants of other files."""

import ast

import pytest

from tests.test_imports import MODULES, ROOT, imported


def test_nothing_is_unpickled():
    """Downloaded files are never executed: no pickle, and torch.load only with weights_only."""
    for path in MODULES.values():
        assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & set(imported(path)), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path
                assert keywords.get("allow_pickle") != "True", path


def test_numpys_array_reader_is_not_used():
    """numpy's array reader unpickles if the header says so; the package reads only headers."""
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not ast.unparse(node.func).endswith("format.read_array"), path


def test_no_shell_is_started():
    for path in MODULES.values():
        text = path.read_text()
        assert "shell=True" not in text, path
        assert "os.system" not in text, path


def test_compiled_functions_use_only_constants_of_their_own_file():
    """numba compiles globals in, so a constant of another file could change without recompilation.

    Functions of other files are fine, as the cache's name is a digest of all files with any.
    """
    for path in MODULES.values():
        tree = ast.parse(path.read_text())
        constants = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pointcmt")
            for alias in node.names
            if alias.name.isupper()
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any(
                ast.unparse(d) == "compiled" for d in node.decorator_list
            ):
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                foreign = used & constants
                kernels = all(b"@compiled" in _source_of(tree, name) for name in foreign)
                assert kernels, f"{path}: {node.name} uses {foreign}"


def _source_of(tree, name):
    """The bytes of the file an imported name comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return (ROOT / (node.module.replace(".", "/") + ".py")).read_bytes()
    raise AssertionError(name)


@pytest.mark.parametrize("module", MODULES)
def test_torch_load_is_called_in_one_module_only(module):
    """Only `runs.published.files` calls torch.load, with weights_only; torch.save is unused."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    safe = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and module == "training.runs.published.files"
        and ast.unparse(node.func) == "torch.load"
        and {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = (node.value.id, node.attr)
            assert node in safe or found not in {("torch", "load"), ("torch", "save")}
