"""What training code may not do: unpickle, and import what belongs to rendering."""

import ast
from pathlib import Path

import pytest

import pointcmt.training

FILES = sorted(Path(pointcmt.training.__file__).parent.rglob("*.py"))
GROUND = (
    "training",
    "datasets",
    "cameras",
    "correspondences",
    "compiled",
    "errors",
    "console",
    "regular_files",
    "json_files",
    "__version__",
)
ALLOWED = ("schema", "store", "streaming", "features", "places", "enclosing")
FORBIDDEN = ("OpenGL", "open3d", "dask", "trimesh", "pickle", "cloudpickle", "dill", "joblib")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_unpickled(file):
    """Others' checkpoints are read by published.py alone, which makes no objects."""
    tree = ast.parse(file.read_text("utf-8"))
    safe = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and file.name == "published.py"
        and ast.unparse(node.func) == "torch.load"
        and {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only") == "True"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = (node.value.id, node.attr)
            assert node in safe or found not in {("torch", "load"), ("torch", "save")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_imports_run_down(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for name in names:
        assert name.split(".")[0] not in FORBIDDEN
        if name.startswith("pointcmt."):
            floor = name.split(".")[1]
            assert floor in GROUND
            assert floor != "datasets" or name.split(".")[2] in ALLOWED
