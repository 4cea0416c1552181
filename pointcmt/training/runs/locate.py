"""Find the run that a path means: RUN is whatever `pointcmt train --out RUN` made.

A whole recipe's folder holds a run for each stage, and stands for the one that fits: its student,
unless a recipe starts from its teacher or its generator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pointcmt.console import logger
from pointcmt.errors import StoreError
from pointcmt.training.config.pointcmt import STAGES, input_folders
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.folder import BEST, FACTS, LAST

TEACHER, GENERATOR, STUDENT = STAGES
MOST_NAMED = 8  # runs that an error lists


def find_run(path: Path, stage: str = STUDENT) -> Path:
    """Return the folder of the run that `path` means.

    That is the folder itself, a whole recipe's run of this stage, or the only run of a study of
    seeds. A path that holds nothing of this kind is returned as it is, for `open_run` to refuse.
    Raises StoreError if the stage has not been trained yet, if there are several runs to choose
    from, or if the folder is a checkpoint.
    """
    if path.is_file() or (path / FACTS).exists():
        return path
    if (path / stage / FACTS).exists():
        return _chosen(path, path / stage, f"the {stage}")
    if (path / checkpoint.MARKER).exists() and (path.parent / FACTS).exists():
        raise StoreError(
            "this folder is a checkpoint of a run",
            where=str(path),
            fix=f"pass the folder of its run, {path.parent}",
        )
    seeds = sorted(facts.parent for facts in path.glob(f"seed-*/*/{FACTS}"))
    if len(seeds) == 1:
        return _chosen(path, seeds[0], "the only run")
    if seeds:
        named = ", ".join(map(str, seeds[:MOST_NAMED])) + ", …" * (len(seeds) > MOST_NAMED)
        raise StoreError(
            f"this folder holds {len(seeds)} runs, of several seeds or variants",
            where=str(path),
            fix=f"pass one of them: {named}",
        )
    trained = [str(path / name) for name in STAGES if (path / name / FACTS).exists()]
    if trained:
        raise StoreError(
            f"the {stage} of this recipe has not been trained yet",
            where=str(path),
            fix="run the same `pointcmt train` command again to finish it, or pass the folder of "
            f"a stage: {', '.join(trained)}",
        )
    return path


def locate_inputs(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the folders of the runs that it starts from.

    Of a whole recipe, `teacher` and `generator` mean these stages, and `init` the stage that the
    configuration trains, or else the student. Raises StoreError like `find_run`.
    """
    own = config.recipe if config.recipe in STAGES else STUDENT
    stages = {"teacher": TEACHER, "generator": GENERATOR, "init": own}
    found = {key: str(find_run(path, stages[key])) for key, path in input_folders(config).items()}
    return config.model_copy(update=found)


def _chosen(path: Path, run: Path, what: str) -> Path:
    """Return the run that is used instead of the path, after telling the user."""
    logger.info(f"using {what} in {path}: {run}")
    return run


@contextmanager
def suggest_checkpoint(folder: Path, which: str) -> Iterator[None]:
    """Let the error of a damaged checkpoint name another one of the run that can be used.

    which: the folder of the checkpoint that is read.
    """
    try:
        yield
    except StoreError as error:
        kept = sorted((path.name for path in folder.glob("epoch-*")), reverse=True)
        others = [name for name in (BEST, LAST, *kept) if name != which]
        if not is_usable(folder / which):
            usable = next((name for name in others if is_usable(folder / name)), None)
            if usable is not None:
                shown = (
                    usable if usable in (BEST, LAST) else str(int(usable.removeprefix("epoch-")))
                )
                error.fix = f"use another checkpoint of this run: --checkpoint {shown}"
        raise


@contextmanager
def suggest_start(folder: Path) -> Iterator[None]:
    """Let the error of a run that cannot be resumed say that its best checkpoint can be used."""
    try:
        yield
    except StoreError as error:
        if not is_usable(folder / LAST) and is_usable(folder / BEST):
            error.fix = (
                "its checkpoint `best` is whole, and commands that only read the run can use it: "
                f"start a new run from it with --init {folder} and another --out"
            )
        raise


def is_usable(folder: Path) -> bool:
    """Return whether a checkpoint is there and its weights can be read."""
    try:
        checkpoint.read_weights(folder)
    except StoreError:
        return False
    return True
