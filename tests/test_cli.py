"""The command line: quick to start, with clear usage errors."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from pointcmt.commands import demo_steps
from pointcmt.datasets.sources import formats
from pointcmt.training.config.files import load_config
from pointcmt.training.config.printed import commented_yaml, describe_keys
from tests.commands import pointcmt

HEAVY = ("torch", "open3d", "OpenGL", "dask", "trimesh", "tensorstore", "transformers")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("code", ["import pointcmt", "import pointcmt.cli"])
def test_importing_the_package_loads_no_heavy_library(code):
    loaded = python(f"{code}; import sys; print(*sys.modules)").stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_little_besides_what_prints_it():
    """A guard on the time of --help, most of which is spent on importing typer and rich."""
    printer = "import typer.rich_utils"
    shown = f"{printer}, pointcmt.cli as cli, contextlib\nwith contextlib.suppress(SystemExit):"
    loaded, before = (
        set(python(f"{code}\nimport sys; print(*sys.modules)").stdout.splitlines()[-1].split())
        for code in (f"{shown} cli.app(['--help'])", printer)
    )
    slow = "asyncio difflib hashlib importlib.metadata numba numpy pydantic tempfile yaml zipfile"
    assert "pointcmt.commands.render" in loaded
    assert not (loaded - before) & {*slow.split(), "pointcmt.wording", *HEAVY}
    assert not [
        name for name in loaded if name.startswith(("pointcmt.datasets", "pointcmt.render"))
    ]


def test_help_names_every_command():
    shown = pointcmt("--help")
    assert shown.returncode == 0
    for command in ("render", "build-correspondences", "train", "evaluate", "info", "verify"):
        assert command in shown.stdout
    assert pointcmt("--version").stdout.startswith("pointcmt 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "modelnet4"), "did you mean 'modelnet40'?"),
        (("--dataset", "toy", "--rig", "dodeca"), "did you mean 'dodeca20'?"),
        (("--dataset", "toy", "--backend", "embre"), "did you mean 'embree'?"),
        (("--dataset", "toy", "--layers", "normals"), "did you mean 'normal'?"),
        (("--dataset", "toy", "--light", "cam"), "did you mean 'camera'?"),
        (("--dataset", "toy", "--backend", "embree", "--device", "1"), "does not use a GPU"),
        (("--dataset", "toy", "--size", "1"), "out of range: expected 8 to 4096"),
        (("--dataset", "toy", "--size", "0"), "out of range: expected 8 to 4096"),
        (("--dataset", "toy", "--size", "20000"), "out of range: expected 8 to 4096"),
        (("--dataset", "toy", "--points", "0"), "out of range: expected 1 to"),
        (("--dataset", "toy", "--background", "beige"), "is not a color"),
        (("--dataset", "toy", "--log-format", "yaml"), "known: auto, plain, json"),
        (("--dataset", "folder", "--root", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--dataset", "modelnet40"), "--root"),
        (("--dataset", "folder", "--root", ""), "the path is empty"),
    ],
)
def test_invalid_options_are_usage_errors_with_a_fix(arguments, says, tmp_path):
    done = pointcmt("render", *arguments, "--out", tmp_path / "S")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "S").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("export", "RUN", "--to", "safetensors"),
        ("preview", "S"),
        ("view", "S"),
        ("train", "student", "--data", "S"),
        ("demo",),
    ],
)
def test_what_needs_a_file_system_is_not_written_to_a_folder_named_like_a_url(command, tmp_path):
    for url in ("s3://bucket/x", "gs://bucket/x"):
        done = pointcmt(*command, "--out", url, cwd=tmp_path)
        assert done.returncode == 2, command
        assert "only view stores can be on object storage" in done.stderr
        assert f"--out {url}" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["info", "verify", "preview", "view", "build-correspondences"])
def test_a_missing_store_is_reported(command, tmp_path):
    more = ("--out", tmp_path / "P") if command in ("preview", "view") else ()
    done = pointcmt(command, tmp_path / "none", *more)
    assert done.returncode == 1
    assert "there is no view store here" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_folder_is_reported(tmp_path):
    done = pointcmt("render", "--dataset", "folder", "--root", tmp_path, "--out", tmp_path / "S")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def test_doctor_reports_a_working_renderer():
    done = pointcmt("doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    for name in ("meshes", "clouds", "embree"):
        assert any(line.startswith(f"ok      {name}") for line in lines)
    (meshes,) = (line for line in lines if line.startswith("ok      meshes"))
    (clouds,) = (line for line in lines if line.startswith("ok      clouds"))
    assert meshes.endswith("; tested: .off; with --compile also .obj, .ply, .stl")
    assert "; tested: .xyz, .npy, .npz; with --compile also .txt, " in clouds
    images = {suffix for each in formats.IMAGES.values() for suffix in each}
    assert set(re.findall(r"\.\w+", meshes)) == set(formats.MESHES) | images
    assert set(re.findall(r"\.\w+", clouds)) == {*formats.CLOUDS, ".h5"}


DOCTOR_WITHOUT_OPEN3D = """
import sys

