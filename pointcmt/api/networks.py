"""Build networks by name, load them from runs, train and evaluate them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointcmt import plugins
from pointcmt.api.paths import local_path
from pointcmt.api.stores import JoinedStores, ViewStore, open_store
from pointcmt.console import showing_messages
from pointcmt.datasets.enclosing import require_outside
from pointcmt.datasets.joint import open_stores
from pointcmt.datasets.store import view_store
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.errors import UsageError, nearest
from pointcmt.input_frame import AS_STORED, InputFrame, place, place_normals
from pointcmt.training.config.files import load_config, load_pipeline
from pointcmt.training.config.pointcmt import PIPELINE, PipelineConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.classifier import open_trained
from pointcmt.training.evaluation.evaluate import Evaluation
from pointcmt.training.evaluation.evaluate import evaluate as judge
from pointcmt.training.evaluation.folds import FoldReport, evaluate_folds
from pointcmt.training.evaluation.published import file_options
from pointcmt.training.loop import Result
from pointcmt.training.loop import train as train_one
from pointcmt.training.networks.backbones import BACKBONES, build_backbone, is_known
from pointcmt.training.networks.backbones.blocks import PublishedHead
from pointcmt.training.pipeline import STUDENT, train_pipeline
from pointcmt.training.runs.cost import Cost

EVERY = ("epochs", "seed")
Stores = str | Path | ViewStore | JoinedStores | Sequence[str | Path | ViewStore]


def backbone(name: str, classes: int = 40, *, normals: bool = False) -> nn.Module:
    """Build a point network by name, with random weights.

    It maps points [B,N,3] in the unit sphere to a `Prediction` with `logits` [B,C] and `feature`
    [B,512]; its `classifier` is a single linear layer. normals: it takes points [B,N,6] instead,
    each with its position and its unit normal. Raises UsageError for an unknown name, and for a
    network that takes no normals.

    >>> import torch
    >>> net = pc.backbone("pointnet", classes=10).eval()
    >>> net(torch.zeros(2, 128, 3)).logits.shape
    torch.Size([2, 10])
    """
    plugins.trust(name)
    if not is_known(name, BACKBONES):
        what = f"unknown backbone '{name}'"
        raise UsageError(what, where="name=", fix=nearest(name, BACKBONES))
    if classes < 1:
        raise UsageError(
            f"invalid number of classes: {classes}", where="classes=", fix="use 1 or more"
        )
    return build_backbone(name, classes, inputs=3 * normals)


class TrainedModel(nn.Module):
    """The network of a run, in evaluation mode, with information from the run; see `load_run`.

    Calling it calls its `network`. recipe: the recipe that trained it. class_names: in the order of
    the logits. epoch: of the checkpoint. frame: how the network takes points, such as
    {"up": "y", "center": "centroid", "scale": "farthest"}; of most runs, as a store holds them.

    >>> model = pc.load_run("RUN")
    >>> model.recipe, model.class_names[:2], model.training
    ('student', ['chair', 'table'], False)
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: str,
        class_names: list[str],
        epoch: int = 0,
        frame: Mapping[str, str] = MappingProxyType(AS_STORED.as_json()),
    ) -> None:
        super().__init__()
        self.network = network
        self.frame = dict(frame)
        self.recipe, self.class_names, self.epoch = recipe, class_names, epoch

    @property
    def classifier(self) -> nn.Linear:
        """The last layer. Raises UsageError if the trained network does not classify shapes."""
        found = dict(self.network.named_modules()).get("classifier")
        if isinstance(found, PublishedHead):
            return found.last
        if not isinstance(found, nn.Linear):
            raise UsageError(f"a {self.recipe} network has no shape classifier", where="classifier")
        return found

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return class scores [B,C] of points [B,N,3], or of a teacher's views [B,V,H,W,3] u8.

        The points are those of a store, with data.normals their normals, too: [B,N,6]. They are
        turned into `frame` first, through which no
        gradient passes. Raises UsageError if that takes more than the points.
        """
        _ = self.classifier
        frame = InputFrame(**self.frame)
        if frame.needs_source:
            raise UsageError(
                f"this network takes points {frame.describe()}, which stored ones do not tell",
                where="logits",
                fix="use pc.predict; or call the model with points in this frame",
            )
        if frame != AS_STORED:
            rows = inputs.detach().cpu().numpy()
            placed = place(rows[..., :3], frame)
            if rows.shape[-1] == 6:
                normals = place_normals(rows[..., 3:], frame)
                placed = np.concatenate([placed, normals], axis=-1)
            inputs = torch.from_numpy(placed).to(inputs)
        logits: Tensor = self.network(inputs)[0]
        return logits


def load_run(path: str | Path, *, checkpoint: str = "best", device: str = "cpu") -> TrainedModel:
    """Load the network of a run, in evaluation mode, with its classifier and class names.

    path: a run's folder; for the recipe pointcmt, its student is loaded. checkpoint: best on
    validation, last, or the number of an epoch that was kept.

    Nothing is unpickled. Raises StoreError if the run is missing or damaged.

    >>> import torch
    >>> model = pc.load_run("RUN")
    >>> points = torch.from_numpy(pc.open_store("S")["chair/0000"].points)
    >>> name = model.class_names[int(model.logits(points[None]).argmax())]
    """
    found = open_trained(local_path(path, "RUN"), checkpoint, device)
    run, network = found.run, found.recipe.model
    frame = getattr(run.config.data, "frame", AS_STORED).as_json()
    names = list(run.class_names)
    return TrainedModel(network, run.config.recipe, names, found.epoch, frame).eval()


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    folder: for `load_run`. last, best: metrics of the last epoch and of the best one on validation,
    by name. cost: parameters, FLOPs, time, memory. stages: by name, for the recipe pointcmt; the
    other fields are then the student's.

    >>> settings = {"data__points": 64, "data__batch_size": 4}
    >>> result = pc.train("student", data="S", out="RUN", epochs=1, **settings)
    >>> result.epochs, sorted(result.last)[:3]
    (1, ['accuracy', 'data_wait', 'epoch'])
    """

    folder: Path
    recipe: str
    epochs: int
    last: dict[str, Any]
    best: dict[str, Any]
    cost: Cost | None = None
    stages: dict[str, "TrainResult"] = field(default_factory=dict)


