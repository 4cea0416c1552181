"""Which folder may import which, in one table; no import cycles."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pointcmt"

# The base layer: modules at the top of the package that import only each other.
GROUND = (
    "errors",
    "console",
    "wording",
    "arrays",
    "srgb",
    "trimesh_scenes",
    "cameras",
    "geometry",
    "input_frame",
    "shapes",
    "scenes",
    "correspondences",
    "compiled",
    "files",
    "plugins",
    "extras",
)
TRAINING = ("config", "ops", "figures", "images", "networks", "runs", "recipes", "evaluation")
# Folder, or module with its own rule → what it may import besides itself and the base layer.
ALLOWED: dict[str, tuple[str, ...]] = {
    "ground": (),
    "datasets": ("datasets.store", "datasets.store.schema"),
    "datasets.store.schema": (),
    "datasets.store": ("datasets.store.schema",),
    "datasets.export": ("datasets", "datasets.store", "datasets.store.schema"),
    "datasets.sources": ("datasets.store.schema",),
    "view": ("datasets", "datasets.export", "datasets.store", "datasets.store.schema"),
    "audit": ("datasets", "datasets.store", "datasets.store.schema", "view"),
    "render": ("datasets", "datasets.store", "datasets.store.schema"),
    "render.draw": ("render.config", "render.startup"),
    "render.config": ("datasets.store.schema",),
    "render.startup": (),
    "render.scenes": ("render.startup", "datasets.store.schema"),
    "render.limits": (),
    "render.load": (
        "render.config",
        "render.draw",
        "render.startup",
        "datasets.sources",
        "datasets.store.schema",
    ),
    "render.jobs": (
        "render.draw",
        "render.scenes",
        "render.load",
        "render.config",
        "render.startup",
        "render.limits",
        "datasets.store",
        "datasets.store.schema",
        "datasets.sources",
    ),
    "training.config": (),
    "training.ops": (),
    "training.figures": (),
    "training.images": ("datasets.store", "training.ops"),
    "training.networks": ("training.config", "training.images", "training.ops"),
    "training.runs": (
        "datasets",
        "datasets.store",
        "datasets.store.schema",
        *(f"training.{name}" for name in ("config", "images", "networks", "ops")),
    ),
    "training.recipes": (
        "datasets",
        "datasets.store",
        "datasets.store.schema",
        *(f"training.{name}" for name in ("config", "images", "networks", "ops", "runs")),
        "training.figures",
    ),
    "training.evaluation": (
        "datasets",
        "datasets.store",
        "datasets.store.schema",
        *(f"training.{name}" for name in TRAINING),
    ),
    "training.export": ("datasets", "datasets.store", *(f"training.{name}" for name in TRAINING)),
    "training": (
        "datasets",
        "datasets.store",
        "datasets.store.schema",
        *(f"training.{name}" for name in TRAINING),
    ),
}
# Libraries that a folder and everything in it must not import.
FORBIDDEN: dict[str, set[str]] = {
    "ground": {"torch", "open3d", "trimesh", "OpenGL", "dask", "distributed", "tensorstore"},
    "datasets": {"open3d", "trimesh", "OpenGL", "dask", "distributed"},
    "datasets.store": {"h5py"},
    "datasets.store.schema": {"torch", "tensorstore"},
    "datasets.sources": {"torch", "tensorstore", "numba"},
    "view": {"torch", "open3d", "trimesh", "OpenGL", "dask", "distributed"},
    "audit": {"torch", "sklearn", "open3d", "trimesh", "OpenGL", "dask", "distributed"},
    "render": {"torch", "transformers", "sklearn"},
    "training": {"open3d", "trimesh", "OpenGL", "dask", "distributed"},
}
TOP = {"", "api", "cli", "commands", "__main__"}  # may import everything


def module_name(path: Path) -> str:
    """The name of a file's module below `pointcmt`; that of the package itself is ""."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Everything a file imports, also inside functions, except under TYPE_CHECKING."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    unseen = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if (node.module or "").startswith("pointcmt") else [node.module or ""]


def own_imports(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for name in imported(path):
        if name.split(".")[0] == "pointcmt":
            below = name.removeprefix("pointcmt").removeprefix(".")
            found.add(below if below in MODULES else below.rpartition(".")[0])
    return found - {""}  # `from pointcmt import __version__`


def rule_of(module: str) -> str:
    """The key of ALLOWED that applies to a module: its own, or that of the nearest folder."""
    if module in GROUND:
        return "ground"
    while module not in ALLOWED:
        if module.split(".")[0] in TOP:
            return "top"
        module, _, last = module.rpartition(".")
        assert module or last in TOP, f"{last} has no rule"
    return module


IMPORTS = {module: own_imports(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module):
    own = rule_of(module)
    for name in IMPORTS[module]:
        other = rule_of(name)
        if own != "top" and other not in ("ground", own):
            assert other in ALLOWED[own], f"{own} imports {name}"
    forbidden = set().union(
        *(names for rule, names in FORBIDDEN.items() if _is_in(module, own, rule))
    )
    roots = {name.split(".")[0] for name in imported(MODULES[module])}
    assert not roots & forbidden


def _is_in(module: str, own: str, rule: str) -> bool:
    return rule == own or module == rule or module.startswith(f"{rule}.")


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The nodes that are on a cycle or lead to one."""
    left = {node: set(others) - {node} for node, others in graph.items()}
    while ends := [node for node, others in left.items() if not others & left.keys()]:
        for node in ends:
            del left[node]
    return sorted(left)


def test_no_import_cycles_between_files():
    assert circles(IMPORTS) == []


def test_no_import_cycles_between_folders():
    """Each file at the top of the package counts as a folder of its own."""

    def folder(module):
        return str(MODULES[module].parent) if "." in module else module

    graph: dict[str, set[str]] = {folder(module): set() for module in MODULES}
    for module, others in IMPORTS.items():
        graph[folder(module)] |= {folder(other) for other in others}
    assert circles(graph) == []


def test_datasets_import_torch_only_in_streaming():
    users = [
        module
        for module, path in MODULES.items()
        if module.startswith("datasets")
        and any(name.split(".")[0] == "torch" for name in imported(path))
    ]
    streams = ("epochs", "scene_streams.packing", "scene_streams.stream", "streaming")
    assert users == [f"datasets.store.{name}" for name in streams]


def test_hdf5_files_are_opened_in_one_place():
    """That module refuses links to other files, and imports h5py only when needed."""
    users = {module for module, path in MODULES.items() if "h5py" in set(imported(path))}
    assert users == {"datasets.sources.hdf5"}
    tree = ast.parse(MODULES["datasets.sources.hdf5"].read_text())
    assert not any(
        isinstance(node, ast.Import) and "h5py" in ast.unparse(node) for node in tree.body
    )
