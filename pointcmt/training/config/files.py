"""Configurations from files, `--set` and flags, with errors that name the key. Imports no torch.

Sources of a value, later ones override earlier ones: the default in the class, the preset, the YAML
file, `--set a.b=c`, a flag. The resolved configuration is written into the run as `config.yaml`,
which can be given as `--config`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pointcmt import plugins
from pointcmt.errors import StoreError, UsageError, nearest
from pointcmt.files import read_regular
from pointcmt.training.config.names import find_config
from pointcmt.training.config.own_recipes import find_recipe
from pointcmt.training.config.pointcmt import (
    CONFIGS,
    PIPELINE,
    STAGE_INPUTS,
    STAGES,
    PipelineConfig,
)
from pointcmt.training.config.presets import OFFICIAL, PRESETS, Settings
from pointcmt.training.config.sections import Section, TrainConfig
from pointcmt.training.config.yaml_values import MOST_BYTES, MOST_DEEP, parse_yaml

Kind = TypeVar("Kind", bound=Section)


SHAPES_ADDED = (
    "point_dropout",
    "scale",
    "isotropic",
    "normalize",
    "rotation",
    "shift",
    "jitter",
    "jitter_clip",
)
SCENES_ADDED = (
    "dropout",
    "dropout_probability",
    "yaw",
    "tilt",
    "tilt_probability",
    "elastic",
    "elastic_probability",
    "autocontrast",
    "color_shift_probability",
    "color_noise_probability",
    "mix",
)
# Keys that runs of earlier versions lack. Their defaults are what those versions did, except for
# votes: these took the ranges of the augmentation.
ADDED = (
    "data.sampling",
    "loss.class_weights",
    "scenes",
    "data.labeled_points",
    "data.test_area",
    *(f"data.{name}" for name in ("up", "center", "scale", "normals")),
    *(f"optimizer.{name}" for name in ("decay", "nesterov")),
    *(f"schedule.{name}" for name in ("per", "floor", "length", "interval", "factor")),
    *(f"votes.{name}" for name in ("scale", "shift", "resample")),
    *(f"augmentation.{name}" for name in (*SHAPES_ADDED, *SCENES_ADDED)),
    *(f"scenes.augmentation.{name}" for name in SCENES_ADDED),
    *(f"model.{name}" for name in ("head", "dropout", "cache")),
    "distillation.gradients",
    *(
        f"votenet.{name}"
        for name in (
            *("vote", "objectness", "center", "heading_class", "heading_residual", "size_class"),
            *("size_residual", "classes"),
        )
    ),
    *(
        f"queries.{name}"
        for name in (
            *("class_cost", "giou_cost", "center_cost", "objectness_cost", "no_object", "classes"),
            *("giou", "center", "size", "heading_class", "heading_residual"),
        )
    ),
)
Given = Iterable[str] | Mapping[str, Any]  # texts `a.b=c`, or values by dotted key


def load_config(
    recipe: str, file: Path | str | None = None, overrides: Given = (), **flags: Any
) -> TrainConfig:
    """Return the resolved configuration of a recipe.

    file: YAML; a string is a path or the name of a packaged configuration, as for `--config`
    (`find_config`). overrides: strings `a.b=c`, the value in YAML, or values by dotted key. flags:
    values by dotted key such as `epochs`; None = not given. Raises UsageError for an unknown
    recipe, preset or key (with the nearest name), a preset for other recipes, a value of the wrong
    type (with the key), or a file that cannot be read.
    """
    plugins.trust(recipe)
    table, origin = _read_all(recipe, file, overrides, flags)
    return resolve_table(recipe, table, origin)


def resolve_table(recipe: str, table: dict[str, Any], origin: str) -> TrainConfig:
    """Return the configuration that nested tables of values select; names in them are not trusted.

    origin: where the values come from, for errors. Raises like `load_config`.
    """
    kind = _config_of(recipe, "recipe")
    if kind is None:
        known = [PIPELINE, *CONFIGS, *plugins.names(plugins.RECIPES)]
        raise UsageError(f"unknown recipe '{recipe}'", where=origin, fix=nearest(recipe, known))
    defaults = _merge(_defaults(kind), kind.follows(table))
    defaults = _merge(defaults, _preset(recipe, table, origin))
    return _validate(kind, defaults, table, origin)


def load_pipeline(
    file: Path | str | None = None, overrides: Given = (), **flags: Any
) -> PipelineConfig:
    """Return the resolved configuration of the three stages.

    Flags apply to each stage for which an override does not set the same key. Otherwise the same
    as `load_config`, with keys such as `student.data.points`.
    """
    own = {key.partition("=")[0].strip() for key in overrides}
    every = {
        name: value
        for stage in STAGES
        for key, value in flags.items()
        if (name := f"{stage}.{key}") not in own
    }
    table, origin = _read_all(PIPELINE, file, overrides, every)
    defaults = _defaults(PipelineConfig)
    for stage in STAGES:
        settings = table.get(stage)
        settings = settings if isinstance(settings, dict) else {}
        given = sorted(settings.keys() & set(STAGE_INPUTS))
        if given:
            raise UsageError(
                f"'{stage}.{given[0]}' cannot be set: each stage uses the runs of the earlier "
                "stages",
                where=origin,
                fix=f"run `pointcmt train {stage}` with it",
            )
        preset = {"preset": table.get("preset", OFFICIAL), **settings}
        defaults[stage] = _merge(defaults[stage], _preset(stage, preset, origin))
        defaults[stage]["preset"] = preset["preset"]
    return _validate(PipelineConfig, defaults, table, origin)


def parse_config(recipe: str, table: Any, where: str) -> TrainConfig:
    """Parse a configuration that was written in full. Raises StoreError for anything else."""
    kind = _config_of(recipe, where)
    if kind is None:
        raise StoreError(
            f"this run's configuration is damaged: unknown recipe '{recipe}'",
            where=where,
            fix="install the package that provides the recipe, if it is not part of pointcmt",
        )
    try:
        config = kind.model_validate(table)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]
        raise StoreError(f"this run's configuration is damaged: {reason}", where=where) from None
    if not _is_whole(config.model_dump(mode="json"), table):
        raise StoreError("this run's configuration is damaged: keys are missing", where=where)
    return config


def _is_whole(config: dict[str, Any], table: dict[str, Any]) -> bool:
    """Return whether a table has all keys of a configuration but those in ADDED, and no others."""
    if config == table:
        return True
    stored, expected = flatten(table), flatten(config)
    return stored == {k: v for k, v in expected.items() if k in stored or k not in ADDED}


def to_yaml(config: Section) -> str:
    """Return the configuration as YAML that `load_config` can read."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested tables: {"a": {"b": c}} → {"a.b": c}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _config_of(recipe: str, where: str) -> type[TrainConfig] | None:
    """Return a recipe's configuration class, from CONFIGS or outside; None for an unknown name."""
    if recipe in CONFIGS:
        return CONFIGS[recipe]
    found = find_recipe(recipe, where)
    return None if found is None else found.config


