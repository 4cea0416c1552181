"""`pointcmt doctor`: test what the package depends on; each failure has a remedy."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pointcmt.commands.options import Json, path_of
from pointcmt.console import show_messages, show_text


def doctor(
    folder: Annotated[
        Path, typer.Option(help="Folder where stores will be written.", **path_of("--folder"))
    ] = Path(),
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Also test more readers, kinds of drawing and operations that are compiled on first use, so "
            "that they are cached.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Test what the package depends on; print a remedy for each failure."""
    from rich.console import Console

    from pointcmt.commands.doctor_checks import checks, result_of

    show_messages()
    findings = []
    for name, check in checks(folder, compile_).items():
        with Console(stderr=True).status(f"testing {name}"):  # only on a terminal
            finding = result_of(name, check)
        findings.append(finding)
        show_text(f"{finding.state:8}{finding.name:8}{finding.detail}")
        if finding.state != "ok" and finding.remedy:
            show_text(f"{'':16}→ {finding.remedy}")
        sys.stdout.flush()
    if as_json:
        print(json.dumps([vars(finding) for finding in findings]))
    raise typer.Exit(1 if any(f.state == "broken" for f in findings) else 0)
