"""What the README and the docs show, runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pointcmt.cameras import read_rig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    for page in PAGES:
        found = re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
        )
        for number, text in enumerate(found):
            yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_blocks_run(code, toy_store, tmp_path):
    (tmp_path / "S").symlink_to(toy_store.path)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", list(blocks("toml")))
def test_rig_files_in_the_docs_are_rigs(text, tmp_path):
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
def test_commands_in_the_docs_have_the_options_they_show(line):
    """Each command exists, and its help names each option it is shown with."""
    words = shlex.split(line.split("·")[0])
    shown = subprocess.run(
        [sys.executable, "-m", "pointcmt", words[1], "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert shown.returncode == 0, shown.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.stdout


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