def _read_all(
    recipe: str, file: Path | str | None, overrides: Given, flags: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Merge everything given besides the defaults, and describe where it comes from."""
    file = find_config(file) if isinstance(file, str) else file
    table = _read_yaml(file) if file else {}
    origins = [str(file)] if file else []
    values = isinstance(overrides, Mapping)
    given = overrides.items() if isinstance(overrides, Mapping) else map(parse_setting, overrides)
    for text, (key, value) in zip(overrides, given, strict=True):
        origins.append(f"--set {key}={value}" if values else f"--set {text}")
        _put(table, key, value, origins[-1])
        plugins.trust(str(value))  # typed, not read from a file
    for key, value in flags.items():
        if value is not None:
            flag = f"--{key.rpartition('.')[2]} {value}"
            _put(table, key, value, flag)
            origins += [flag] if flag not in origins else []
    origin = ", ".join(origins)
    if table.setdefault("recipe", recipe) != recipe:
        raise UsageError(
            f"this configuration is for the recipe '{table['recipe']}', not '{recipe}'",
            where=origin,
            fix=f"run `pointcmt train {table['recipe']}`, or use another --config",
        )
    return table, origin


def _preset(recipe: str, table: dict[str, Any], origin: str) -> Settings:
    """Return what the preset that a table selects sets for a recipe; official sets nothing."""
    name = table.get("preset", OFFICIAL)
    if name == OFFICIAL:
        return {}
    if not isinstance(name, str) or name not in PRESETS:
        raise UsageError(f"unknown preset '{name}'", where=origin, fix=nearest(str(name), PRESETS))
    if recipe not in PRESETS[name]:
        known = [preset for preset, recipes in PRESETS.items() if recipe in recipes]
        raise UsageError(
            f"the preset '{name}' is for {', '.join(PRESETS[name])}, not for {recipe}",
            where=origin,
            fix=f"leave it out, or use one for {recipe}: {', '.join(known)}"
            if known
            else f"leave it out: {recipe} has no presets",
        )
    return PRESETS[name][recipe]


def _defaults(kind: type[Section]) -> dict[str, Any]:
    return kind.model_validate({}).model_dump()


def _validate(
    kind: type[Kind], defaults: dict[str, Any], table: dict[str, Any], origin: str
) -> Kind:
    try:
        return kind.model_validate(_merge(defaults, table))
    except ValidationError as error:
        raise _explain(error, kind, origin) from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        table = parse_yaml(read_regular(file, MOST_BYTES).decode())
    except FileNotFoundError:
        raise UsageError("no such configuration file", where=str(file)) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"this file cannot be read: {error}", where=str(file)) from None
    except RecursionError:
        raise UsageError("this file is nested too deeply", where=str(file)) from None
    if table is None:
        return {}
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise UsageError("a configuration must be a table of keys and values", where=str(file))
    return table


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `a.b=c` into the key a.b and the YAML value c."""
    where = f"--set {text}"
    key, equals, value = text.partition("=")
    if key.count(".") > MOST_DEEP:
        raise UsageError(
            f"a key with {key.count('.') + 1} parts, more than the maximum of {MOST_DEEP + 1}",
            where=where,
        )
    if not equals or not key.strip().rpartition(".")[2]:
        raise UsageError(
            f"'{text}' is not of the form KEY=VALUE",
            where=where,
            fix="use the form --set optimizer.clip_norm=1.0",
        )
    try:
        return key.strip(), parse_yaml(value)
    except ValueError:
        raise UsageError(f"'{value}' is not a valid YAML value", where=where) from None


def nest(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Nest values by dotted key, the reverse of `flatten`: {"a.b": c} → {"a": {"b": c}}.

    Raises UsageError for a key below one that has a value.
    """
    table: dict[str, Any] = {}
    for key, value in values.items():
        _put(table, key, value, origin)
    return table


def _put(table: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set the value of a dotted key in nested tables."""
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"'{section}' is an option, not a section of options", where=where)
    table[last] = value


def _merge(defaults: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Override the defaults with the table's values, section by section."""
    merged = dict(defaults)
    for key, value in table.items():
        known = defaults.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            value = _merge(known, value)
        merged[key] = value
    return merged


def _explain(error: ValidationError, kind: type[Section], origin: str) -> UsageError:
    """Describe pydantic's first error with the key and the valid values."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    defaults = kind.model_validate({}).model_dump(mode="json")
    if first["type"] == "extra_forbidden":
        staged = _staged_keys(key, first["input"]) if kind is PipelineConfig else []
        if staged:
            fix = f"name the stage: {', '.join(key for _, key in staged)}"
            return UsageError(f"unknown key '{staged[0][0]}'", where=origin, fix=fix)
        return UsageError(f"unknown key '{key}'", where=origin, fix=_nearest_key(key, defaults))
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    together = isinstance(first["input"], dict)  # the error concerns a section, or the whole
    if first["type"] == "value_error" and together:
        return UsageError(f"'{key}': {reason}" if key else reason, where=origin)
    value = _look_up(defaults, key)
    return UsageError(
        f"'{key}' {reason}, not {first['input']!r}",
        where=origin,
        fix=f"the default is {key}: {value}" if value is not None else "",
    )


def _nearest_key(key: str, defaults: dict[str, Any]) -> str:
    """Suggest the same name in another section, or else the nearest name in this one."""
    section, _, name = key.rpartition(".")
    same = [known for known in flatten(defaults) if known.rpartition(".")[2] == name]
    if same:
        return f"did you mean '{same[0]}'?"
    siblings = _look_up(defaults, section) if section else defaults
    return nearest(name, siblings if isinstance(siblings, dict) else defaults)


def _staged_keys(key: str, value: Any) -> list[tuple[str, str]]:
    """Return a stage's key without its stage, and the same for each stage that has it."""
    keys = list(flatten({key: value}))
    return [
        (own, f"{stage}.{own}")
        for own in keys[:1]
        for stage in STAGES
        if own in flatten(CONFIGS[stage].model_validate({}).model_dump(mode="json"))
    ]


def _look_up(table: Any, key: str) -> Any:
    for part in key.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    return table
