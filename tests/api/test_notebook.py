"""The notebook runs from top to bottom and prints what is stored in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples/quickstart.ipynb"


def test_running_the_notebook_prints_its_stored_output(tmp_path):
    """Run cell by cell in one process without an importable main module, as a kernel does."""
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    expected = [
        "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")
        for cell in cells
    ]
    code = (
        "import contextlib, io, json, sys\n"
        "names, told = {'__name__': '__main__'}, []\n"
        "for source in json.load(sys.stdin):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        exec(compile(source, 'cell', 'exec'), names)\n"
        "    told.append(out.getvalue())\n"
        "print(json.dumps(told))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(sources),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
    assert done.stderr == ""


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


def test_the_notebook_is_stored_executed_and_small():
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    pictures = [o for c in cells for o in c["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
    assert NOTEBOOK.stat().st_size < 300_000
    assert "/tmp" not in NOTEBOOK.read_text()