def report(event, arguments):
    if event == "import" and arguments[0] == "torch":
        print("importing torch", file=sys.stderr)

sys.modules["open3d"] = None
sys.addaudithook(report)
from pointcmt.cli import app

app(["doctor"])
"""


def test_doctor_accepts_a_node_with_only_the_training_extra_and_prints_results_at_once():
    command = [sys.executable, "-c", DOCTOR_WITHOUT_OPEN3D]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "missing render  open3d is not installed" in done.stdout
    assert "broken" not in done.stdout
    order = [done.stdout.index(text) for text in ("ok      python", "importing torch", "ok      t")]
    assert order == sorted(order)


DOCTOR_WITH_A_BROKEN_NUMBA = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "numba":
            raise ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.4.")

sys.modules["open3d"] = None
sys.meta_path.insert(0, Refuse())
from pointcmt.cli import app

app(["doctor"])
"""


def test_doctor_reports_a_numba_that_cannot_be_imported():
    command = [sys.executable, "-c", DOCTOR_WITH_A_BROKEN_NUMBA]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    at = lines.index("broken  numba   Numba needs NumPy 2.2 or less. Got NumPy 2.4.")
    assert "pip install --upgrade numba" in lines[at + 1]
    assert lines[-1].startswith("ok      disk")  # the other tests run


def test_the_configuration_is_printed_without_data_or_torch(tmp_path):
    given = (
        "train",
        "student",
        "--config",
        "student-toy",
        "--set",
        "optimizer.ema=0.5",
        "--epochs",
        7,
    )
    code = "import sys; sys.modules['torch'] = None; from pointcmt.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, given), "--print-config"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (shown.returncode, shown.stderr) == (0, "")
    config = load_config("student", "student-toy", ["optimizer.ema=0.5"], epochs=7)
    assert shown.stdout == commented_yaml(config)
    (tmp_path / "mine.yaml").write_text(shown.stdout)
    again = pointcmt("train", "student", "--config", tmp_path / "mine.yaml", "--print-config")
    assert again.stdout == shown.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]


def test_training_without_data_or_out_is_a_usage_error(tmp_path):
    done = pointcmt("train", "student")
    assert (done.returncode, done.stdout) == (2, "")
    assert "training needs --data and --out" in done.stderr
    assert "training needs --out" in pointcmt("train", "--data", tmp_path).stderr
    unknown = pointcmt("train", "student", "--config", "studnt-toy", "--print-config")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean 'student-toy'? known: cmpg, " in unknown.stderr


@pytest.mark.parametrize("rich", ["1", "0"])
def test_the_help_of_train_lists_the_keys(rich):
    code = "import sys; sys.modules['torch'] = None; from pointcmt.cli import main; main()"
    command = [sys.executable, "-c", code, "train", "--help"]
    environment = {**os.environ, "TYPER_USE_RICH": rich}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.index("--print-config") < shown.stdout.index("Keys for --set")
    assert describe_keys().strip() in shown.stdout


