"""Evaluate a file of weights that others have published, without training a step.

The network is built with the head that the file has, all of the file is loaded, and the points are
taken in the frame of the benchmark that the store holds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import MisfitError, StoreError, UsageError, nearest
from pointcmt.input_frame import AS_STORED, InputFrame, parse_frame
from pointcmt.training.config.downstream import PartData, PartsegConfig, Segmenter
from pointcmt.training.config.pointcmt import Student as Network
from pointcmt.training.config.pointcmt import StudentConfig
from pointcmt.training.config.sections import NORMAL_BACKBONES, StudentData
from pointcmt.training.evaluation.classifier import Classifier, require_votes
from pointcmt.training.networks.backbones import BACKBONES, is_known
from pointcmt.training.networks.part_seg import PART_NETWORKS
from pointcmt.training.ops.device import find_device
from pointcmt.training.recipes import build_recipe
from pointcmt.training.recipes.recipe import ClassifyingRecipe
from pointcmt.training.runs.facts import describe_store
from pointcmt.training.runs.folder import Run
from pointcmt.training.runs.frames import stated_frame
from pointcmt.training.runs.part_labels import find_parts
from pointcmt.training.runs.published.converted import Converted
from pointcmt.training.runs.published_weights import (
    LAST_LAYERS,
    NORMAL,
    find_backbone_of,
    load_published,
    peek,
    rows,
)
from pointcmt.training.runs.store_kinds import require_kind

POINTS, PART_POINTS = 1024, 2048  # of most published networks
SAME_BENCHMARK = "evaluate it on a store of the benchmark that it was trained on"
BENCHMARK = InputFrame("y", "centroid")  # of published networks, if the store states none


@dataclass(frozen=True)
class FileOptions:
    """How to read a file of weights.

    backbone: the network; "" finds it by the tensors' names and shapes. points: per shape, the
    first n of the store; 0 = 1,024, or 2,048 for parts. frame: in which the network takes them;
    None = that which the store states for its benchmark, or else +Y up, centered by the mean of the
    points, scaled by the farthest.
    """

    backbone: str = ""
    points: int = 0
    frame: InputFrame | None = None


FROM_FILE = FileOptions()


def file_options(backbone: str = "", points: int | None = None, frame: str = "") -> FileOptions:
    """Return the options that a user gives as text; empty = the defaults. Raises UsageError."""
    chosen = parse_frame(frame) if frame else None
    return FileOptions(backbone, points or 0, chosen)


def open_file(
    path: Path, store: StoreReader, options: FileOptions, votes: int, device: str
) -> tuple[Classifier, tuple[str, ...]]:
    """Open a file of published weights as a network of the store's classes; notes for the user.

    It classifies, or predicts parts. The file's classes and parts are taken to be the store's, in
    the order of its labels. Raises StoreError for a file that cannot be read or does not fit,
    UsageError for an unknown network.
    """
    require_votes(votes)
    require_kind(store, StudentConfig())
    found, backbone = peek(path), find_network(path, options)
    if found.inputs not in (0, NORMAL):
        raise StoreError(
            f"the network of this file takes {found.inputs} values of each point besides its "
            "position, which is not a normal",
            where=str(path),
            fix="use a file of a network that takes positions, or positions and normals",
        )
    if found.inputs and backbone not in NORMAL_BACKBONES:
        raise UsageError(
            f"{backbone} takes no normals, and the network of this file does",
            where="--backbone",
            fix=_other_backbone(path, backbone),
        )
    segments = backbone in PART_NETWORKS
    points = options.points or (PART_POINTS if segments else POINTS)
    if points > store.schema.points:
        raise UsageError(
            f"{points} points per shape, but the store has {store.schema.points}",
            where="--points",
            fix=f"use --points {store.schema.points} or fewer, or render with more --points",
        )
    frame = options.frame or stated_frame(store) or BENCHMARK
    reads: dict[str, Any] = {"points": points, "normals": bool(found.inputs), **frame.as_json()}
    config = (_segmenter if segments else _classifier)(backbone, found, reads, store, path)
    recipe = cast(ClassifyingRecipe, build_recipe(config, len(store.class_names), False))
    network = recipe.model.get_submodule("backbone") if segments else recipe.model
    try:
        notes = load_published(path, network)
    except MisfitError as error:
        if find_backbone_of(path) not in ("", backbone):
            error.fix = _other_backbone(path, backbone)
        raise
    recipe.model.to(find_device(device))
    if frame != AS_STORED:
        notes = (*notes, f"the network takes the points {frame.describe()}")
    if found.inputs:
        notes = (*notes, "the network takes the normals of the points, too")
    facts: dict[str, Any] = {"class_names": store.class_names, "data": describe_store(store)}
    opened = Classifier(Run(path, config, facts), recipe, f"the file {path.name}", 0, votes)
    return opened, notes


def find_network(path: Path, options: FileOptions) -> str:
    """Return the name of the network of a file: the given one, or that which its tensors fit.

    Raises UsageError if it is unknown.
    """
    known = {**BACKBONES, **PART_NETWORKS}
    name = options.backbone or find_backbone_of(path)
    if not name:
        raise UsageError(
            "the network of this file is not known",
            where=str(path),
            fix=f"pass --backbone, one of: {', '.join(known)}",
        )
    if not is_known(name, known):
        fix = nearest(name, known)
        raise UsageError(f"unknown backbone '{name}'", where="--backbone", fix=fix)
    return name


def _other_backbone(path: Path, backbone: str) -> str:
    """Return what to choose for a file that does not fit the network that was chosen."""
    fitting = find_backbone_of(path)
    if fitting not in ("", backbone):
        return f"use --backbone {fitting}, or leave out --backbone"
    return f"use another --backbone, one of: {', '.join(NORMAL_BACKBONES)}"


def _classifier(
    backbone: str, found: Converted, reads: dict[str, Any], store: StoreReader, path: Path
) -> StudentConfig:
    """Return the configuration of a classifier. reads: what it reads of the store."""
    classes = next((rows(found.weights[key]) for key in LAST_LAYERS if key in found.weights), None)
    if classes not in (None, len(store.class_names)):
        raise StoreError(
            f"this file has {classes} classes, and the store {len(store.class_names)}",
            where=f"{path}, {store.path}",
            fix=SAME_BENCHMARK,
        )
    model = Network(backbone=backbone, head=found.head)  # type: ignore[arg-type]
    return StudentConfig(model=model, data=StudentData(**reads))


def _segmenter(
    backbone: str, found: Converted, reads: dict[str, Any], store: StoreReader, path: Path
) -> PartsegConfig:
    """Return the configuration of a network for part segmentation, like `_classifier`."""
    parts, last = find_parts(store), found.weights.get("classifier.weight")
    total = sum(map(len, parts.values()))
    if last is not None and rows(last) != total:
        raise StoreError(
            f"this file has {rows(last)} parts, and the store {total}",
            where=f"{path}, {store.path}",
            fix=SAME_BENCHMARK,
        )
    model = Segmenter(backbone=backbone)
    return PartsegConfig(load="none", parts=parts, model=model, data=PartData(**reads))
