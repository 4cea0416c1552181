"""The runs of a study as jobs, in an order in which each comes after those that it starts from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from pointcmt.errors import UsageError, nearest
from pointcmt.training.config.study import LINKS, StudyConfig, StudyRun

ROWS = "rows"  # in a selection, beside the names of axes
SEARCH_SEED = 1000  # the first one of a search; those of a study are smaller
QUICK_EPOCHS, QUICK_SEEDS = 2, 2
EPOCH_KEYS = ("epochs", "schedule.warmup")

Place = dict[str, str]  # axis → name of a value


@dataclass(frozen=True)
class Job:
    """One run of a study.

    key: its folder below the study's. row, task: see `StudyRun`. settings: by dotted key. links:
    the keys of the jobs that it starts from, by option. candidates: of a search, the jobs of each
    candidate; the settings of the best one are added. times: factor of the epochs. searching: it
    belongs to a search, so it is not tested and not in the tables.
    """

    key: str
    name: str
    row: str
    run: StudyRun
    place: Place
    seed: int
    settings: Mapping[str, Any]
    times: float = 1.0
    links: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[tuple[str, ...], ...] = ()
    searching: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of the jobs that have to be finished before this one."""
        return (*self.links.values(), *(key for keys in self.candidates for key in keys))


def plan_jobs(study: StudyConfig, only: Mapping[str, tuple[str, ...]]) -> list[Job]:
    """Return the jobs of a study, seed by seed, so that an interrupted one is a smaller one.

    only: names of rows, and of an axis' values, to restrict it to; what these start from is trained
    as well. Raises UsageError for unknown names.
    """
    _check_selection(study, only)
    every: dict[str, Job] = {}
    chosen = []
    for seed in study.seeds:
        for name, run in study.runs.items():
            for place in _places(study, run.over):
                job = _job(study, name, place, _own_seed(run, seed))
                for each in (*_searches(study, job), job):
                    every.setdefault(each.key, each)
                rows = only.get(ROWS, (job.row,))
                if job.row in rows and all(
                    place.get(axis) in (None, *values) for axis, values in only.items()
                ):
                    chosen.append(job.key)
    ordered: dict[str, Job] = {}
    for key in chosen:
        _add(every[key], every, ordered)
    return list(ordered.values())


def quick(study: StudyConfig) -> StudyConfig:
    """Return the same study with two seeds, one of each search, and `QUICK_EPOCHS` epochs a run."""
    runs = {
        name: run.model_copy(update={"search_seeds": 1, "set": _without_epochs(run.set)})
        for name, run in study.runs.items()
    }
    recipes = {
        run.recipe: {**study.recipes.get(run.recipe, {}), "epochs": QUICK_EPOCHS}
        for run in runs.values()
    }
    axes = {
        axis: {name: value.model_copy(update={"times": 1.0}) for name, value in values.items()}
        for axis, values in study.axes.items()
    }
    changes = {"runs": runs, "recipes": recipes, "axes": axes, "seeds": study.seeds[:QUICK_SEEDS]}
    return study.model_copy(update=changes)


def _without_epochs(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in EPOCH_KEYS}


def _check_selection(study: StudyConfig, only: Mapping[str, tuple[str, ...]]) -> None:
    known = {axis: tuple(values) for axis, values in study.axes.items()}
    known[ROWS] = tuple(dict.fromkeys(run.row or name for name, run in study.runs.items()))
    for axis, values in only.items():
        if axis not in known:
            raise UsageError(
                f"this study has no axis '{axis}'",
                where=f"{axis}={','.join(values)}",
                fix=nearest(axis, known),
            )
        for value in values:
            if value not in known[axis]:
                raise UsageError(
                    f"'{value}' is not one of the {axis} of this study",
                    where=f"{axis}={','.join(values)}",
                    fix=nearest(value, known[axis]),
                )


def _places(study: StudyConfig, over: tuple[str, ...]) -> Iterator[Place]:
    for values in product(*(study.axes[axis] for axis in over)):
        yield dict(zip(over, values, strict=True))


def _job(study: StudyConfig, name: str, place: Place, seed: int) -> Job:
    run = study.runs[name]
    place = {axis: place[axis] for axis in run.over}
    settings: dict[str, Any] = {**study.recipes.get(run.recipe, {}), **run.set}
    times = 1.0
    for axis, value in place.items():
        one = study.axes[axis][value]
        settings |= {**one.set, **one.recipes.get(run.recipe, {})}
        times *= one.times
    links = {
        link: _key(study, other, place, _own_seed(study.runs[other], seed))
        for link in LINKS
        if (other := getattr(run, link))
    }
    return Job(
        _key(study, name, place, seed),
        name,
        run.row or name,
        run,
        place,
        seed,
        settings,
        times,
        links,
        _keys(study, name, place),
    )


def _key(study: StudyConfig, name: str, place: Place, seed: int) -> str:
    return "/".join([name, *(place[axis] for axis in study.runs[name].over), f"seed-{seed}"])


def _own_seed(run: StudyRun, seed: int) -> int:
    """Return the seed of a run that is trained, or started from, for a seed of the study."""
    return 0 if run.once else seed


def _keys(study: StudyConfig, name: str, place: Place) -> tuple[tuple[str, ...], ...]:
    """Return the keys of a search's jobs, by candidate."""
    run = study.runs[name]
    where = _search_place(study, run, place)
    return tuple(
        tuple(f"search/{number}/{_key(study, name, where, seed)}" for seed in _search_seeds(run))
        for number in range(len(run.search))
    )


def _search_seeds(run: StudyRun) -> range:
    return range(SEARCH_SEED, SEARCH_SEED + run.search_seeds)


def _search_place(study: StudyConfig, run: StudyRun, place: Place) -> Place:
    return {
        axis: place[axis] if axis in run.search_over else next(iter(study.axes[axis]))
        for axis in run.over
    }


def _searches(study: StudyConfig, job: Job) -> Iterator[Job]:
    """Yield the jobs that choose the settings of a job, and what they start from."""
    where = _search_place(study, job.run, job.place)
    for number, keys in enumerate(job.candidates):
        for key, seed in zip(keys, _search_seeds(job.run), strict=True):
            plain = _job(study, job.name, where, seed)
            yield from _links(study, plain)
            settings = {**plain.settings, **job.run.search[number]}
            yield replace(plain, key=key, settings=settings, candidates=(), searching=True)


def _links(study: StudyConfig, job: Job) -> Iterator[Job]:
    """Yield the jobs that a job of a search starts from, and theirs.

    Those with a seed of the search are trained for it alone, and are not tested either.
    """
    for link in job.links:
        name = getattr(job.run, link)
        other = _job(study, name, job.place, _own_seed(study.runs[name], job.seed))
        yield from _links(study, other)
        yield replace(other, searching=other.seed >= SEARCH_SEED)


def _add(job: Job, every: Mapping[str, Job], ordered: dict[str, Job]) -> None:
    """Add a job after those that it needs."""
    for key in job.needs:
        if key not in ordered:
            _add(every[key], every, ordered)
    ordered[job.key] = job
