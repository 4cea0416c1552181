"""What of a run is exported: its network, the facts that rebuild it, its inputs and outputs.

student, finetune, outside classifiers   a backbone: points → class logits and the feature
partseg                                  points and category → logits of every part for every point
mvnet, crosspoint                        the pre-trained encoder: points → a feature for every point
teacher                                  views → class logits and the feature; as weights alone
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import nn

from pointcmt import __version__, plugins
from pointcmt.errors import UsageError
from pointcmt.input_frame import AS_STORED
from pointcmt.training.config.downstream import SEGMENTERS
from pointcmt.training.config.pointcmt import CONFIGS
from pointcmt.training.config.sections import (
    DENSE_BACKBONES,
    IMAGE_BACKBONES,
    NORMAL_BACKBONES,
    POINT_BACKBONES,
    SPARSE_BACKBONES,
)
from pointcmt.training.config.tables import Count, Table
from pointcmt.training.networks.backbones import LINEAR, build_backbone, build_dense
from pointcmt.training.networks.mvcnn import build_mvcnn
from pointcmt.training.networks.part_network import build_part_network
from pointcmt.training.networks.view_consistency import PointFeatures, without_classes
from pointcmt.training.runs.folder import Run

FORMATS = ("safetensors", "onnx")
VERSION = 1  # format version of the facts
MOST_PARTS = 256  # of a class, the values of a label in a store
POINTS = (
    f"points [B, N, 3] float32, {AS_STORED.describe()}; in farthest-point order if the network "
    "samples points"
)
WITH_NORMALS = "[B, N, 3] float32", "[B, N, 6] float32, positions and unit normals"
VIEWS = "views [B, V, H, W, 3] uint8, sRGB, as in a view store"
CATEGORY = "category [B] int64, the class of each cloud, an index into class_names"
CLASSIFIED = "logits [B, classes]; feature [B, 512]"
SEGMENTED = (
    "logits [B, N, parts] of the parts of all classes, one class after the other, in the order of "
    "`parts`; of a cloud, only those of its own class count"
)
ENCODED = "features [B, N, D]"


class NetworkFacts(Table):
    """The facts required to rebuild a file's network."""

    recipe: str
    backbone: str
    classes: Count
    class_names: list[str]
    head: Literal["linear", "published"] = "linear"
    normals: bool = False

    @model_validator(mode="after")
    def _check_backbone(self) -> "NetworkFacts":
        form = find_form(self.recipe)
        group = plugins.IMAGE_NETWORKS if form is TEACHER else plugins.BACKBONES
        outside = plugins.is_reference(self.backbone) or self.backbone in plugins.names(group)
        if self.backbone not in form.backbones and not outside:
            raise ValueError(f"backbone: a {self.recipe} run has no network of this name")
        if self.normals and self.backbone not in NORMAL_BACKBONES:
            raise ValueError(f"normals: {self.backbone} takes none")
        return self


class TeacherFacts(NetworkFacts):
    """The facts required to rebuild a teacher."""

    pooling: Literal["max", "mean", "attention"]
    image_size: Count
    architecture: dict[str, Any] = Field(default={})


class PartFacts(NetworkFacts):
    """The facts required to rebuild a segmenter: the names of parts by class."""

    parts: dict[str, list[str]]

    @model_validator(mode="after")
    def _check_parts(self) -> "PartFacts":
        if list(self.parts) != self.class_names or len(self.parts) != self.classes:
            raise ValueError("parts: these are not the parts of the classes")
        if not self.parts or not all(0 < len(n) <= MOST_PARTS for n in self.parts.values()):
            raise ValueError("parts: each class needs one or more")
        return self


class EncoderFacts(NetworkFacts):
    """The facts required to rebuild a pre-trained encoder, which has no classes."""

    classes: Literal[0]


@dataclass(frozen=True)
class Form:
    """How the network of some recipes is exported.

    facts: what a file's header must hold. backbones: built-in ones. build: from the facts, with
    random weights. prefix: of the names of the run's tensors that belong to it. about: inputs
    and outputs in words. category: whether each cloud's class is an input, too. outputs: names in
    ONNX. onnx: why there is no ONNX, "" if there is.
    """

    facts: type[NetworkFacts]
    backbones: tuple[str, ...]
    build: Callable[[dict[str, Any]], nn.Module]
    about: dict[str, str]
    category: bool = False
    outputs: tuple[str, ...] = ("logits", "feature")
    prefix: str = ""
    onnx: str = ""


def _build_classifier(facts: dict[str, Any]) -> nn.Module:
    head, inputs = facts.get("head", LINEAR), inputs_of(facts)
    return build_backbone(facts["backbone"], facts["classes"], head, inputs=inputs)


def _build_segmenter(facts: dict[str, Any]) -> nn.Module:
    parts = sum(map(len, facts["parts"].values()))
    return build_part_network(facts["backbone"], facts["classes"], parts, 0, inputs_of(facts))


