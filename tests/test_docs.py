"""The code blocks and commands in the README and the docs work."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import trimesh

from pointcmt.cameras import find_rig, read_rig
from pointcmt.datasets.sources import SOURCES, find_source, list_shapes
from pointcmt.plugins import is_reference, trust
from pointcmt.render.load.made_shapes import make_mesh
from pointcmt.training.config.files import load_config
from pointcmt.training.export.networks import FORMATS, export
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import build_dense
from pointcmt.training.networks.mvcnn import build_mvcnn
from pointcmt.training.recipes import build_recipe
from tests.commands import unknown_options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    for page in PAGES:
        found = re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for number, text in enumerate(found):
            yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.fixture(scope="session")
def exported(toy_store, tmp_path_factory):
    """A student of one epoch as student.onnx and student.safetensors."""
    folder = tmp_path_factory.mktemp("exported")
    config = load_config("student", None, ["data.points=64", "data.batch_size=4"], epochs=1)
    train(toy_store, config, folder / "RUN", device="cpu")
    return [export(folder / "RUN", to, folder / f"student.{to}").path for to in FORMATS]


@pytest.fixture(scope="session")
def segmenter(toy_store, tmp_path_factory):
    """A segmenter of one epoch as segmenter.onnx."""
    folder = tmp_path_factory.mktemp("segmenter")
    small = ["load=none", "model.backbone=dgcnn", "data.points=64", "data.batch_size=4"]
    train(toy_store, load_config("partseg", None, small, epochs=1), folder / "P", device="cpu")
    return export(folder / "P", "onnx", folder / "segmenter.onnx").path


def scripts():
    """The blocks of own-parts.md are modules, which another test imports."""
    return [block for block in blocks("python") if not block.id.startswith("own-parts")]


@pytest.mark.parametrize("code", scripts())
def test_python_blocks_run(code, toy_store, tmp_path, request):
    (tmp_path / "S").symlink_to(toy_store.path)
    if "chair.glb" in code:
        trimesh.creation.box().export(tmp_path / "chair.glb")
    for path in request.getfixturevalue("exported") if "student." in code else ():
        (tmp_path / path.name).symlink_to(path)
    if "segmenter." in code:
        (tmp_path / "segmenter.onnx").symlink_to(request.getfixturevalue("segmenter"))
    if '"RUN"' in code:
        (tmp_path / "RUN").symlink_to(request.getfixturevalue("exported")[0].parent / "RUN")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def rigs():
    return [block for block in blocks("toml") if "[project" not in block.values[0]]


@pytest.mark.parametrize("text", rigs())
def test_rig_files_in_the_docs_are_valid(text, tmp_path):
    path = tmp_path / "rig.toml"
    path.write_text(text)
    assert len(read_rig(path).views) > 1


def commands():
    for page in PAGES:
        for line in re.findall(
            r"(?:^\$ |`)(pointcmt [a-z][^`#\n]*)", page.read_text(), re.MULTILINE
        ):
            yield pytest.param(line, id=f"{page.name}: {line.strip()}")


@pytest.mark.parametrize("line", list(commands()))
def test_commands_in_the_docs_use_existing_options(line):
    """Each command exists, and its help names each option."""
    assert unknown_options(shlex.split(line.split("·")[0])) == []


@pytest.mark.parametrize("line", list(commands()))
def test_commands_in_the_docs_name_existing_data_sets_and_rigs(line):
    named = pairwise(shlex.split(line.split("·")[0]))
    for option, value in ((o, v) for o, v in named if not v.isupper()):  # NAME, RIG: placeholders
        if option == "--dataset" and not is_reference(value):
            assert value in SOURCES
        if option == "--rig" and not value.endswith(".toml"):
            find_rig(value)


def test_the_example_parts_in_own_parts_md_are_valid(tmp_path, monkeypatch):
    """Each satisfies the contract of its kind, which is checked when it is built."""
    page = (ROOT / "docs/own-parts.md").read_text()
    modules = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for name, text in modules.findall(page):
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    shown = ("boxes:BOXES", "tiny:Tiny", "pictures:STRIPES", "centers:RECIPE")
    assert all(name in page for name in shown)
    trust(*shown)
    listing = list_shapes("boxes:BOXES", None)
    make = find_source("boxes:BOXES").load_shape
    assert listing.counts() == {"train": 16, "test": 4}
    assert len(make_mesh(make, listing.shapes[-1], None)[0].faces) == 12
    assert build_dense("tiny:Tiny", 40).local_width == 64
    assert build_mvcnn("pictures:STRIPES", "random", 40, 64).width == 64
    config = load_config("centers:RECIPE", None, ["model.backbone=tiny:Tiny"])
    assert type(build_recipe(config, 40, True).model).__name__ == "Tiny"


def test_links_in_the_docs_are_not_broken():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
