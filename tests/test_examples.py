"""The numbered scripts in examples/ run, on a small store."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from pointcmt.plugins import trust

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.name[:2]: path for path in EXAMPLES.glob("[0-9]*.py")}


@pytest.fixture
def run(toy_store, tmp_path, monkeypatch, capsys):
    """A function: number, arguments → what that script prints. It runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def call(number, *arguments):
        script = SCRIPTS[number]
        monkeypatch.setattr("sys.argv", [str(script), toy_store.path, *arguments])
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        runpy.run_path(str(script), run_name="__main__")
        torch.set_num_threads(before)
        return capsys.readouterr().out

    return call


def test_pixels_of_the_same_points_are_joined(run):
    told = run("01", "airplane/0000")
    assert re.fullmatch(r"airplane/0000: views \d and \d share [1-9]\d* points\n", told)
    with Image.open("matches.png") as picture:
        assert picture.size == (1024, 512)


def test_an_own_loop_learns_from_the_store(run):
    """More than chance, 10 %: it has seen each of 20 shapes four times."""
    told = run("02", "4")
    losses = [float(text) for text in re.findall(r"loss ([\d.]+)", told)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert float(re.search(r"test accuracy ([\d.]+)%", told)[1]) > 10


def test_an_own_backbone_is_trained_and_loaded(run):
    trust("my_network:Adapter")
    told = run("03", "OUT", "1")
    assert "student, best checkpoint (epoch 1), 20 test shapes" in told
    assert told.endswith("Adapter, 10 classes\n")
    assert list(Path("OUT/best").glob("*.safetensors"))


def test_a_table_has_a_mean_and_a_deviation_for_each_network(run):
    told = run("04", "OUT", "2", "1")
    cell = r"\d+\.\d ± \d+\.\d"
    for network in ("PointNet", "DGCNN"):
        assert re.search(
            rf"^\| {network} \| {cell} \| {cell} \| \d\.\d\d M \|$", told, re.MULTILINE
        )
    assert len(list(Path("OUT").iterdir())) == 4


def test_every_script_is_short_numbered_and_listed():
    page = (EXAMPLES.parent / "docs/examples.md").read_text()
    assert sorted(SCRIPTS) == [f"{number:02}" for number in range(1, len(SCRIPTS) + 1)]
    for path in SCRIPTS.values():
        text = path.read_text()
        assert 10 <= text.count("\n") <= 65, path.name
        assert f"examples/{path.name}" in text
        assert f"| [{path.name}](../examples/{path.name}) |" in page
