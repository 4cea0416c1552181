"""Compare commands shown in files with the command line's own options."""

import os
import subprocess
import sys
from functools import cache


@cache
def help_of(command):
    """What `pointcmt COMMAND --help` prints."""
    shown = subprocess.run(
        [sys.executable, "-m", "pointcmt", command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def unknown_options(words):
    """The options of a command (`pointcmt COMMAND --option …`) that are not in its help."""
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [option for option in options if option not in help_of(words[1])]
