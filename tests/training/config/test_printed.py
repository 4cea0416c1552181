"""Packaged configurations, and configurations printed as commented YAML."""

import re

import pytest
import yaml

from pointcmt.errors import UsageError
from pointcmt.training.config.files import flatten, load_config, load_pipeline, to_yaml
from pointcmt.training.config.names import FOLDER, find_config, known_configs
from pointcmt.training.config.pointcmt import CONFIGS, PIPELINE
from pointcmt.training.config.printed import commented_yaml, describe_keys
from pointcmt.training.config.sections import Section

RECIPES = [PIPELINE, *CONFIGS]


def load(recipe, *arguments):
    return load_pipeline(*arguments) if recipe == PIPELINE else load_config(recipe, *arguments)


def sections(kind):
    """A configuration's class and those of all sections in it."""
    yield kind
    for name in kind.model_fields:
        value = getattr(kind.model_construct(), name, None)
        if isinstance(value, Section):
            yield from sections(type(value))


# Packaged configurations.


@pytest.mark.parametrize("name", known_configs())
def test_every_packaged_configuration_loads_by_name(name):
    recipe = name.split("-")[0]
    assert load(recipe, name) == load(recipe, FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("recipe", RECIPES)
def test_packaged_configurations_equal_the_defaults_of_their_recipes(recipe):
    """Update them with `make configs`."""
    assert (FOLDER / f"{recipe}.yaml").read_text() == commented_yaml(load(recipe))
    assert load(recipe, recipe) == load(recipe)


def test_an_unknown_name_is_refused_with_known_names_nearest_first():
    with pytest.raises(UsageError) as caught:
        load_config("student", "studen-toy")
    assert caught.value.where == "--config"
    assert caught.value.fix.startswith("did you mean 'student-toy'? known: cmpg, ")
    for name in known_configs():
        assert name in caught.value.fix


def test_a_name_with_a_separator_or_suffix_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("student-toy", "student.yaml", "mine"):
        (tmp_path / name).write_text("epochs: 3\n")
    packaged = load_config("student", FOLDER / "student-toy.yaml")
    assert load_config("student", "student-toy") == packaged
    for path in ("./student-toy", "student.yaml", "./mine", str(tmp_path / "mine")):
        assert load_config("student", path).epochs == 3
    with pytest.raises(UsageError, match="unknown configuration 'mine'") as caught:
        load_config("student", "mine")
    assert caught.value.fix.startswith("for the file of this name, use --config ./mine; ")
    with pytest.raises(UsageError, match="no such configuration file"):
        load_config("student", "student-toy.yml")
    with pytest.raises(UsageError, match="the path is empty"):
        find_config("")


# Commented YAML.

GIVEN = ["seed=7", 'init="/runs/a: b #1\\n\u00e9"']  # text that YAML must quote


@pytest.mark.parametrize("overrides", [[], GIVEN], ids=["defaults", "changed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_printed_yaml_loads_as_the_same_configuration(recipe, overrides, tmp_path):
    if recipe == PIPELINE:
        overrides = [f"student.{override}" for override in overrides]
    config = load(recipe, None, overrides)
    (tmp_path / "c.yaml").write_text(commented_yaml(config))
    assert load(recipe, tmp_path / "c.yaml") == config


@pytest.mark.parametrize("recipe", ["teacher", "cmpg", "student", PIPELINE])
def test_the_printed_yaml_of_a_preset_loads_as_the_same_configuration(recipe, tmp_path):
    config = load(recipe, None, ["preset=modern"])
    (tmp_path / "c.yaml").write_text(commented_yaml(config))
    assert load(recipe, tmp_path / "c.yaml") == config


def test_nested_values_are_printed(tmp_path):
    config = load_config("partseg", None, ['parts={chair: [seat, "odd: #name\\n"], "x,y": [a]}'])
    assert config.parts == {"chair": ("seat", "odd: #name\n"), "x,y": ("a",)}
    (tmp_path / "c.yaml").write_text(commented_yaml(config))
    assert load_config("partseg", tmp_path / "c.yaml") == config


@pytest.mark.parametrize("recipe", CONFIGS)
def test_every_key_is_printed_with_a_comment(recipe):
    config = load_config(recipe)
    text = commented_yaml(config)
    assert yaml.safe_load(text) == yaml.safe_load(to_yaml(config))
    for line in text.splitlines():
        assert re.search(r"# \w", line), line
        assert len(line) <= 100
    pipeline = yaml.safe_load(commented_yaml(load_pipeline()))
    for stage in {"teacher", "cmpg", "student"} & {recipe}:
        printed = flatten(yaml.safe_load(text))
        assert flatten(pipeline[stage]).items() <= printed.items()
        assert printed.keys() - flatten(pipeline[stage]).keys() <= {"teacher", "generator"}


@pytest.mark.parametrize("recipe", CONFIGS)
def test_every_option_and_section_is_described_in_a_sentence(recipe):
    for kind in sections(CONFIGS[recipe]):
        assert kind.__doc__ not in (None, Section.__doc__), kind
        for name, field in kind.model_fields.items():
            if field.description:
                assert field.description.strip().endswith((".", "?")), (kind, name)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("student", "  resample: 0 # Sample the points at random from the first n instead, as"),
        ("student", "  method: pointcmt # logits (Hinton et al. 2015) and features (mean squared"),
        ("student", " # baselines. One of pointcmt, logits, features, none."),
        ("partseg", "  batch_size: 16 # Shapes per batch, over all processes."),  # inherited
        ("mvnet", "optimizer: # AdamW with the usual settings for transformers. For other"),
        ("mvnet", "fraction: 1.0 # Fraction of the remaining train shapes to train on."),
    ],
)
def test_comments_are_the_docstrings_of_options_and_sections(recipe, line):
    """For options, their own docstring or the parent's; for sections, the field's or the class'."""
    text = re.sub(r" +#", " #", commented_yaml(load_config(recipe)))
    assert line in text


def test_the_overview_of_keys_is_complete():
    rows, name = {}, ""
    tables = {"parts", "model.architecture"}  # whose own keys are not fixed
    for line in describe_keys().splitlines()[2:]:
        assert len(line) <= 80
        name = line[2:16].strip() or name
        rows[name] = f"{rows.get(name, '')} {line[16:]}"
    for recipe in CONFIGS:
        listed = re.findall(r"[\w.]+", rows["every recipe"] + rows[recipe])
        assert len(set(listed)) == len(listed)
        assert set(listed) - tables == set(flatten(load_config(recipe).model_dump())) - tables
    assert "parts" in rows["partseg"]
