"""The tutorials run from top to bottom and print what is stored in them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = {path.stem: path for path in (ROOT / "docs/tutorials").glob("*.ipynb")}
SLOW = ["five-seeds", "own-loop", "own-meshes", "pretraining", "rooms"]  # a minute or two each

# Runs cells in one process without an importable main module, as a kernel does.
KERNEL = (
    "import contextlib, io, json, sys\n"
    "names, told = {'__name__': '__main__'}, []\n"
    "for source in json.load(sys.stdin):\n"
    "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
    "        exec(compile(source, 'cell', 'exec'), names)\n"
    "    told.append(out.getvalue())\n"
    "print(json.dumps(told))\n"
)


def code_cells(name):
    cells = json.loads(TUTORIALS[name].read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def streams(cell, name):
    return "".join("".join(o["text"]) for o in cell["outputs"] if o.get("name") == name)


def stored(name):
    """What each code cell of a tutorial has printed."""
    return [streams(cell, "stdout") for cell in code_cells(name)]


def printed(name, folder):
    """What each code cell prints when it is run in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps(["".join(cell["source"]) for cell in code_cells(name)]),
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "".join(streams(cell, "stderr") for cell in code_cells(name))
    return json.loads(done.stdout)


def test_running_the_quick_tutorial_prints_its_stored_output(tmp_path):
    assert printed("quickstart", tmp_path) == stored("quickstart")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_running_a_tutorial_prints_its_stored_text(name, tmp_path):
    """All but numbers, which may differ from machine to machine, and what they decide."""

    def words(texts):
        return [re.sub(r"[\d.,+−-]+", "#", text).split("\n")[0] for text in texts]

    assert words(printed(name, tmp_path)) == words(stored(name))


def test_every_tutorial_is_run():
    assert sorted(TUTORIALS) == sorted(["quickstart", *SLOW])


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_is_stored_executed_small_and_without_paths(name):
    cells, text = code_cells(name), TUTORIALS[name].read_text()
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    errors = "".join(streams(cell, "stderr") for cell in cells)
    assert all(line.startswith("note: ") for line in errors.splitlines()), errors
    assert TUTORIALS[name].stat().st_size < 600_000
    told = "".join("".join(output.get("text", ())) for output in outputs)
    assert not re.search(r"(^|[\s'\"(])/\w|\w+@\w+|[A-Z]:\\", told), told
    assert "version" not in json.loads(text)["metadata"]["language_info"]


def test_rendering_in_a_notebook_prints_nothing(tmp_path):
    """Open3D prints when it is imported in a Jupyter kernel, which it knows by this class."""
    code = (
        "import builtins\n"
        "class ZMQInteractiveShell: pass\n"
        "builtins.get_ipython = ZMQInteractiveShell\n"
        "import pointcmt as pc\n"
        "from pointcmt.datasets.sources.toy import build\n"
        "pc.render_views(build('chair/0003'), rig='ortho6', size=32)\n"
        "import open3d\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
