"""Writes the tables of docs/published.md: what presets set, and how networks compare.

Usage: python docs/make_tables.py

Weights of plain networks, random ones with statistics as after training, are saved by their
published names and loaded into ours. A difference is the largest one of any output, for two clouds
of 1,024 points, relative to the largest output, in float64. The plain networks are the tests'.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pointcmt.training.config.files import flatten, load_config
from pointcmt.training.config.presets import SOURCES
from pointcmt.training.networks.backbones import PUBLISHED, build_backbone
from pointcmt.training.networks.part_seg import PART_NETWORKS
from pointcmt.training.runs.published_weights import load_published
from tests.training import textbooks
from tests.training.runs import published_files as plain
from tests.training.runs.yanx27_files import Yanx27Parts, Yanx27PointNet, Yanx27PointNetParts

PAGE = Path(__file__).parent / "published.md"
CLASSES, CATEGORIES, PARTS = 40, 16, 50
PAPERS = {  # millions of parameters as published, and where
    "pointnet": "3.5 (its paper, table 6)",
    "pointnet-yanx27": "–",
    "pointnet2-ssg": "–",
    "pointnet2-msg": "–",
    "dgcnn": "–",
    "pointmlp": "12.6 (its paper, table 1), without the head",
    "pointnext-s": "1.374 (its `cfgs/modelnet40ply2048`)",
    "pointnext-s-c64": "4.5 (its paper)",
    "pointvit-s": "–",
    "point-bert": "–",
    **dict.fromkeys(PART_NETWORKS, "–"),
}
FILES = {
    "pointnet": "learning3d's, without alignments",
    "pointnet-yanx27": "yanx27's, with normals or without",
    "pointnet2-ssg": "yanx27's, with normals or without; PointCMT's",
    "pointnet2-msg": "yanx27's, with normals or without; PointCMT's",
    "dgcnn": "its authors', antao97's",
    "pointmlp": "its authors'",
    "pointnext-s": "openpoints'",
    "pointnext-s-c64": "openpoints'",
    "pointvit-s": "Point-MAE's",
    "point-bert": "Point-BERT's",
    **dict.fromkeys(PART_NETWORKS, "yanx27's, with normals or without"),
}
NETWORKS: dict[str, Callable[[], Any]] = {  # plain ones, with the values of each point
    "pointnet": plain.Learning3D,
    "pointnet-yanx27": lambda: Yanx27PointNet(6),
    "pointnet2-ssg": lambda: plain.Yanx27(False, 6),
    "pointnet2-msg": lambda: plain.Yanx27(True, 6),
    "dgcnn": plain.PublishedDGCNN,
    "pointmlp": plain.PublishedPointMLP,
    "pointnext-s": plain.PublishedPointNeXt,
    "pointnext-s-c64": lambda: plain.PublishedPointNeXt(64),
    "pointvit-s": lambda: plain.PointMAE(classes=CLASSES),
    "point-bert": lambda: plain.PointMAE(between=256, classes=CLASSES),
    "pointnet-part-seg": lambda: Yanx27PointNetParts(PARTS, 6),
    "pointnet2-part-seg-ssg": lambda: Yanx27Parts(False, PARTS, 6),
    "pointnet2-part-seg-msg": lambda: Yanx27Parts(True, PARTS, 6),
}
WITH_NORMALS = ("pointnet-yanx27", "pointnet2-ssg", "pointnet2-msg", *PART_NETWORKS)
SECTIONS = ("epochs", "data", "model", "loss", "optimizer", "schedule", "augmentation", "votes")


def main() -> None:
    differences = {name: f"{difference(name):.0e}" for name in NETWORKS}
    page = PAGE.read_text()
    for name, table in (("presets", preset_table()), ("backbones", backbone_table(differences))):
        before, _, after = split(page, name)
        page = before + table + after
    PAGE.write_text(page)


@torch.no_grad()
def difference(name: str) -> float:
    """Return the largest difference of our network's outputs from the plain network's."""
    torch.manual_seed(0)
    theirs, inputs = NETWORKS[name]().double().eval(), 3 * (name in WITH_NORMALS)
    textbooks.disturb(theirs)
    rows = torch.randn(2, 1024, 6, dtype=torch.float64) * 0.4
    rows[..., 3:] = torch.nn.functional.normalize(rows[..., 3:], dim=2)
    rows = rows[..., : 3 + inputs]
    ours = network(name, inputs).double().eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.pth"
        named = theirs.published() if hasattr(theirs, "published") else theirs.state_dict()
        torch.save({"model_state_dict": named}, path)
        load_published(path, ours)
    if name in PART_NETWORKS:
        labels = torch.tensor([0, CATEGORIES - 1])
        found, expected = ours(rows, labels), theirs(rows, labels)
    else:
        found, expected = ours(rows).logits, theirs.logits(rows)
    return float((found - expected).abs().max() / expected.abs().max())


def network(name: str, inputs: int = 0) -> torch.nn.Module:
    """Build one of ours, with its published head. inputs: 3 with normals."""
    if name in PART_NETWORKS:
        return PART_NETWORKS[name](CATEGORIES, PARTS, inputs=inputs)
    return build_backbone(name, CLASSES, PUBLISHED, inputs=inputs)


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


def backbone_table(differences: dict[str, str] | None = None) -> str:
    """Return a row for each network: its parameters, its difference, its presets and files.

    differences: None = those that the page has.
    """
    differences = differences or written_differences()
    lines = [
        "| network | millions of parameters | published | largest difference | presets | files |",
        "|---|---|---|---|---|---|",
    ]
    for name, published in PAPERS.items():
        with torch.device("meta"):  # takes no memory
            model = network(name)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        presets = [f"`{p}`" for p in SOURCES if backbone_of(p) == name]
        known = f"{millions:.3f}", published, differences[name]
        cells = *known, ", ".join(presets) or "–", FILES.get(name, "–")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def written_differences() -> dict[str, str]:
    """Return the differences that the page has, by network."""
    rows = [line.split(" | ") for line in split(PAGE.read_text(), "backbones")[1].splitlines()[2:]]
    return {row[0].strip("| `"): row[3] for row in rows}


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
