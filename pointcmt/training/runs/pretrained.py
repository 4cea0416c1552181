"""The point network of a run, and which parts of it another run starts from.

The names of a network's tensors tell its parts: `decoder`, which only the features of points need;
`head` and `classifier`, which only classes need; and the encoder, everything else. Pre-training
learns no classes and has neither head nor classifier.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointcmt.datasets.store.schema import SCENES
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import MisfitError, UsageError
from pointcmt.training.config.downstream import DownstreamConfig, PartsegConfig
from pointcmt.training.config.mvnet import MvnetConfig
from pointcmt.training.config.pointcmt import TeacherConfig
from pointcmt.training.config.scenes import PointInputs, SemsegConfig
from pointcmt.training.config.sections import (
    SCENE_BACKBONES,
    SPARSE_BACKBONES,
    TrainConfig,
)
from pointcmt.training.images.files import describe_network
from pointcmt.training.images.networks import AUTO
from pointcmt.training.images.weights import find_network
from pointcmt.training.networks.backbones import (
    BACKBONES,
    DENSE,
    build_classifier,
    build_dense,
    is_known,
)
from pointcmt.training.networks.part_seg import PART_NETWORKS
from pointcmt.training.networks.view_consistency import without_classes
from pointcmt.training.runs.checkpoint import load_weights, read_weights, require_fit
from pointcmt.training.runs.folder import BEST, Run, open_run
from pointcmt.training.runs.frames import resolve_frame, resolve_normals
from pointcmt.training.runs.locate import locate_inputs, suggest_checkpoint
from pointcmt.training.runs.part_labels import find_parts, require_parts
from pointcmt.training.runs.published_weights import advising, load_published, read_published

SCENE_NETWORKS = "set model.backbone to one of " + ", ".join(SCENE_BACKBONES)
TWINS = {"pointnet2": "pointnet2-ssg", "pointnet2-ssg": "pointnet2"}  # in DENSE, in BACKBONES
ENCODER, DECODER, HEAD, CLASSIFIER = PARTS = ("encoder", "decoder", "head", "classifier")


@dataclass(frozen=True)
class PointNetwork:
    """A run's point network. epoch: of the checkpoint. weights: by the network's own names."""

    run: Run
    epoch: int
    weights: dict[str, Tensor]

    @property
    def config(self) -> Any:
        """The run's configuration, which has data.points and model.backbone."""
        return self.run.config

    def build_random(self) -> nn.Module:
        """Build the network with random weights, in evaluation mode and without a classifier.

        After seeding torch with the run's seed, the weights are those that the run began with.
        """
        classes = len(self.run.class_names) if self.config.labeled else 1  # like mvnet
        backbone = self.config.model.backbone
        if backbone in PART_NETWORKS:
            raise UsageError(
                f"{backbone} has no features of its own: it is used as a whole",
                where=str(self.run.folder),
                fix="pass a run of another network",
            )
        model: Any = (
            build_dense(backbone, classes)
            if self.config.dense
            else build_classifier(self.config, classes)
        )
        if self.config.classifies:
            model.classifier = nn.Identity()
        else:
            without_classes(model)
        return model.eval()

    def build(self) -> nn.Module:
        """Build the network with these weights, in evaluation mode. Raises StoreError if unfit."""
        model = self.build_random()
        weights = {n: t for n, t in self.weights.items() if part_of(n) != CLASSIFIER}
        fix = "train again into a new --out"
        require_fit(weights, model.state_dict(), str(self.run.folder), fix)
        model.load_state_dict(weights)
        return model


def open_network(folder: Path, which: str = BEST) -> PointNetwork:
    """Read the point network of a run. which: the checkpoint, a folder of the run.

    Raises UsageError for a run without a point network, StoreError like `open_run` and without a
    checkpoint.
    """
    run = open_run(folder)
    prefix = run.config.point_network
    if prefix is None:
        raise UsageError(
            f"a run of the recipe '{run.config.recipe}' has no point network",
            where=str(folder),
            fix="pass a run whose network takes points",
        )
    with suggest_checkpoint(folder, which):
        scalars, weights = read_weights(folder / which)
    network = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
    return PointNetwork(run, scalars["epoch"], network)


