"""Installing the outside package for a test, as pip would: its modules and its metadata."""

import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def install(folder: Path) -> Path:
    """Put the package into a folder that is to be on the path of modules; returns the folder."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    shutil.copytree(HERE / "outside_parts", folder / "outside_parts")
    info = folder / f"outside_parts-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
