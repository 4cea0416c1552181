"""Who may import whom (CONTRIBUTING.md): every import runs down, and the two stages never meet."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "pointcmt").rglob("*.py"))

GROUND = (
    "errors",
    "wording",
    "arrays",
    "srgb",
    "trimesh_scenes",
    "mesh",
    "cloud",
    "cameras",
    "compiled",
    "geometry",
    "console",
    "regular_files",
    "json_files",
    "correspondences",
)
# Floor of each part of the package → the parts it may import, itself included.
FLOORS = {
    "ground": ("ground",),
    "sources": ("ground", "sources", "schema"),
    "schema": ("ground", "schema"),
    "datasets": ("ground", "sources", "schema", "datasets"),
    "render": ("ground", "sources", "schema", "datasets", "render"),
    "training": ("ground", "schema", "datasets", "training"),
    "top": ("ground", "sources", "schema", "datasets", "render", "training", "top"),
}
FORBIDDEN = {
    "ground": {"torch", "open3d", "trimesh", "OpenGL", "dask", "tensorstore"},
    "sources": {"torch", "open3d", "trimesh", "OpenGL", "dask", "tensorstore", "numba"},
    "schema": {"torch", "open3d", "trimesh", "OpenGL", "dask", "tensorstore"},
    "datasets": {"open3d", "trimesh", "OpenGL", "dask"},
    "render": {"torch", "transformers", "sklearn"},
    "training": {"open3d", "trimesh", "OpenGL", "dask"},
    "top": set(),
}


def floor(name):
    parts = name.split(".")[1:]
    if not parts or parts[0] in (*GROUND, "__version__"):
        return "ground"
    if parts[0] == "datasets":
        return parts[1] if len(parts) > 1 and parts[1] in ("sources", "schema") else "datasets"
    return parts[0] if parts[0] in ("render", "training") else "top"


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Everything a file imports, inside of functions too, but for what only type checkers see."""
    tree = ast.parse(path.read_text())
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
            yield from names if node.module.startswith("pointcmt") else [node.module]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_down(path):
    own = floor(module_name(path))
    for name in imports(path):
        if name.split(".")[0] == "pointcmt":
            assert floor(name) in FLOORS[own], f"{own} imports {name}"
        else:
            assert name.split(".")[0] not in FORBIDDEN[own], f"{own} imports {name}"


def test_datasets_use_torch_in_streaming_alone():
    users = [
        module_name(path)
        for path in MODULES
        if floor(module_name(path)) == "datasets"
        and any(name.split(".")[0] == "torch" for name in imports(path))
    ]
    assert users == ["pointcmt.datasets.streaming"]


def test_only_the_entry_points_are_on_the_top_floor():
    top = {module_name(path) for path in MODULES if floor(module_name(path)) == "top"}
    top = {name for name in top if not name.startswith("pointcmt.api")}  # the public functions
    assert top <= {
        f"pointcmt.{name}"
        for name in (
            "cli",
            "cli_options",
            "cli_training",
            "cli_verify",
            "__main__",
            "doctor",
            "demo",
        )
    }


def test_nothing_is_unpickled():
    """What a user downloads is never executed: no pickle, and torch.load only with weights_only."""
    for path in MODULES:
        assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & set(imports(path)), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", path
                assert keywords.get("allow_pickle") != "True", path


def test_arrays_of_numpy_files_are_made_from_their_bytes():
    """numpy's own reading of arrays unpickles where a header says so: only headers are read."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not ast.unparse(node.func).endswith("format.read_array"), path


def test_hdf5_files_are_opened_in_one_place():
    """It refuses links to other files, and is loaded only where there is such a file."""
    users = {module_name(path) for path in MODULES if "h5py" in set(imports(path))}
    assert users == {"pointcmt.datasets.sources.hdf5"}
    tree = ast.parse((ROOT / "pointcmt/datasets/sources/hdf5.py").read_text())
    assert not any(
        isinstance(node, ast.Import) and "h5py" in ast.unparse(node) for node in tree.body
    )


def test_no_shell_is_started():
    for path in MODULES:
        text = path.read_text()
        assert "shell=True" not in text, path
        assert "os.system" not in text, path


def test_compiled_functions_use_constants_of_their_own_file():
    """numba compiles globals in; a constant from elsewhere could change without a recompilation.

    Functions from elsewhere are fine: the cache's name is a digest of all files that have any.
    """
    for path in MODULES:
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
