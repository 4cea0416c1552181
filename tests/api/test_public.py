"""`import pointcmt`: light, complete, typed, and every name with an example that runs."""

import ast
import doctest
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

import pointcmt as pc

ROOT = Path(__file__).parents[2]
NAMES = [name for name in pc.__all__ if name != "__version__"]
HEAVY = ("numpy", "torch", "open3d", "OpenGL", "dask", "numba", "tensorstore", "trimesh")


def run(code, folder, **more):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **more,
    )


@pytest.mark.parametrize(
    ("use", "light"),
    [
        ("pc.__version__, dir(pc), pc.__all__", HEAVY),
        ("pc.Mesh, pc.Cloud, pc.find_rig, pc.PointcmtError", HEAVY[1:]),
        ("pc.open_store", ("torch", "open3d", "OpenGL", "dask", "numba")),
        ("pc.render", ("torch", "open3d", "OpenGL", "dask")),
        ("pc.train", ("open3d", "OpenGL", "dask", "numba")),
        ("pc.render_views", ("torch", "dask")),
    ],
)
def test_each_public_name_loads_only_what_it_needs(tmp_path, use, light):
    code = f"import sys, pointcmt as pc; {use}; print(*sys.modules)"
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not set(light) & set(done.stdout.split())


def test_all_tables_of_public_names_agree():
    """__all__, the modules that names come from, and what type checkers see."""
    tree = ast.parse((ROOT / "pointcmt/__init__.py").read_text())
    (seen,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    typed = {
        (node.module.removeprefix("pointcmt."), alias.name)
        for node in seen.body
        for alias in node.names
    }
    homes = {(home, name) for home, (names, _) in pc.HOMES.items() for name in names.split()}
    assert typed == homes
    assert sorted(name for _, name in homes) == sorted(NAMES)
    assert set(NAMES) <= set(dir(pc))
    with pytest.raises(AttributeError, match="has no attribute 'Meshes'"):
        pc.Meshes  # noqa: B018


def test_pointcmt_render_and_view_are_functions_not_packages():
    import pointcmt.render.config
    import pointcmt.view.contents

    assert pc.render is pointcmt.render
    assert pc.view is pointcmt.view
    assert "Render a dataset into a view store" in inspect.getdoc(pc.load_public("render"))
    assert "Write a page on which to look" in inspect.getdoc(pc.load_public("view"))
    with pytest.raises(pc.StoreError, match="no view store"):
        pc.view("nowhere", "P")
    with pytest.raises(pc.UsageError, match="unknown dataset"):
        pc.render("modelnet50", out="S")


def test_a_missing_library_is_reported_with_its_extra(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import pointcmt as pc; pc.load_run"
    done = run(code, tmp_path)
    assert "pointcmt.load_run needs torch, which is not installed" in done.stderr
    assert "pip install '.[train]'" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_example_that_runs(workplace, name):
    documented = pc.load_public(name)
    own = [documented]
    if inspect.isclass(documented):
        own += [getattr(documented, each) for each in vars(documented) if each[0] != "_"]
    texts = [inspect.getdoc(each) or "" for each in own]
    assert ">>> " in texts[0], f"{name} has no example"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    runner = doctest.DocTestRunner(optionflags=flags)
    told = []
    for text in texts:
        test = doctest.DocTestParser().get_doctest(text, {"pc": pc, "np": np}, name, None, 0)
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


BLOCK = '''
mesh  = pc.Mesh.from_trimesh(trimesh.load("chair.glb"))
views = pc.render_views(mesh, rig="dodeca20", size=224)
points, faces = pc.sample_points(mesh, 1024, seed=0)
seen  = views.visible(points, faces)                               # [V,N]
store = pc.open_store("S")                                         # len, store[i], store["chair/0001"], repr
data  = store.dataset("train", arrays=("rgb", "points"), batch_size=32, views=4)
net   = pc.backbone("pointnet2-ssg", classes=40)
model = pc.load_run("RUN")                                         # with its classifier and class names
pc.render("toy", out="T", rig="dodeca20", workers=2, limit=4, size=32, points=64)
pc.train("student", data="S", out="R", epochs=1, data__points=64, data__batch_size=4)
'''  # fmt: skip  # noqa: E501
USED = """
import numpy as np
from numpy.typing import NDArray

count: int = len(store)
shape: pc.StoredShape = store[0]
some: list[pc.StoredShape] = [store["chair/0000"], store[-1], *store[3:5], *store]
chairs: list[pc.StoredShape] = store.select(split="train", class_name="chair")
images: NDArray[np.uint8] = views.rgb
depth: NDArray[np.float32] = shape.depth
visible: NDArray[np.bool_] = seen
camera: pc.Camera = views.camera[0]
for batch in data:
    rgb: torch.Tensor = batch["rgb"]
logits: torch.Tensor = model.logits(torch.zeros(2, 64, 3))
names: list[str] = model.class_names
layer: torch.nn.Linear = model.classifier
try:
    pc.load_mesh("nowhere.off")
except pc.ShapeError as error:
    reason: str = error.reason
"""


def test_a_script_without_a_main_guard_can_render_and_train(workplace):
    """Worker processes do not import the calling script."""
    trimesh.creation.box().export(workplace / "chair.glb")
    block = BLOCK.replace("batch_size=32", "batch_size=8")
    (workplace / "script.py").write_text(
        f"import torch\nimport trimesh\nimport pointcmt as pc\n{block}{USED}\nprint('reached')\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=workplace,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "reached\n"
    assert done.stderr == ""  # quiet
    assert (workplace / "R/best/checkpoint.json").exists()
    assert len(pc.open_store(workplace / "T")) == 4


WRONG = """
number: int = pc.open_store("S")
pc.open_stor("S")
pc.render("toy", out="S", sise=3)
"""


def test_a_users_file_passes_mypy_strict(tmp_path):
    """mypy also finds the mistakes in it, so the public types are not silently Any.

    With the project's settings, strict ones, it need not analyze torch again after `make types`.
    """
    assert (ROOT / "pointcmt/py.typed").exists()
    text = f"import torch\nimport trimesh\nimport pointcmt as pc\n{BLOCK}{USED}{WRONG}"
    (tmp_path / "user.py").write_text(text)
    command = [sys.executable, "-m", "mypy", tmp_path / "user.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(found) == 3, done.stdout
    assert 'has type "ViewStore", variable has type "int"' in found[0]
    assert 'has no attribute "open_stor"' in found[1]
    assert re.search(r'[Uu]nexpected keyword argument "sise" for "render"', found[2])


def test_train_takes_the_name_of_a_packaged_configuration(workplace):
    """The name is checked before anything is read or trained."""
    with pytest.raises(pc.UsageError, match="did you mean 'student-toy'") as refused:
        pc.train("student", data="S", out="OWN", config="student-tois")
    assert refused.value.where == "--config"
    settings = {"data__points": 64, "data__batch_size": 4}
    result = pc.train("student", data="S", out="TOY", config="student-toy", epochs=1, **settings)
    assert result.epochs == 1