def resolve_config(config: TrainConfig, store: StoreReader) -> TrainConfig:
    """Fill in what a configuration takes from the run that it starts from, and from the store.

    That is the network (of a teacher, the one that its weights belong to), the frame of its points,
    whether it takes normals, and the names of parts.
    Folders of whole recipes become those of the stages that they mean.
    With `load = none` the run to start from is dropped. Raises UsageError if there is nothing to
    load or no network is named, StoreError if the store has no parts or different ones.
    """
    config = resolve_normals(resolve_frame(locate_inputs(config), store))
    if isinstance(config, TeacherConfig) and config.model.backbone == AUTO:
        found = describe_network(find_network(AUTO, config.model.weights))
        model = config.model.model_copy(update={"architecture": found})
        return config.model_copy(update={"model": model})
    if not isinstance(config, DownstreamConfig):
        return config
    if not config.init and config.load != "none" and config.needs_init:
        raise UsageError(
            f"load={config.load} needs a run to load weights from",
            where="init",
            fix="pass --init RUN, or use --set load=none for a baseline with random weights",
        )
    changes: dict[str, Any] = {"init": ""} if config.load == "none" else {}
    if not config.model.backbone and not config.init and config.from_scratch:
        changes["model"] = config.model.model_copy(update={"backbone": config.from_scratch})
    elif not config.model.backbone:
        if not config.init or Path(config.init).is_file():
            raise UsageError(
                "model.backbone is required without a run to start from",
                where="model.backbone",
                fix="use --set model.backbone=…, or pass --init RUN",
            )
        source = open_network(Path(config.init))
        both_detect = config.detects and source.config.detects  # with backbones of their own
        backbone = (
            source.config.model.backbone if both_detect else same_network(source, config.dense)
        )
        if isinstance(config, SemsegConfig) and backbone not in SPARSE_BACKBONES:
            raise UsageError(
                f"the network of this run is {backbone}, so model.backbone has to be named",
                where=config.init,
                fix=f"{SCENE_NETWORKS}; data.crop depends on it",
            )
        changes["model"] = config.model.model_copy(update={"backbone": backbone})
    if isinstance(config, PartsegConfig):
        changes["parts"] = find_parts(store)
        require_parts(config.parts or changes["parts"], store)
    return config.model_copy(update=changes)


def same_network(network: PointNetwork, dense: bool) -> str:
    """Return the network's name in DENSE or BACKBONES: the same encoder, with decoder or not."""
    name = network.config.model.backbone
    networks = {**DENSE, **PART_NETWORKS} if dense else BACKBONES
    same = name if is_known(name, networks) else TWINS.get(name, "")
    if not same:
        raise UsageError(
            f"{name} has no per-point features, which segmentation needs",
            where=str(network.run.folder),
            fix="start from a run of one of: " + ", ".join([*DENSE, *TWINS]),
        )
    return same


def start_from(config: TrainConfig, model: nn.Module, class_names: list[str]) -> tuple[str, ...]:
    """Load the weights that a configuration starts from; return notes for the user.

    They are a run's best weights or a published file; downstream recipes take the parts that `load`
    names. Raises StoreError if they belong to another architecture, with the tensors that differ;
    the model is then unchanged.
    """
    init = Path(config.init)
    if isinstance(config, DownstreamConfig):
        network = model.get_submodule((config.point_network or "").rstrip("."))
        if init.is_file():
            with _on_scenes(config):
                found = read_published(init, network)
                with advising(init, found.weights, network, config.dense):
                    note = load_parts(
                        network, found.weights, config.load, False, f"the file {init}"
                    )
            return (*found.notes, note)
        source = open_network(init)
        same = source.run.class_names == class_names
        origin = f"{init} ({source.run.config.recipe}, epoch {source.epoch})"
        with _on_scenes(config):
            note = load_parts(network, source.weights, config.load, same, origin)
        both_segment = isinstance(source.config, PartsegConfig) and isinstance(
            config, PartsegConfig
        )
        if both_segment and config.model.backbone not in PART_NETWORKS:
            note += "; the layers that predict parts start from random weights"
        theirs, ours = (scene_inputs(each) for each in (source.config, config))
        if theirs and ours and theirs.voxel != ours.voxel:
            note += f"; its voxels are of {theirs.voxel:g} m, those of this run of {ours.voxel:g} m"
        return (note,)
    if init.is_file():
        return load_published(init, model)
    load_weights(open_run(init).folder / BEST, model)
    return ()


