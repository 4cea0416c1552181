"""What a study trains and compares, read from a file: see docs/studies.md. Imports no torch.

A study is a list of runs. Each is trained for every combination of values of the axes that it
varies over, and for every seed. Runs may start from others: a student from its teacher, a
fine-tuned network from a pre-trained one; they take the one with the same values and the same seed.
"""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from pointcmt.errors import UsageError, nearest
from pointcmt.files import read_regular
from pointcmt.training.config.files import parse_setting
from pointcmt.training.config.names import FOLDER
from pointcmt.training.config.pointcmt import PIPELINE, STAGES
from pointcmt.training.config.sections import Positive, Section
from pointcmt.training.config.yaml_values import MOST_BYTES, parse_yaml

STUDIES = FOLDER / "studies"
NAME = re.compile(r"[A-Za-z0-9][\w.+%-]*")  # of runs, axes and values: they name folders
LINKS = ("teacher", "generator", "init")  # keys that name another run of the study
TEST = "test"
Seed = Annotated[int, Field(ge=0, lt=1000)]


class Value(Section):
    """One value of an axis."""

    set: dict[str, Any] = Field(default={})
    """Settings of all runs that vary over the axis, by dotted key."""
    recipes: dict[str, dict[str, Any]] = Field(default={})
    """Settings of those of one recipe, which override them."""
    times: Annotated[float, Field(gt=0)] = 1.0
    """Factor of their epochs, such as 5 where a fifth of the labels makes epochs shorter."""


class StudyRun(Section):
    """One run, or the same run for several values and seeds."""

    recipe: str
    """Recipe of `pointcmt train`."""
    row: str = ""
    """Its name in the tables; empty = the name of the run."""
    task: str = TEST
    """The table that its test scores are in."""
    over: tuple[str, ...] = ()
    """Axes that it varies over."""
    once: bool = False
    """Train it with seed 0 alone; the runs of all seeds start from it."""
    set: dict[str, Any] = Field(default={})
    """Settings, by dotted key."""
    teacher: str = ""
    """Run of the study that is its teacher."""
    generator: str = ""
    """Run of the study that is its generator."""
    init: str = ""
    """Run of the study whose weights it starts from."""
    search: tuple[dict[str, Any], ...] = ()
    """Settings to choose from: those with the best validation score, mean over `search_seeds`
    seeds that the study does not use otherwise. The test split is not read."""
    search_over: tuple[str, ...] = ()
    """Axes whose values get a search of their own; of the other axes, the first value is used."""
    search_seeds: Positive = 2
    """Seeds of a search."""
    test: bool = True
    """Whether to evaluate it on the test split, if it is a classifier."""
    svm: bool = False
    """Whether to probe its frozen features with a linear SVM."""
    few_shot: str = ""
    """The same with few labels: 5w10s, or several of them."""
    unlabeled: bool = False
    """Whether it also reads the unlabeled stores."""


class StudyConfig(Section):
    """A study: its runs, and what they vary over."""

    about: str
    """The question, as the title of its results."""
    baseline: str
    """The row that the others of a table are compared with."""
    seeds: tuple[Seed, ...]
    """Seeds of all runs but those of `once`."""
    axes: dict[str, dict[str, Value]] = Field(default={})
    """Axes by name, and their values by name."""
    recipes: dict[str, dict[str, Any]] = Field(default={})
    """Settings of all runs of a recipe, by dotted key."""
    runs: dict[str, StudyRun]
    """The runs; each may start from those before it."""

    @model_validator(mode="after")
    def _check(self) -> "StudyConfig":
        names = [*self.runs, *self.axes, *(name for axis in self.axes.values() for name in axis)]
        names += [each for run in self.runs.values() for each in (run.row, run.task) if each]
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"'{name}' names a folder: use letters, digits and . _ + % -")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds should be different numbers")
        if any(not axis for axis in self.axes.values()):
            raise ValueError("each axis needs values")
        earlier: dict[str, StudyRun] = {}
        for name, run in self.runs.items():
            _check_run(name, run, earlier, self.axes)
            earlier[name] = run
        if self.baseline not in {run.row or name for name, run in self.runs.items()}:
            raise ValueError(f"the baseline '{self.baseline}' is not a row of any run")
        return self


