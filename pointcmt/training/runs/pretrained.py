"""The point network inside a run, and what of it another run starts from.

A network has parts, by the names of its tensors: `decoder`, what only the points' features need;
`head` and `classifier`, what only classes need; and the encoder, all the rest. Where no classes are
learned, in pre-training, there is neither.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.training.config.downstream import DownstreamConfig, PartsegConfig
from pointcmt.training.config.pointcmt import TeacherConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.images.files import describe_network
from pointcmt.training.images.networks import AUTO
from pointcmt.training.images.weights import find_network
from pointcmt.training.networks.backbones import (
    BACKBONES,
    DENSE,
    build_backbone,
    build_dense,
    is_known,
)
from pointcmt.training.networks.mvnet import without_classes
from pointcmt.training.runs.checkpoint import load_weights, read_weights, require_fit
from pointcmt.training.runs.part_labels import find_parts, require_parts
from pointcmt.training.runs.published import load_published, read_published
from pointcmt.training.runs.run import BEST, Run, open_run

TWINS = {"pointnet2": "pointnet2-ssg", "pointnet2-ssg": "pointnet2"}  # in DENSE, in BACKBONES
ENCODER, DECODER, HEAD, CLASSIFIER = PARTS = ("encoder", "decoder", "head", "classifier")


@dataclass(frozen=True)
class PointNetwork:
    """epoch: of the checkpoint that the weights are from; they have the network's own names."""

    run: Run
    epoch: int
    weights: dict[str, Tensor]

    @property
    def config(self) -> Any:
        """The run's configuration, which has data.points and model.backbone."""
        return self.run.config

    def build_random(self) -> nn.Module:
        """The network as torch's seed makes it, in evaluation mode and without a classifier.

        With the run's own seed: as the run made it.
        """
        build = build_dense if self.config.dense else build_backbone
        classes = len(self.run.class_names) if self.config.labelled else 1  # as mvnet builds it
        model: Any = build(self.config.model.backbone, classes)
        if self.config.classifies:
            model.classifier = nn.Identity()
        else:
            without_classes(model)
        return model.eval()

    def build(self) -> nn.Module:
        """The network with these weights, in evaluation mode. Raises StoreError if they differ."""
        model = self.build_random()
        weights = {n: t for n, t in self.weights.items() if part_of(n) != CLASSIFIER}
        fix = "train again into a new --out"
        require_fit(weights, model.state_dict(), str(self.run.folder), fix)
        model.load_state_dict(weights)
        return model


def open_network(folder: Path, which: str = BEST) -> PointNetwork:
    """The point network of a run's checkpoint (a folder of the run).

    Raises UsageError for a run without a point network, StoreError as `open_run`, and where there
    is no checkpoint.
    """
    run = open_run(folder)
    prefix = run.config.point_network
    if prefix is None:
        raise UsageError(
            f"a run of the recipe '{run.config.recipe}' has no point network",
            where=str(folder),
            fix="give a run whose network takes points",
        )
    scalars, weights = read_weights(folder / which)
    own = {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}
    return PointNetwork(run, scalars["epoch"], own)


def settle(config: TrainConfig, store: ViewStore) -> TrainConfig:
    """The configuration with what it leaves to the run that it starts from, and to the store.

    That is the network (a teacher's, if its weights are to say it), and the names of parts. One
    that loads nothing is left without a run to start from. Raises UsageError where there is nothing
    to load, or no network to be found, StoreError where the store has no parts, or other ones.
    """
    if isinstance(config, TeacherConfig) and config.model.backbone == AUTO:
        found = describe_network(find_network(AUTO, config.model.weights))
        model = config.model.model_copy(update={"architecture": found})
        return config.model_copy(update={"model": model})
    if not isinstance(config, DownstreamConfig):
        return config
    if not config.init and config.load != "none":
        raise UsageError(
            f"load={config.load} needs a run to load from, and none is given",
            where="init",
            fix="give --init RUN, or --set load=none for the baseline of random weights",
        )
    changes: dict[str, Any] = {"init": ""} if config.load == "none" else {}
    if not config.model.backbone:
        if not config.init or Path(config.init).is_file():
            raise UsageError(
                "no network is named, and there is no run to take it from",
                where="model.backbone",
                fix="name it with --set model.backbone=…, or give --init RUN",
            )
        backbone = same_network(open_network(Path(config.init)), config.dense)
        changes["model"] = config.model.model_copy(update={"backbone": backbone})
    if isinstance(config, PartsegConfig):
        changes["parts"] = find_parts(store)
        require_parts(config.parts or changes["parts"], store)
    return config.model_copy(update=changes)