QUICK = ("--set", "data.points=64", "--set", "data.batch_size=4", "--seed", "3")


def test_training_and_evaluation_from_the_command_line(toy_store, tmp_path):
    run = tmp_path / "RUN"
    done = pointcmt(
        "train", "student", "--data", toy_store.path, "--out", run, "--epochs", 2, *QUICK, "--json"
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["recipe"], facts["epochs"]) == ("student", 2)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    student = ("train", "student", "--data", toy_store.path, "--epochs", 2, *QUICK, "--resume")
    again = pointcmt(*student, "--out", run)
    assert again.returncode == 0, again.stderr
    assert "this run is finished" in again.stderr
    other = pointcmt(*student, "--out", tmp_path / "nowhere")
    assert (other.returncode, other.stdout) == (1, "")
    assert "no run to resume" in other.stderr
    judged = pointcmt("evaluate", run, "--data", toy_store.path, "--json")
    assert judged.returncode == 0, judged.stderr
    report = json.loads(judged.stdout.splitlines()[-1])
    assert set(report) == {
        "overall_accuracy", "overall_accuracy_interval", "mean_class_accuracy", "per_class",
        "notes", "left_out",
    }  # fmt: skip
    assert sum(c["shapes"] for c in report["per_class"].values()) == 20
    assert (run / "confusion.png").exists()


def test_training_stops_cleanly_at_ctrl_c_and_resumes(toy_store, tmp_path):
    run = tmp_path / "RUN"
    arguments = ("train", "student", "--data", toy_store.path, "--out", run, "--epochs", 5, *QUICK)
    command = [sys.executable, "-m", "pointcmt", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
        while not (run / "last/checkpoint.json").exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGINT)
        said = job.stderr.read()
    assert job.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    done = pointcmt(*arguments)
    assert done.returncode == 0
    assert "resuming after epoch" in done.stderr
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("train", "studnt"), 2, "did you mean 'student'?"),
        (("train", "student", "--set", "optimiser.lr=1"), 2, "unknown key 'optimiser"),
        (("train", "student", "--set", "epochs=many"), 2, "'epochs'"),
        (("train", "student", "--config", "none.yaml"), 2, "none.yaml"),
        (("train", "student", "--device", "cuda:7"), 2, "CUDA"),
    ],
)
def test_invalid_training_options_are_usage_errors(toy_store, tmp_path, arguments, code, says):
    done = pointcmt(*arguments, "--data", toy_store.path, "--out", tmp_path / "RUN")
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_networks_of_the_demo_reach_their_accuracy(tmp_path):
    done = pointcmt("demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    for run, least in (("teacher", 0.8), ("student", 0.7)):
        report = json.loads((tmp_path / "demo" / run / "evaluation.json").read_text())
        assert report["overall_accuracy"] >= least
    require_demo(tmp_path / "demo", done.stdout)


def test_a_small_demo_leaves_what_it_names(tmp_path, messages, capsys):
    demo_steps.run(tmp_path / "demo", demo_steps.Size(train=20, test=10, rooms=1, epochs=(1, 1, 1)))
    require_demo(tmp_path / "demo", capsys.readouterr().out)


def require_demo(folder, said):
    """Pictures that are named, stores that are sound, and accuracies."""
    for picture in (
        *("preview/contact_sheet.png", "cmpg/clouds.png", "student/confusion.png"),
        *("rooms_preview/contact_sheet.png", "rooms_preview/points.png"),
    ):
        assert (folder / picture).exists()
        assert f"see {folder / picture}" in said
    for store in ("store", "rooms"):
        assert pointcmt("verify", folder / store).returncode == 0
    assert re.search(r"few epochs: teacher \d+%, student \d+% \(chance: 10 %\)", said)