def train(
    recipe: str = PIPELINE,
    *,
    data: Stores,
    out: str | Path,
    config: str | Path | None = None,
    device: str = "auto",
    features: str | Path | None = None,
    progress: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train a recipe from a view store; another call resumes where it stopped.

    recipe: pointcmt (teacher, cmpg, student), one of these, mvnet, crosspoint, finetune, partseg,
    semseg or detect. data: a store, its location, or a list of several that were rendered with the
    same settings. out: the run's folder. config: a YAML file, or the name of a packaged
    configuration (docs/settings.md). settings: keys of the recipe's configuration, with `__` for
    the dots of nested keys: `epochs=10`, `optimizer__clip_norm=1.0`; they override the file.
    features: where image features are kept, if not in the store. progress: show it on standard
    error.

    Raises UsageError for an invalid setting, with its name, StoreError for a store that cannot be
    trained on or a folder that holds another run.

    >>> settings = {"data__points": 64, "data__batch_size": 4}
    >>> result = pc.train("student", data="S", out="RUN", epochs=1, **settings)
    >>> result.recipe, result.folder.name
    ('student', 'RUN')
    """
    folder, chosen = local_path(out, "--out"), _config(recipe, config, settings)
    if features is not None:
        require_outside(str(features), folder)
    store = _open(data, features)
    with showing_messages(progress):
        if not isinstance(chosen, PipelineConfig):
            return _result(folder, train_one(store, chosen, folder, device))
        found = train_pipeline(store, chosen, folder, device)
    stages = {name: _result(folder / name, result) for name, result in found.items()}
    student = stages[STUDENT]
    parts = student.epochs, student.last, student.best, student.cost
    return TrainResult(student.folder, PIPELINE, *parts, stages)


def evaluate(
    run: str | Path | Sequence[str | Path],
    *,
    data: Stores,
    split: str = "test",
    checkpoint: str = "best",
    votes: int = 1,
    device: str = "auto",
    backbone: str = "",
    points: int | None = None,
    frame: str = "",
) -> Evaluation | FoldReport:
    """Evaluate a run on a split of a store: accuracy, mIoU or average precision, overall and per
    class.

    run: a folder, as for `load_run`. data: a store, or a list of stores. votes: predictions
    averaged per shape.

    Writes evaluation.json and a figure into the run's folder. Raises StoreError and UsageError.

    Or run: a list of folds of S3DIS, each a run that is tested on the area that it held out. Their
    counts are added up before any score is taken; `areas` has the report of each.

    Or run: a file of published weights (docs/training.md lists their layouts); nothing is written
    then. backbone: its network; "" finds it by the tensors. points: per shape, 1,024 by default.
    frame: how it takes the points, such as "y,centroid,farthest"; "" = as the store's benchmark.

    >>> report = pc.evaluate("RUN", data="S")
    >>> report.shapes, sorted(report.measures)
    (20, ['mean_class_accuracy', 'overall_accuracy'])
    """
    store = _open(data)
    if not isinstance(run, str | Path):
        if split != "test" or backbone or points is not None or frame:
            raise UsageError(
                "several runs are only evaluated as folds of S3DIS, on areas that they held out",
                where="--split, --backbone, --points, --frame",
                fix="leave these out, or pass a single run",
            )
        folders = [local_path(each, "RUN") for each in run]
        return evaluate_folds(folders, store, checkpoint, votes, device)
    file = file_options(backbone, points, frame)
    return judge(local_path(run, "RUN"), store, split, checkpoint, votes, device, file)


def _config(
    recipe: str, config: str | Path | None, settings: Mapping[str, Any]
) -> TrainConfig | PipelineConfig:
    """Return the configuration of a recipe; for pointcmt, EVERY sets keys of all its stages."""
    given = {
        key.replace("__", "."): str(value) if isinstance(value, Path) else value
        for key, value in settings.items()
        if value is not None
    }
    if recipe != PIPELINE:
        return load_config(recipe, config, given)
    every = {key: given.pop(key) for key in EVERY if key in given}
    return load_pipeline(config, given, **every)


def _open(data: Stores, features: str | Path | None = None) -> StoreReader:
    """Open a store, or join several; their files have to be complete."""
    stores: list[str | Path | view_store.ViewStore] = []
    places = data.members if isinstance(data, JoinedStores) else data
    for one in [places] if isinstance(places, str | Path | view_store.ViewStore) else places:
        if isinstance(one, view_store.ViewStore) and features is None:
            stores.append(one)
        else:
            path = one.path if isinstance(one, view_store.ViewStore) else one
            stores.append(open_store(path, features=features))
    store = open_stores(stores)
    store.require_complete()
    return store


def _result(folder: Path, found: Result) -> TrainResult:
    return TrainResult(folder, found.recipe, found.epochs, found.last, found.best, found.cost)
