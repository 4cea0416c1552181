"""Configurations as YAML with a comment on each key, and the keys of all recipes. Imports no torch.

The comments are the docstrings of the options in the configurations' classes.
"""

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml

from pointcmt.training.config.pointcmt import (
    CONFIGS,
    PIPELINE,
    STAGE_INPUTS,
    STAGES,
    PipelineConfig,
)
from pointcmt.training.config.sections import Section

WIDTH = 100  # characters per line of YAML
COMMENTS = 27  # column where comments start
HELP_WIDTH = 80


def commented_yaml(config: Section) -> str:
    """Return a configuration as YAML with a comment on each key, as `--config` reads it.

    For a pipeline, omits the keys that its stages set for each other.
    """
    title = textwrap.wrap(_summary(type(config)), WIDTH - 2)
    return "\n".join([*(f"# {line}" for line in title), *_lines(config, config)]) + "\n"


def describe_keys() -> str:
    """Return a list of the keys of all recipes as text, common keys first."""
    keys = {recipe: list(_keys(kind.model_validate({}))) for recipe, kind in CONFIGS.items()}
    shared = [key for key in next(iter(keys.values())) if all(key in k for k in keys.values())]
    rows = {"every recipe": ", ".join(shared)}
    for recipe, own in keys.items():
        rows[recipe] = ", ".join(key for key in own if key not in shared)
    rows[PIPELINE] = "preset, and all keys of its stages: " + ", ".join(f"{s}.KEY" for s in STAGES)
    title = (
        "Keys for --set and --config. `pointcmt train RECIPE --print-config` shows their values "
        "and descriptions."
    )
    label = max(map(len, rows)) + 2
    listing = [
        textwrap.fill(
            text,
            HELP_WIDTH,
            initial_indent=f"  {name:{label}}",
            subsequent_indent=" " * (label + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in rows.items()
    ]
    return "\n".join([textwrap.fill(title, HELP_WIDTH), *listing]) + "\n"


def _keys(section: Section, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all options."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _lines(section: Section, whole: Section, indent: str = "") -> Iterator[str]:
    """Yield the lines of one section; whole: the configuration that contains it."""
    kind = type(section)
    table = section.model_dump(mode="json")
    for name, field in kind.model_fields.items():
        value, comment = getattr(section, name), _description(kind, name)
        if isinstance(value, Section):
            yield from _line(f"{indent}{name}:", comment or _summary(type(value)))
            yield from _lines(value, whole, indent + "  ")
        elif not (isinstance(whole, PipelineConfig) and name in STAGE_INPUTS):
            comment += _choices(field.annotation)
            yield from _line(f"{indent}{name}: {_value(table[name])}", comment)


def _line(text: str, comment: str) -> Iterator[str]:
    """Yield the lines of one key with its comment beside it, wrapped in the comment column."""
    column = max(COMMENTS, len(text) + 2) if len(text) < WIDTH // 2 else COMMENTS
    wrapped = textwrap.wrap(comment, WIDTH - 2 - column, break_on_hyphens=False)
    if wrapped and len(text) + 2 <= column:
        text = f"{text:{column}}# {wrapped.pop(0)}"
    yield text
    yield from (f"{'':{column}}# {line}" for line in wrapped)


def _description(kind: type[Section], name: str) -> str:
    """Return an option's docstring, from a parent class if the class itself has none."""
    for parent in kind.__mro__:
        fields = parent.model_fields if issubclass(parent, Section) else {}
        if name in fields and fields[name].description:
            return " ".join(str(fields[name].description).split())
    return ""


def _summary(kind: type[Section]) -> str:
    """Return the first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def _choices(annotation: Any) -> str:
    """Return an option's possible values as a sentence; empty if they cannot be enumerated."""
    choices = [str(choice) for choice in get_args(annotation) if choice != ""]
    if get_origin(annotation) is not Literal or len(choices) < 2:
        return ""
    return f" One of {', '.join(choices)}."


def _value(value: Any) -> str:
    """Format a JSON value as YAML on one line."""
    for style in (None, '"'):  # unquoted, PyYAML breaks lines where a string has line breaks
        text = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=10**9)
        text = text.removesuffix("\n").removesuffix("\n...")
        if "\n" not in text:
            break
    return text
