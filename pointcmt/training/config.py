"""Every knob of a training run, with its default and the reason for it. Imports no torch.

A value comes from, in rising order: the default here, the YAML file, `--set a.b=c`, a flag. The
resolved configuration is written into the run as `config.yaml`, which can be given as `--config`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pointcmt.errors import UsageError, nearest

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A frozen group of knobs; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would read `epochs: yes` as 1
            raise ValueError("Input should be a value, not true or false")
        return value


class Data(Section):
    """What is read of a store."""

    batch_size: Annotated[int, Field(ge=2)] = 32  # shapes per step; batch norm needs two
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1  # share carved from train, per class


class ViewData(Data):
    """What the teacher reads."""

    views: NotNegative = 0  # random views per shape and step; 0 = all, as in the paper
    image_size: NotNegative = 0  # pixels, resized on the device; 0 = as stored


class PointData(Data):
    """What a student reads."""

    points: Positive = 1024  # the first n of the stored, farthest-point order


class Teacher(Section):
    """MVCNN over an image network."""

    backbone: Literal[
        "resnet-18",
        "resnet-34",
        "resnet-50",
        "vit-base",
        "dinov2-small",
        "dinov2-base",
        "dinov2-large",
        "clip-vit-b32",
        "clip-vit-b16",
        "clip-vit-l14",
    ] = "resnet-18"
    weights: str = "random"  # or hub, organisation/name, a folder; pretrained ones train better
    pooling: Literal["max", "mean", "attention"] = "max"  # over the views
    encoder: Literal["train", "frozen"] = "train"  # frozen: only what is behind it learns


class Student(Section):
    """A point network that ends in a 512-d feature and one linear layer."""

    backbone: Literal["pointnet"] = "pointnet"
    orthogonality: Weight = 0.001  # weight of PointNet's regulariser, its section 3.3


class Optimizer(Section):
    """Adam adds the decay to the gradient, AdamW shrinks the weights themselves."""

    name: Literal["adam", "adamw"]
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    weight_decay: Weight
    clip_norm: Weight = 0.0  # largest norm of the whole gradient; 0 = no clipping


class Schedule(Section):
    """The learning rate over the run: constant, or half a cosine down to 0."""

    name: Literal["constant", "cosine"]


class Loss(Section):
    """Cross entropy with smoothed labels."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = (
        0.2  # in DGCNN's form, see training/losses.py
    )


class Augmentation(Section):
    """Random scale and shift of a cloud, per axis."""

    scale: tuple[float, float] = (2 / 3, 3 / 2)
    shift: Weight = 0.2

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("Input should be two numbers, 0 < smallest <= largest")
        return scale


class TrainConfig(Section):
    """What every recipe has."""

    recipe: str
    epochs: Positive
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    init: str = ""  # a run whose best weights to start from
    data: Data = Data()
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss = Loss()


class TeacherConfig(TrainConfig):
    """PointCMT stage I; the defaults are the reference code's."""

    recipe: Literal["teacher"] = "teacher"
    epochs: Positive = 50
    data: ViewData = ViewData()
    model: Teacher = Teacher()
    optimizer: Optimizer = Optimizer(name="adam", weight_decay=1e-4)
    schedule: Schedule = Schedule(name="constant")


class StudentConfig(TrainConfig):
    """PointCMT stage III without the teacher: the vanilla student all others are compared with."""

    recipe: Literal["student"] = "student"
    epochs: Positive = 1000
    data: PointData = PointData()
    model: Student = Student()
    optimizer: Optimizer = Optimizer(name="adamw", weight_decay=0.05)
    schedule: Schedule = Schedule(name="cosine")
    augmentation: Augmentation = Augmentation()


CONFIGS: dict[str, type[TrainConfig]] = {"teacher": TeacherConfig, "student": StudentConfig}


def load_config(
    recipe: str, file: Path | None = None, overrides: Iterable[str] = (), **flags: Any
) -> TrainConfig:
    """The resolved configuration of a recipe.

    file: YAML. overrides: texts `a.b=c`, the value in YAML. flags: top-level keys such as
    `epochs`; None = not given. Raises UsageError for an unknown recipe or key (with the nearest
    name), a value of the wrong kind (with the key), or a file that cannot be read.
    """
    if recipe not in CONFIGS:
        raise UsageError(f"no recipe is called '{recipe}'", fix=nearest(recipe, CONFIGS))
    kind, table = CONFIGS[recipe], _read_yaml(file) if file else {}
    given = {key: value for key, value in flags.items() if value is not None}
    origins = [str(file)] if file else []
    for text in overrides:
        _override(table, text)
        origins.append(f"--set {text}")
    table |= given
    origin = ", ".join(origins + [f"--{key} {value}" for key, value in given.items()])
    if table.setdefault("recipe", recipe) != recipe:
        raise UsageError(
            f"this configuration is for the recipe '{table['recipe']}', not '{recipe}'",
            where=origin,
            fix=f"run `pointcmt train {table['recipe']}`, or give another --config",
        )
    try:
        return kind.model_validate(_merge(kind.model_validate({}).model_dump(), table))
    except ValidationError as error:
        raise _explain(error, kind, origin) from None


def to_yaml(config: TrainConfig) -> str:
    """The configuration as `load_config` reads it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one: {"a": {"b": c}} → {"a.b": c}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError("no such configuration file", where=str(file)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"this file cannot be read: {error}", where=str(file)) from None
    if table is None:
        return {}
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise UsageError("a configuration is a table of keys and values", where=str(file))
    return table


def _override(table: dict[str, Any], text: str) -> None:
    """Write one `a.b=c` into the table."""
    where = f"--set {text}"
    key, equals, value = text.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise UsageError(
            f"'{text}' sets nothing", where=where, fix="write it as --set optimizer.clip_norm=1.0"
        )
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"'{section}' is a value, not a section of keys", where=where)
    try:
        table[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"'{value}' is no YAML value", where=where) from None


def _merge(defaults: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """The defaults with the table's values written over them, section by section."""
    merged = dict(defaults)
    for key, value in table.items():
        known = defaults.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            value = _merge(known, value)
        merged[key] = value
    return merged


def _explain(error: ValidationError, kind: type[TrainConfig], origin: str) -> UsageError:
    """The first thing pydantic found wrong, in words that name the key and what would fit."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    defaults = kind.model_validate({}).model_dump(mode="json")
    if first["type"] == "extra_forbidden":
        return UsageError(f"unknown key '{key}'", where=origin, fix=_nearest_key(key, defaults))
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    value = _look_up(defaults, key)
    return UsageError(
        f"'{key}' {reason}, not {first['input']!r}",
        where=origin,
        fix=f"the default is {key}: {value}" if value is not None else "",
    )


def _nearest_key(key: str, defaults: dict[str, Any]) -> str:
    """Suggest the same name in another section, else the nearest name in this one."""
    section, _, name = key.rpartition(".")
    same = [known for known in flatten(defaults) if known.rpartition(".")[2] == name]
    if same:
        return f"did you mean '{same[0]}'?"
    siblings = _look_up(defaults, section) if section else defaults
    return nearest(name, siblings if isinstance(siblings, dict) else defaults)


def _look_up(table: Any, key: str) -> Any:
    for part in key.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    return table
