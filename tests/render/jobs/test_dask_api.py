"""The project uses only the documented API of dask, so that upgrades do not break it."""

import ast
import inspect
from pathlib import Path

import distributed
import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("pointcmt", "tests", "benchmarks")
FILES = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} - {Path(__file__)}
# Names that dask's API, configuration, TLS and "killed workers" pages document.
IMPORTS = {
    "distributed": {"Client", "Future", "KilledWorker", "LocalCluster", "Security", "get_worker"},
    "dask": {"config"},
}
CONFIG = {"get", "set", "merge", "collect_env", "config"}
# Variables that hold an object of dask in the package → its class.
HOLDERS = {
    "client": distributed.Client,
    "future": distributed.Future,
    "local_cluster": distributed.LocalCluster,
    "get_worker()": distributed.Worker,
}
# Without docstrings, but used in dask's pages and in the docstring of get_worker.
DOCUMENTED = {
    ("local_cluster", "close"),
    ("local_cluster", "scheduler_address"),
    ("get_worker()", "address"),
}


def dask_imports(tree):
    """Yield (module, name) of everything a file imports from dask; name = "" for the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        yield from (each for each in found if each[0].split(".")[0] in IMPORTS)


def holder(node):
    """Return the last name of an expression, without underscores: "client" for self._client."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_")
        case ast.Call(func=ast.Name(id=name)):
            return f"{name}()"
        case ast.Await(value=value):
            return holder(value)
    return ""


TREES = {path: ast.parse(path.read_text()) for path in sorted(FILES)}
USERS = {path: tree for path, tree in TREES.items() if any(dask_imports(tree))}
PACKAGE = {path: tree for path, tree in USERS.items() if path.is_relative_to(ROOT / "pointcmt")}


def faults(tree, strict):
    """Yield what a file uses of dask apart from its documented names.

    strict: also check attributes, as in the package, where variables have the names in HOLDERS.
    """
    for module, name in dask_imports(tree):
        if module not in IMPORTS or name not in {"", *IMPORTS[module]}:
            yield f"imports {module} {name}"
    names = {name for _, name in dask_imports(tree)} - {"", "config"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from attribute_faults(node, strict)
        elif strict and isinstance(node, ast.Call) and holder(node) in ("getattr()", "vars()"):
            constant = len(node.args) == 3 and isinstance(node.args[1], ast.Constant)
            if not constant or node.args[1].value != "real_error":  # of tornado's exceptions
                yield ast.unparse(node)
        elif strict and isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            yield from assignment_faults(node, names)


def attribute_faults(node, strict):
    owner = ast.unparse(node.value)
    if owner in IMPORTS and node.attr not in IMPORTS[owner]:
        yield ast.unparse(node)
    if owner == "dask.config" and node.attr not in CONFIG:
        yield ast.unparse(node)
    private = node.attr.startswith("_") and not node.attr.endswith("__")
    if private and owner not in ("self", "cls") and (strict or holder(node.value) in HOLDERS):
        yield ast.unparse(node)
    name = holder(node.value)
    if strict and name in HOLDERS and (name, node.attr) not in DOCUMENTED:
        member = inspect.getattr_static(HOLDERS[name], node.attr, None)
        if member is None or not inspect.getdoc(member):
            yield ast.unparse(node)


def assignment_faults(node, names):
    """Objects of dask must be in variables whose attributes are checked."""
    value = node.value.value if isinstance(node.value, ast.Await) else node.value
    made = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if made in names and not all(holder(target) in HOLDERS for target in targets):
        yield ast.unparse(node)


@pytest.mark.parametrize("path", USERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_documented_names_of_dask_are_used(path):
    assert list(faults(USERS[path], strict=path in PACKAGE)) == []


def test_the_allowed_names_are_exported():
    assert IMPORTS["distributed"] <= set(distributed.__all__)
    assert {path.name for path in PACKAGE} >= {"cluster.py", "cluster_task.py", "scheduler.py"}


@pytest.mark.parametrize(
    "code",
    [
        "from distributed.core import rpc",
        "from distributed.comm.core import connect",
        "from distributed import Scheduler",
        "import distributed.versions",
        "import distributed\ndistributed.rpc('tcp://127.0.0.1:9')",
        "import dask\ndask.base.tokenize(1)",
        "from distributed import Client\nclient = Client()\nclient._loop_runner",
        "from distributed import Client\nclient = Client()\nclient.scheduler.ncores()",
        "from distributed import Client\nclient = Client()\nclient.scheduler_comm",
        "from distributed import Client\nmine = Client()",
        "from distributed import get_worker\nget_worker().state.nthreads",
        "from distributed import Client\nclient = Client()\ngetattr(client, 'rpc')",
    ],
)
def test_undocumented_use_is_found(code):
    assert list(faults(ast.parse(code), strict=True))