def same_network(network: PointNetwork, dense: bool) -> str:
    """The network's name in DENSE, or in BACKBONES: the same encoder with a decoder or without."""
    name = network.config.model.backbone
    networks = DENSE if dense else BACKBONES
    found = name if is_known(name, networks) else TWINS.get(name, "")
    if not found:
        raise UsageError(
            f"{name} has no feature of each point, which part segmentation needs",
            where=str(network.run.folder),
            fix="start from a run of one of: " + ", ".join([*DENSE, *TWINS]),
        )
    return found


def start_from(config: TrainConfig, model: nn.Module, class_names: list[str]) -> tuple[str, ...]:
    """Load what the configuration starts from; returns notes for the user.

    All of a run's best weights, or of a file that others have published; downstream what `load`
    says of them. Raises StoreError where they belong to another architecture, with the tensors
    that differ; the model is then unchanged.
    """
    init = Path(config.init)
    if isinstance(config, DownstreamConfig):
        network = model.get_submodule((config.point_network or "").rstrip("."))
        if init.is_file():
            weights, _ = read_published(init, network)
            return (load_parts(network, weights, config.load, False, f"the file {init}"),)
        found = open_network(init)
        same = found.run.class_names == class_names
        origin = f"{init} ({found.run.config.recipe}, epoch {found.epoch})"
        note = load_parts(network, found.weights, config.load, same, origin)
        if isinstance(found.config, PartsegConfig) and isinstance(config, PartsegConfig):
            note += "; the layers that make parts of features begin anew"
        return (note,)
    if init.is_file():
        return load_published(init, model)
    load_weights(open_run(init).folder / BEST, model)
    return ()


def freeze_encoder(network: nn.Module) -> None:
    """Leave only what is behind the encoder to be trained."""
    for name, parameter in network.named_parameters():
        if part_of(name) == ENCODER:
            parameter.requires_grad_(False)


def hold_encoder(network: nn.Module) -> None:
    """Put a frozen encoder into evaluation mode: its running statistics stay as they are, too."""
    for name, module in network.named_children():
        if part_of(name) == ENCODER:
            module.eval()


def part_of(name: str) -> str:
    """The part of a network that a tensor or a module belongs to."""
    first = name.partition(".")[0]
    return first if first in PARTS else ENCODER


def load_parts(
    network: nn.Module, weights: dict[str, Tensor], load: str, same_classes: bool, origin: str
) -> str:
    """Take over the encoder, or all that fits; returns what was taken and what was not.

    The encoder must fit; of the other parts a tensor is taken where name and shape are the same,
    and of the classifier where the classes are. That all is no more than the encoder is said.
    """
    own = network.state_dict()
    encoder = {name: tensor for name, tensor in weights.items() if part_of(name) == ENCODER}
    require_fit(
        encoder,
        {name: tensor for name, tensor in own.items() if part_of(name) == ENCODER},
        origin,
        "leave model.backbone out, so that it is the same network",
    )
    taken = (
        encoder
        if load == ENCODER
        else {
            name: tensor
            for name, tensor in weights.items()
            if name in own
            and tensor.shape == own[name].shape
            and (part_of(name) != CLASSIFIER or same_classes)
        }
    )
    network.load_state_dict({**own, **taken})
    note = f"load={load} from {origin}: " + ", ".join(_counts(taken, own, weights))
    same = load == "all" and taken.keys() == encoder.keys()
    return note + "; the same as load=encoder" if same else note


def _counts(
    taken: dict[str, Tensor], own: dict[str, Tensor], weights: dict[str, Tensor]
) -> Iterator[str]:
    """By part: how many of the network's tensors were taken, and how many more there were."""
    got, wanted, there = (Counter(map(part_of, names)) for names in (taken, own, weights))
    for part in PARTS:
        unused = there[part] - got[part]
        if wanted[part] or unused:
            more = f" ({unused} there are not used)" if unused else ""
            yield f"{part} {got[part]} of {wanted[part]} tensors{more}"
