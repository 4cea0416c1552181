"""Export a trained network into one file, usable without its run: `pointcmt export RUN --to …`.

safetensors  the weights; `load_exported` rebuilds the network from them and the header alone
onnx         the network itself, in standard operators: `onnx.py`

Both hold the same facts, each as JSON under its own key: the network, the classes in the order of
the logits, and the input (docs/export.md lists them). They include no local paths.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pointcmt import __version__, plugins
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.files import parse_json, require_regular
from pointcmt.training.config.pointcmt import CONFIGS
from pointcmt.training.config.sections import IMAGE_BACKBONES, POINT_BACKBONES
from pointcmt.training.config.tables import Count, Table, check
from pointcmt.training.export.target import require_target
from pointcmt.training.networks.backbones import build_backbone
from pointcmt.training.networks.mvcnn import build_mvcnn
from pointcmt.training.runs.checkpoint import disk_errors, load_weights, require_fit, write_file
from pointcmt.training.runs.folder import Run, find_checkpoint, open_run
from pointcmt.training.runs.locate import find_run, suggest_checkpoint

FORMATS = ("safetensors", "onnx")
TEACHER = "teacher"
POINT_RECIPES = ("student", "finetune")  # recipes whose network takes points
VERSION = 1  # format version of the facts
POINTS = (
    "points [B, N, 3] float32, +Z up, centered by their bounding box and scaled into the unit "
    "sphere; in farthest-point order if the network samples points"
)
VIEWS = "views [B, V, H, W, 3] uint8, sRGB, as in a view store"


class NetworkFacts(Table):
    """The facts required to rebuild a file's network."""

    recipe: str
    backbone: str
    classes: Count
    class_names: list[str]

    @model_validator(mode="after")
    def _check_backbone(self) -> "NetworkFacts":
        teacher = self.recipe == TEACHER
        known = IMAGE_BACKBONES if teacher else POINT_BACKBONES
        group = plugins.IMAGE_NETWORKS if teacher else plugins.BACKBONES
        outside = plugins.is_reference(self.backbone) or self.backbone in plugins.names(group)
        if self.backbone not in known and not outside:
            raise ValueError(f"backbone: a {self.recipe} run has no network of this name")
        return self


class TeacherFacts(NetworkFacts):
    """The facts required to rebuild a teacher."""

    pooling: Literal["max", "mean", "attention"]
    image_size: Count
    architecture: dict[str, Any] = Field(default={})