def _check_run(
    name: str, run: StudyRun, earlier: dict[str, StudyRun], axes: dict[str, dict[str, Value]]
) -> None:
    if run.recipe == PIPELINE:
        raise ValueError(
            f"runs.{name}: '{PIPELINE}' trains three runs: name each, {', '.join(STAGES)}"
        )
    unknown = [axis for axis in (*run.over, *run.search_over) if axis not in axes]
    if unknown:
        raise ValueError(f"runs.{name}: unknown axis '{unknown[0]}'")
    if not set(run.search_over) <= set(run.over):
        raise ValueError(f"runs.{name}: search_over should name axes of over")
    for link in LINKS:
        other = getattr(run, link)
        if other and other not in earlier:
            raise ValueError(f"runs.{name}.{link}: '{other}' is not a run above this one")
        if other and not set(earlier[other].over) <= set(run.over):
            raise ValueError(f"runs.{name}.{link}: '{other}' varies over more axes than this run")
        if other and run.once and not earlier[other].once:
            raise ValueError(f"runs.{name}.{link}: '{other}' is not trained once")


def load_study(given: str) -> StudyConfig:
    """Read a study: a YAML file, or the name of one that comes with the package.

    Raises UsageError for an unknown name, a file that cannot be read, and anything in it that is
    not a study, with the key.
    """
    path = Path(given)
    if not path.suffix and path.parent == Path():
        known = sorted(file.stem for file in STUDIES.glob("*.yaml"))
        if given not in known:
            raise UsageError(f"unknown study '{given}'", fix=nearest(given, known))
        path = STUDIES / f"{given}.yaml"
    try:
        table = parse_yaml(read_regular(path, MOST_BYTES).decode())
    except FileNotFoundError:
        raise UsageError("no such study", where=str(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"this study cannot be read: {error}", where=str(path)) from None
    try:
        return StudyConfig.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        what = f"'{key}': {reason}" if key else reason
        raise UsageError(f"this study is not valid: {what}", where=str(path)) from None


def change(study: StudyConfig, overrides: list[str], seeds: str | None) -> StudyConfig:
    """Return a study with other settings, RECIPE.KEY=VALUE, and other seeds: 0,1,2.

    A setting replaces that of the recipe. What runs and values of axes set themselves stays: it is
    what the study compares. Raises UsageError for texts of another form, for a recipe that the
    study does not train, and for a setting that is therefore used by no run.
    """
    names = {run.recipe for run in study.runs.values()}
    recipes = dict(study.recipes)
    for text in overrides:
        key, value = parse_setting(text)
        recipe, _, key = key.partition(".")
        if recipe not in names or not key:
            raise UsageError(
                f"'{text}' does not set a key of a recipe of this study",
                where="--set",
                fix=f"begin with one of {', '.join(sorted(names))}: --set {min(names)}.epochs=10",
            )
        if all(_sets(study, run, key) for run in study.runs.values() if run.recipe == recipe):
            raise UsageError(
                f"all runs of {recipe} set {key} themselves, or vary over it",
                where=f"--set {text}",
                fix="leave it out, or change it in a study file of your own",
            )
        recipes[recipe] = {**recipes.get(recipe, {}), key: value}
    changes: dict[str, Any] = {"recipes": recipes}
    if seeds is not None:
        try:
            changes["seeds"] = TypeAdapter(tuple[Seed, ...]).validate_python(seeds.split(","))
        except ValidationError:
            changes["seeds"] = ()
        if not changes["seeds"] or len(set(changes["seeds"])) < len(changes["seeds"]):
            raise UsageError(
                f"'{seeds}' is not a list of seeds",
                where="seeds",
                fix="use different integers from 0 to 999, such as 0,1,2,3,4",
            )
    return study.model_copy(update=changes)


def _sets(study: StudyConfig, run: StudyRun, key: str) -> bool:
    """Return whether a run sets a key itself, or one of its axes does at all values."""
    return key in run.set or any(
        all(key in {**v.set, **v.recipes.get(run.recipe, {})} for v in study.axes[axis].values())
        for axis in run.over
    )
