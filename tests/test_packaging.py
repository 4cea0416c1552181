"""Contents of the wheel and sdist, pinned versions, and installation instructions."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import pointcmt
from pointcmt.extras import CPU_TORCH, install
from pointcmt.training.config.names import known_configs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*")
}
# Files that are not in git, or not needed outside of the repository.
NOT_PACKED = (".git", ".ci", ".venv", "build", "dist", "demo", "out")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def pins(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements():
    """(name, text) of each direct dependency, our own extras left out."""
    groups = [PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"]]
    groups += PROJECT["project"]["optional-dependencies"].values()
    for text in (text for group in groups for text in group):
        name = re.match(r"[\w.-]+", text)[0]
        if name != "pointcmt":
            yield normal(name), text


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names of the files in the sdist and in the wheel that is built from it."""
    dist, sdist = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sdist")
    build = (sys.executable, "-m", "hatchling", "build", "--directory", str(dist), "--target")
    done = run(*build, "sdist", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(sdist, filter="data")
    (folder,) = sdist.iterdir()
    done = run(*build, "wheel", cwd=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        inside = set(packed.namelist())
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return files, inside, (archive.name, wheel.name)


# Contents of the wheel and the sdist.


def test_the_version_is_in_one_place(built):
    version = pointcmt.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert built[2] == (f"pointcmt-{version}.tar.gz", f"pointcmt-{version}-py3-none-any.whl")
    assert run(sys.executable, "-m", "pointcmt", "--version").stdout == f"pointcmt {version}\n"


def test_the_wheel_holds_the_package_and_nothing_else(built):
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pointcmt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = f"pointcmt-{pointcmt.__version__}.dist-info/"
    assert {name for name in built[1] if not name.startswith(metadata)} == here
    assert {f"pointcmt/configs/{name}.yaml" for name in known_configs()} <= built[1]
    assert "pointcmt/py.typed" in built[1]
    assert f"{metadata}licenses/LICENSE" in built[1]


def test_the_sdist_holds_everything_the_tests_read(built):
    files = built[0]
    for folder in ("pointcmt", "tests", "benchmarks", "docs", "docker", "packaging", ".github"):
        expected = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert expected <= files, folder
    # Each file at the root, except those that only git and our own CI read.
    root = {p.name for p in ROOT.iterdir() if p.is_file()} - {".git", ".coverage"}
    assert root <= files
    assert not any(name.split("/")[0] in NOT_PACKED for name in files)


# Pinned versions.


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
def test_every_direct_dependency_is_pinned(file):
    pinned = pins(ROOT / file)
    # open3d is for other platforms, the fuzzer in a separate group.
    assert {name for name, _ in requirements()} - pinned.keys() == {"open3d"}


def test_the_oldest_constraints_match_the_lower_bounds():
    """Update them with `make oldest`. pyrender2, which only tests use, needs a newer PyOpenGL."""
    oldest = pins(ROOT / "constraints-oldest.txt")
    for name, text in requirements():
        bound = re.search(r">=([\d.]+)", text)
        assert bound, f"{text} has no lower bound"
        if name in oldest and name != "pyopengl":
            version = re.sub(r"(\.0)+$", "", oldest[name])
            assert version == re.sub(r"(\.0)+$", "", bound[1]), text


# Installation instructions.


def test_no_text_installs_this_package_from_an_index():
    """It is not on any index: pages and messages name the checkout or the wheel's file."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docker/*")]
    modules = (ROOT / "pointcmt").rglob("*.py")
    told = re.compile(r"pip install[^\n]*[\s'\"]pointcmt(\[|['\"\s`]|$)")
    assert told.search("fix: pip install 'pointcmt[train]'")
    for path in (path for path in (*pages, *modules) if path.is_file()):
        assert not told.search(path.read_text()), path


def test_installing_an_extra_is_explained_in_one_sentence():
    for extra in PROJECT["project"]["optional-dependencies"]:
        assert f"pip install '.[{extra}]'" in install(extra)
        assert f"pointcmt-{pointcmt.__version__}-py3-none-any.whl[{extra}]" in install(extra)
    for extra in ("train", "export", "all"):
        assert CPU_TORCH in install(extra)
    assert "torch" not in install("render")


# Completion.


def test_shell_completion_works():
    code = "import sys; sys.argv[0] = 'pointcmt'; from pointcmt.cli import main; main()"
    environment = {
        **os.environ,
        "_POINTCMT_COMPLETE": "complete_bash",
        "COMP_WORDS": "pointcmt tr",
        "COMP_CWORD": "1",
    }
    done = run(sys.executable, "-c", code, env=environment)
    assert done.stdout.split() == ["train"], done.stderr
    assert "--install-completion" in run(sys.executable, "-m", "pointcmt", "--help").stdout


# Files for the hosting site.


def steps(workflow):
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            yield job, step


def test_workflows_run_existing_make_targets():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    run_targets = set()
    for job, step in (pair for workflow in WORKFLOWS.values() for pair in steps(workflow)):
        for name in re.findall(r"\bmake (\S+(?: [^=]+\}\})?)", step.get("run", "")):
            matrix = job.get("strategy", {}).get("matrix", {}).get("include", [])
            run_targets |= {row["target"] for row in matrix} if "matrix" in name else {name}
    expected = {"setup", "test", "test-oldest", "test-newest", "test-wheel", "docs"}
    assert run_targets == expected
    assert run_targets <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["entry"] for hook in hooks} == {"make lint", "make types"}


def test_every_supported_python_is_tested():
    pythons = WORKFLOWS["tests"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    named = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if ":: 3." in c]
    assert named == pythons


def test_only_the_release_workflow_has_write_permission():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
    jobs = WORKFLOWS["release"]["jobs"].items()
    more = {name: job["permissions"] for name, job in jobs if "permissions" in job}
    assert more == {"release": {"contents": "write"}, "publish": {"id-token": "write"}}
    assert WORKFLOWS["release"]["jobs"]["publish"]["if"] == "vars.PUBLISH == 'true'"


def test_issue_forms_have_the_required_fields():
    for name in ("bug", "feature"):
        form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text())
        assert form["name"]
        assert form["description"]
        identifiers = [field["id"] for field in form["body"]]
        assert len(set(identifiers)) == len(identifiers) > 0
        assert all(field["attributes"]["label"] for field in form["body"])


def test_the_citation_names_the_project_and_both_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert "version" not in citation  # that is in one place
    found = [paper["identifiers"][0]["value"] for paper in citation["references"]]
    assert found == ["arXiv:2210.04208", "arXiv:2306.02558"]
    assert json.dumps(citation)  # plain values only, no dates
