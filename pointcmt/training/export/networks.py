"""Export a trained network into one file, usable without its run: `pointcmt export RUN --to …`.

safetensors  the weights; `load_exported` rebuilds the network from them and the header alone
onnx         the network itself, in standard operators: `onnx.py`

Both hold the same facts, each as JSON under its own key: the network, the classes in the order of
the logits, and the input (docs/export.md lists them). They include no local paths.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.files import parse_json, require_regular
from pointcmt.training.config.pointcmt import CONFIGS
from pointcmt.training.config.tables import check
from pointcmt.training.export.forms import (
    FORMATS,
    FORMS,
    VERSION,
    facts_of,
    find_form,
    form_of,
    inputs_of,
)
from pointcmt.training.export.target import require_target
from pointcmt.training.networks.backbones import LINEAR
from pointcmt.training.runs.checkpoint import disk_errors, read_weights, require_fit, write_file
from pointcmt.training.runs.folder import find_checkpoint, open_run
from pointcmt.training.runs.locate import find_run, suggest_checkpoint


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
        what = "{recipe} {backbone}, {checkpoint} checkpoint (epoch {epoch})"
        count = self.facts["classes"]
        classes = f", {count} classes" if count else ""
        lines = [f"{self.path}: {self.size / 1e6:.1f} MB, {what.format(**self.facts)}{classes}"]
        if self.difference is not None:
            lines.append(
                f"  ONNX Runtime and torch differ by {self.difference:.1e} of the outputs' scale"
            )
        return "\n".join(lines)


def export(
    folder: Path, to: str, out: Path, which: str = "best", overwrite: bool = False
) -> Exported:
    """Write a run's network into the file `out`, atomically.

    to: safetensors or onnx; `forms` says which recipes have which. which: checkpoint, as in
    `evaluate`: best on validation, last, or the number of an epoch that was kept. overwrite:
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
    form = form_of(run, to)
    facts = facts_of(run, form, which)
    model = form.build(facts).eval()
    with suggest_checkpoint(folder, name):
        scalars, weights = read_weights(folder / name)
        own = {key: tensor for key, tensor in weights.items() if key.startswith(form.prefix)}
        fix = "use the configuration and the classes it was trained with"
        require_fit(own, model.state_dict(), str(folder / name), fix)
    model.load_state_dict(own)
    facts["epoch"] = scalars["epoch"]
    if to == "onnx":
        from pointcmt.training.export.onnx import Ends, to_onnx  # needs extra libraries

        ends = Ends(form.outputs, facts["classes"] if form.category else 0, inputs_of(facts))
        data, difference = to_onnx(model, facts["points"], as_strings(facts), str(folder), ends)
    else:
        tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        data, difference = save(tensors, as_strings(facts)), None
    target = require_target(out, to, overwrite)
    with disk_errors(out):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, data)
    return Exported(out, len(data), facts, difference)


def load_exported(path: Path | str) -> tuple[nn.Module, dict[str, Any]]:
    """Load an exported .safetensors file: the network, in eval mode on the CPU, and its facts.

    The input is what facts["input"] describes. A student returns a `backbones.blocks.Prediction`, a
    teacher (logits, feature), a segmenter logits [B, N, P] for points and category, and a
    pre-trained encoder the features of points [B, N, D]. Raises StoreError for a damaged file or
    one that was not exported.
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
    form = find_form(facts["recipe"])
    if "feature" in form.outputs:  # a classifier
        _require_classes(facts, weights, str(path))
    model = form.build(facts)
    require_fit(weights, model.state_dict(), str(path), "export the run again")
    model.load_state_dict(weights)
    return model.eval(), facts


def as_strings(facts: dict[str, Any]) -> dict[str, str]:
    """Return facts as a header holds them, each value as JSON."""
    return {key: json.dumps(value, allow_nan=False) for key, value in facts.items()}


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
    # An outside recipe is not imported: its network is a backbone, found by name.
    own = plugins.is_reference(recipe) or recipe in plugins.names(plugins.RECIPES)
    if version != VERSION or (recipe not in FORMS and (recipe in CONFIGS or not own)):
        raise StoreError(
            f"the file has version {version} and holds a {recipe}; this pointcmt reads version "
            f"{VERSION}: {', '.join(FORMS)}",
            where=where,
            fix=f"use pointcmt {facts.get('pointcmt')}, which wrote it",
        )
    check(find_form(recipe).facts, facts, "this file", where)
    return facts


def _require_classes(facts: dict[str, Any], weights: dict[str, Tensor], where: str) -> None:
    """Raise StoreError if the header's classes do not match the classifier's, before building."""
    last = "classifier.weight" if facts.get("head", LINEAR) == LINEAR else "classifier.last.weight"
    classifier = weights.get(last)
    if classifier is None or classifier.shape[:1] != (facts["classes"],):
        raise StoreError(
            f"this file's classifier does not have the {facts['classes']} classes given in its "
            "header",
            where=where,
            fix="export the run again",
        )