def _build_encoder(facts: dict[str, Any]) -> nn.Module:
    network = build_dense(facts["backbone"], 1)
    without_classes(network)
    return PointFeatures(network)


def _build_teacher(facts: dict[str, Any]) -> nn.Module:
    settings = (facts["classes"], facts["image_size"], facts["pooling"])
    architecture = facts.get("architecture")
    return build_mvcnn(facts["backbone"], "random", *settings, architecture=architecture)


CLASSIFIER = Form(
    NetworkFacts, POINT_BACKBONES, _build_classifier, {"input": POINTS, "output": CLASSIFIED}
)
SEGMENTER = Form(
    PartFacts,
    SEGMENTERS,
    _build_segmenter,
    {"input": f"{POINTS}; {CATEGORY}", "output": SEGMENTED},
    category=True,
    outputs=("logits",),
)
ENCODER = Form(
    EncoderFacts,
    DENSE_BACKBONES,
    _build_encoder,
    {"input": POINTS, "output": ENCODED},
    outputs=("features",),
    prefix="backbone.",
)
TEACHER = Form(
    TeacherFacts,
    IMAGE_BACKBONES,
    _build_teacher,
    {"input": VIEWS, "output": CLASSIFIED},
    onnx="ONNX files hold networks of points, and a teacher reads images; --to safetensors works",
)
FORMS = {
    "teacher": TEACHER,
    "student": CLASSIFIER,
    "finetune": CLASSIFIER,
    "partseg": SEGMENTER,
    "mvnet": ENCODER,
    "crosspoint": ENCODER,
}
REFUSED = {  # recipes without a form
    "cmpg": "a generator turns a teacher's features into points, and only serves to train students",
    "semseg": "its network takes scenes, packed; pc.load_run opens it",
    "detect": "its network proposes boxes in scenes; pc.load_run opens it",
}


def inputs_of(facts: dict[str, Any]) -> int:
    """Return the number of values of each point besides its position."""
    return 3 * facts.get("normals", False)


def find_form(recipe: str) -> Form:
    """Return how a recipe's network is exported; those from outside are classifiers."""
    return FORMS.get(recipe, CLASSIFIER)


def form_of(run: Run, to: str) -> Form:
    """Return how a run is exported to a format. Raises UsageError if it cannot be, with why."""
    recipe = run.config.recipe
    form = find_form(recipe)
    why = REFUSED.get(recipe, "")
    if run.config.reads == "scenes" and not why:
        why = "it was trained on scenes; `train semseg --init` starts from it"
    if recipe not in FORMS and not why and not _is_own_classifier(run.config):
        why = "of recipes from outside, only those whose model is a backbone that classifies can be"
    if to == "onnx":
        why = why or form.onnx
    if why:
        known = [name for name, each in FORMS.items() if to != "onnx" or not each.onnx]
        raise UsageError(
            f"a run of the recipe '{recipe}' cannot be exported to {to}: {why}",
            where=str(run.folder),
            fix=f"export one of: {', '.join(known)}",
        )
    config: Any = run.config  # every recipe with a form has a model
    if to == "onnx" and config.model.backbone in SPARSE_BACKBONES:
        raise UsageError(
            f"{config.model.backbone} cannot be exported to ONNX, which has no operator for sparse "
            "convolution",
            where=str(run.folder),
            fix="export --to safetensors, or train another model.backbone",
        )
    return form


def facts_of(run: Run, form: Form, which: str) -> dict[str, Any]:
    """Collect the facts of a run's network, except for the epoch."""
    config: Any = run.config
    class_names = [] if form is ENCODER else run.class_names
    facts = {
        "version": VERSION,
        "pointcmt": __version__,
        "recipe": config.recipe,
        "backbone": config.model.backbone,
        "classes": len(class_names),
        "class_names": class_names,
        "checkpoint": which,
        "epoch": 0,
        "dataset": run.facts["data"]["dataset"],
        **form.about,
    }
    if form is SEGMENTER:
        facts["parts"] = {name: list(parts) for name, parts in config.parts.items()}
    if form is not TEACHER:
        frame = getattr(config.data, "frame", AS_STORED)
        facts["input"] = str(facts["input"]).replace(AS_STORED.describe(), frame.describe())
        if getattr(config.model, "head", LINEAR) != LINEAR:
            facts["head"] = config.model.head
        if getattr(config.data, "inputs", 0):
            facts["normals"] = True
            facts["input"] = str(facts["input"]).replace(*WITH_NORMALS)
        return {**facts, "points": config.data.points}
    facts |= {"pooling": config.model.pooling, "image_size": config.data.image_size}
    if config.model.architecture:
        facts["architecture"] = config.model.architecture
    return facts


def _is_own_classifier(config: Any) -> bool:
    """Return whether this is an outside recipe whose model is just a backbone."""
    return (
        config.recipe not in CONFIGS
        and config.classifies
        and config.point_network == ""
        and hasattr(getattr(config, "model", None), "backbone")
        and hasattr(config.data, "points")
    )
