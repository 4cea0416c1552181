"""Writes the tables of docs/published.md from the presets.

Usage: python docs/make_tables.py
"""

from pathlib import Path
from typing import Any

from pointcmt.training.config.files import flatten, load_config
from pointcmt.training.config.presets import SOURCES

PAGE = Path(__file__).parent / "published.md"
HEAD, FOOT = "<!-- presets -->\n", "<!-- end of presets -->"
SECTIONS = ("epochs", "data", "model", "loss", "optimizer", "schedule", "augmentation", "votes")


def main() -> None:
    page = PAGE.read_text()
    first, last = page.index(HEAD) + len(HEAD), page.index(FOOT)
    PAGE.write_text(page[:first] + preset_table() + page[last:])


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


if __name__ == "__main__":
    main()