@contextmanager
def _on_scenes(config: DownstreamConfig) -> Iterator[None]:
    """Let the error of weights that do not fit a network for scenes say which ones would."""
    try:
        yield
    except MisfitError as error:
        if config.reads == SCENES:
            name = config.model.backbone
            # PointNet++ has other layers on scenes; of the others only the inputs differ.
            own = "on scenes" if name == "pointnet2" else "on shapes or scenes"
            error.fix = (
                f"start from a run {own} with {name}, whose data.color and data.normals (in "
                "pre-training scenes.color and scenes.normals) are the same (of shapes: false), "
                "or set load=none"
            )
        raise


def scene_inputs(config: TrainConfig) -> PointInputs | None:
    """Return what a run takes of the points of scenes; None of a run on shapes."""
    if isinstance(config, SemsegConfig):
        return config.data
    return config.scenes if isinstance(config, MvnetConfig) else None


def freeze_encoder(network: nn.Module) -> None:
    """Freeze the encoder, so that only the layers after it are trained."""
    for name, parameter in network.named_parameters():
        if part_of(name) == ENCODER:
            parameter.requires_grad_(False)


def hold_encoder(network: nn.Module) -> None:
    """Put a frozen encoder into evaluation mode, so that its running statistics stay the same."""
    for name, module in network.named_children():
        if part_of(name) == ENCODER:
            module.eval()


def part_of(name: str) -> str:
    """Return the part of a network that a tensor or a module belongs to."""
    first = name.partition(".")[0]
    return first if first in PARTS else ENCODER


def load_parts(
    network: nn.Module,
    weights: dict[str, Tensor],
    load: str,
    same_classes: bool,
    origin: str,
) -> str:
    """Load the encoder, or everything that fits; return a note on what was loaded.

    The encoder must fit. A tensor of another part is loaded if its name and shape fit, and one of
    the classifier only if the classes are the same. The note says if `all` loads only the encoder.
    """
    expected = network.state_dict()
    encoder = {name: tensor for name, tensor in weights.items() if part_of(name) == ENCODER}
    require_fit(
        encoder,
        {name: tensor for name, tensor in expected.items() if part_of(name) == ENCODER},
        origin,
        "leave out model.backbone, so that the same network is used",
    )
    taken = (
        encoder
        if load == ENCODER
        else {
            name: tensor
            for name, tensor in weights.items()
            if name in expected
            and tensor.shape == expected[name].shape
            and (part_of(name) != CLASSIFIER or same_classes)
        }
    )
    network.load_state_dict({**expected, **taken})
    note = f"load={load} from {origin}: " + ", ".join(_counts(taken, expected, weights))
    same = load == "all" and taken.keys() == encoder.keys()
    return note + "; the same as load=encoder" if same else note


def _counts(
    taken: dict[str, Tensor], expected: dict[str, Tensor], weights: dict[str, Tensor]
) -> Iterator[str]:
    """For each part: how many of the network's tensors were loaded, and how many were unused."""
    loaded, needed, stored = (Counter(map(part_of, names)) for names in (taken, expected, weights))
    for part in PARTS:
        unused = stored[part] - loaded[part]
        if needed[part] or unused:
            more = f" ({unused} more are unused)" if unused else ""
            yield f"{part} {loaded[part]} of {needed[part]} tensors{more}"
