"""Writes the tables of docs/published.md: what presets set, and the sizes of backbones.

Usage: python docs/make_tables.py
"""

from pathlib import Path
from typing import Any

import torch

from pointcmt.training.config.files import flatten, load_config
from pointcmt.training.config.presets import SOURCES
from pointcmt.training.networks.backbones import PUBLISHED, build_backbone

PAGE = Path(__file__).parent / "published.md"
CLASSES = 40
PAPERS = {  # millions of parameters as published, and where
    "pointnet": "3.5 (its paper, table 6)",
    "pointnet2-ssg": "–",
    "pointnet2-msg": "–",
    "dgcnn": "–",
    "pointmlp": "12.6 (its paper, table 1)",
    "pointnext-s": "1.374 (its `cfgs/modelnet40ply2048`)",
    "pointvit-s": "–",
}
FILES = {
    "pointnet": "learning3d's, without alignments",
    "pointnet2-ssg": "yanx27's, PointCMT's",
    "pointnet2-msg": "yanx27's, PointCMT's",
    "dgcnn": "its authors', antao97's",
    "pointvit-s": "Point-MAE's, the encoder",
}
SECTIONS = ("epochs", "data", "model", "loss", "optimizer", "schedule", "augmentation", "votes")


def main() -> None:
    page = PAGE.read_text()
    for name, make in TABLES.items():
        before, _, after = split(page, name)
        page = before + make() + after
    PAGE.write_text(page)


def split(page: str, name: str) -> tuple[str, str, str]:
    """Return what comes before a table, the table, and what follows."""
    head, foot = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    first, last = page.index(head) + len(head), page.index(foot)
    return page[:first], page[first:last], page[last:]


def preset_table() -> str:
    """Return the options that differ between the published classifiers, a column for each preset.

    Options that all of them have at the default of `student` are left out.
    """
    names = [name for name in SOURCES if name != "pointcmt"]
    tables = [settings_of(name) for name in names]
    default = settings_of("official")
    shown = [key for key in default if any(table[key] != default[key] for table in tables)]
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for key in shown:
        lines.append(f"| `{key}` | {' | '.join(written(table[key]) for table in tables)} |")
    return "\n".join(lines) + "\n"


def backbone_table() -> str:
    """Return the parameters of each backbone with its published head, its presets and files."""
    lines = ["| backbone | millions of parameters | published | presets | files that can be read |"]
    lines.append("|---|---|---|---|---|")
    for name, published in PAPERS.items():
        with torch.device("meta"):  # takes no memory
            model = build_backbone(name, CLASSES, PUBLISHED)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        presets = [f"`{p}`" for p in SOURCES if backbone_of(p) == name]
        cells = f"{millions:.3f}", published, ", ".join(presets) or "–", FILES.get(name, "–")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def backbone_of(preset: str) -> str:
    """Return the backbone that a preset names."""
    return str(settings_of(preset)["model.backbone"])


def settings_of(preset: str) -> dict[str, Any]:
    """Return the options of a student with a preset, by dotted key; "" = it has no effect."""
    config = load_config("student", None, [f"preset={preset}"]).model_dump()
    table = flatten({name: config[name] for name in SECTIONS})
    if table["optimizer.name"] != "sgd":
        table["optimizer.nesterov"] = ""
    if table["model.backbone"] != "pointnet":
        table["model.orthogonality"] = ""
    if table["model.head"] == "linear":
        table["model.dropout"] = ""
    if table["schedule.name"] != "steps":
        table |= {"schedule.interval": "", "schedule.factor": ""}
    return table


def written(value: Any) -> str:
    """Return a value as in the authors' files: few digits, ranges with a dash."""
    if isinstance(value, tuple):
        return "–".join(written(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "–"


TABLES = {"presets": preset_table, "backbones": backbone_table}

if __name__ == "__main__":
    main()
