"""The command line. Each command parses, calls one function and prints."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from pointcmt import __version__
from pointcmt.commands.audit import audit
from pointcmt.commands.demo import demo
from pointcmt.commands.doctor import doctor
from pointcmt.commands.evaluate import evaluate
from pointcmt.commands.export import export
from pointcmt.commands.inspect import info, preview
from pointcmt.commands.options import INTERRUPTED
from pointcmt.commands.predict import predict
from pointcmt.commands.render import build_correspondences, render
from pointcmt.commands.report import report
from pointcmt.commands.study import study
from pointcmt.commands.train import TrainCommand, train
from pointcmt.commands.verify import verify
from pointcmt.commands.view import view
from pointcmt.errors import PointcmtError

COMMANDS: dict[str, Callable[..., None]] = {
    "render": render,
    "build-correspondences": build_correspondences,
    "info": info,
    "preview": preview,
    "view": view,
    "audit": audit,
    "verify": verify,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "study": study,
    "export": export,
    "demo": demo,
    "doctor": doctor,
}

app = typer.Typer(
    name="pointcmt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-view images, exact correspondences and cross-modal training for 3D shapes.",
)


def main() -> None:
    """Run the command line; print a PointcmtError as text and exit with its code."""
    try:
        app()
    except PointcmtError as error:
        print(f"pointcmt: {error.for_command_line()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"pointcmt {__version__}")
        raise typer.Exit


for _name, _command in COMMANDS.items():
    app.command(_name, cls=TrainCommand if _command is train else None)(_command)