@dataclass(frozen=True)
class Exported:
    """Result of an export. difference: the largest one from torch's outputs, relative to their
    scale; None for safetensors, which holds torch's own weights.
    """

    path: Path
    size: int  # bytes
    facts: dict[str, Any]
    difference: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields that `export --json` prints."""
        measured = {"bytes": self.size, "difference": self.difference}
        return {"path": str(self.path), **measured, "facts": self.facts}

    def describe(self) -> str:
        """Return a readable summary."""
        what = "{recipe} {backbone}, {classes} classes, {checkpoint} checkpoint (epoch {epoch})"
        lines = [f"{self.path}: {self.size / 1e6:.1f} MB, {what.format(**self.facts)}"]
        if self.difference is not None:
            lines.append(
                f"  ONNX Runtime and torch differ by {self.difference:.1e} of the outputs' scale"
            )
        return "\n".join(lines)


def export(
    folder: Path, to: str, out: Path, which: str = "best", overwrite: bool = False
) -> Exported:
    """Write a run's network into the file `out`, atomically.

    to: safetensors (teachers, point classifiers) or onnx (point classifiers). which: checkpoint, as
    in `evaluate`: best on validation, last, or the number of an epoch that was kept. overwrite:
    replace a file that was not exported before, too.

    Raises UsageError for an unknown format or checkpoint, for a recipe that has no such form, and
    for an `out` that may not be written (see `export_target`), StoreError for a run without a
    checkpoint, for a file that cannot be written, and where ONNX Runtime computes something else
    than torch.
    """
    if to not in FORMATS:
        raise UsageError(f"unknown format '{to}'", where="--to", fix=nearest(to, FORMATS))
    require_target(out, to, overwrite)  # check before minutes of work
    folder = find_run(folder)
    run = open_run(folder)
    name = find_checkpoint(folder, which)
    recipe = run.config.recipe
    known = POINT_RECIPES if to == "onnx" else (TEACHER, *POINT_RECIPES)
    if recipe not in known and not _is_own_classifier(run.config):
        raise UsageError(
            f"a run of the recipe '{recipe}' cannot be exported to {to}",
            where=str(folder),
            fix=f"export one of: {', '.join(known)}",
        )
    facts = _facts(run, which)
    model = _build(facts).eval()
    with suggest_checkpoint(folder, name):
        facts["epoch"] = load_weights(folder / name, model)["epoch"]
    if to == "onnx":
        from pointcmt.training.export.onnx import to_onnx  # needs extra libraries

        data, difference = to_onnx(model, facts["points"], as_strings(facts), str(folder))
    else:
        weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        data, difference = save(weights, as_strings(facts)), None
    target = require_target(out, to, overwrite)
    with disk_errors(out):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, data)
    return Exported(out, len(data), facts, difference)


def load_exported(path: Path | str) -> tuple[nn.Module, dict[str, Any]]:
    """Load an exported .safetensors file: the network, in eval mode on the CPU, and its facts.

    The input is what facts["input"] describes. A student returns a `backbones.blocks.Prediction`, a
    teacher (logits, feature). Raises StoreError for a damaged file or one that was not exported.
    """
    try:
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"this file cannot be read as safetensors: {error}", where=str(path)
        ) from None
    facts = _read_facts(header, str(path))
    _require_classes(facts, weights, str(path))
    model = _build(facts)
    require_fit(weights, model.state_dict(), str(path), "export the run again")
    model.load_state_dict(weights)
    return model.eval(), facts


def as_strings(facts: dict[str, Any]) -> dict[str, str]:
    """Return facts as a header holds them, each value as JSON."""
    return {key: json.dumps(value, allow_nan=False) for key, value in facts.items()}


def _facts(run: Run, which: str) -> dict[str, Any]:
    """Collect the facts of a run's network, except for the epoch."""
    config: Any = run.config
    teacher = config.recipe == TEACHER
    about = {
        "version": VERSION,
        "pointcmt": __version__,
        "recipe": config.recipe,
        "backbone": config.model.backbone,
        "classes": len(run.class_names),
        "class_names": run.class_names,
        "checkpoint": which,
        "epoch": 0,
        "dataset": run.facts["data"]["dataset"],
        "input": VIEWS if teacher else POINTS,
        "output": "logits [B, classes]; feature [B, 512]",
    }
    if not teacher:
        return {**about, "points": config.data.points}
    about |= {"pooling": config.model.pooling, "image_size": config.data.image_size}
    if config.model.architecture:
        about["architecture"] = config.model.architecture
    return about


def _is_own_classifier(config: Any) -> bool:
    """Return whether this is an outside recipe whose model is just a backbone."""
    return (
        config.recipe not in CONFIGS
        and config.classifies
        and config.point_network == ""
        and hasattr(getattr(config, "model", None), "backbone")
        and hasattr(config.data, "points")
    )


def _read_facts(header: dict[str, str], where: str) -> dict[str, Any]:
    try:
        facts = {key: parse_json(value) for key, value in header.items()}
        version, recipe = facts["version"], str(facts["recipe"])
    except (ValueError, KeyError):
        raise StoreError(
            "this file was not written by `pointcmt export`",
            where=where,
            fix="export a run with --to safetensors; `pointcmt train --init` reads other weights",
        ) from None
    known = (TEACHER, *POINT_RECIPES)
    # An outside recipe is not imported: its network is a backbone, found by name.
    own = plugins.is_reference(recipe) or recipe in plugins.names(plugins.RECIPES)
    if version != VERSION or (recipe not in known and (recipe in CONFIGS or not own)):
        raise StoreError(
            f"the file has version {version} and holds a {recipe}; this pointcmt reads version "
            f"{VERSION}: {', '.join(known)}",
            where=where,
            fix=f"use pointcmt {facts.get('pointcmt')}, which wrote it",
        )
    check(TeacherFacts if recipe == TEACHER else NetworkFacts, facts, "this file", where)
    return facts


def _require_classes(facts: dict[str, Any], weights: dict[str, Tensor], where: str) -> None:
    """Raise StoreError if the header's classes do not match the classifier's, before building."""
    classifier = weights.get("classifier.weight")
    if classifier is None or classifier.shape[:1] != (facts["classes"],):
        raise StoreError(
            f"this file's classifier does not have the {facts['classes']} classes given in its "
            "header",
            where=where,
            fix="export the run again",
        )


def _build(facts: dict[str, Any]) -> nn.Module:
    """Build the network that facts describe, without loading weights."""
    if facts["recipe"] != TEACHER:
        return build_backbone(facts["backbone"], facts["classes"])
    settings = (facts["classes"], facts["image_size"], facts["pooling"])
    architecture = facts.get("architecture")
    return build_mvcnn(facts["backbone"], "random", *settings, architecture=architecture)
