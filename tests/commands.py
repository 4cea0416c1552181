"""Run commands, and compare those shown in files with the command line's own options."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import NamedTuple

import pytest

from pointcmt.cli import main
from pointcmt.console import showing_messages


class Done(NamedTuple):
    """What a command left, named as in subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


def pointcmt(*arguments, **own):
    """Run a command and return what it left.

    It runs in this process, which has imported already what takes a new one seconds, unless it gets
    an environment, a folder or anything else of its own: those are arguments of subprocess.run.
    """
    words = list(map(str, arguments))
    if own:
        command = [sys.executable, "-m", "pointcmt", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=900, **own)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, showing_messages(False):
        patch.setattr(sys, "argv", ["pointcmt", *words])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    return Done(ended.value.code or 0, out.getvalue(), err.getvalue())


@cache
def help_of(command):
    """What `pointcmt COMMAND --help` prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        shown = pointcmt(command, "--help")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def unknown_options(words):
    """The options of a command (`pointcmt COMMAND --option …`) that are not in its help."""
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [option for option in options if option not in help_of(words[1])]
