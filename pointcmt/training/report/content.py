"""The tables of a report."""

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pointcmt import __version__
from pointcmt.console import duration, in_words
from pointcmt.errors import UsageError, brief, nearest
from pointcmt.training.config.files import flatten, load_config
from pointcmt.training.report.differences import OVERALL, Difference
from pointcmt.training.report.source import Source
from pointcmt.training.report.tables import Table
from pointcmt.training.runs.facts import each_store
from pointcmt.training.runs.folder import CONFIG, FACTS
from pointcmt.training.runs.metrics import LOSS, METRICS, score_name

NONE = "–"

Gains = Mapping[str, Mapping[str, Difference]]


def tables_of(sources: list[Source], baseline: Source, gains: Gains) -> list[Table]:
    """Return all tables of a report that have rows. gains: by run, see `all_differences`."""
    made = [
        overview(sources),
        evaluation(sources),
        per_class(sources, baseline, gains),
        probes(sources),
        cost(sources),
        configuration(sources),
        provenance(sources),
    ]
    return [table for table in made if table.rows]


def overview(sources: list[Source]) -> Table:
    """Return one row per run: its recipe, network and progress."""
    columns = ("run", "recipe", "backbone", "epochs", "best epoch", "validation", "test")
    return Table("runs", "Runs", columns, tuple(map(_overview, sources)))


def _overview(source: Source) -> tuple[str, ...]:
    config, best = source.run.config, source.best
    network = config.model_dump().get("model", {}).get("backbone", NONE)
    state = f"{len(source.records)} of {config.epochs}"
    state += "" if source.finished else " (not finished)"
    validation, epoch = NONE, NONE
    if best is not None:
        epoch = str(best["epoch"])
    if best is not None and (key := score_name(best)) in best:  # absent without validation
        value = f"{best[key]:.4f}" if key == LOSS else f"{100 * best[key]:.2f} %"
        validation = f"{value} {in_words(key.removeprefix('val_'))}"
    name = next(iter(source.measures), None)
    test = f"{_percent(source.measures[name])} {in_words(name)}" if name else "not evaluated"
    return (source.name, config.recipe, str(network), state, epoch, validation, test)


def evaluation(sources: list[Source]) -> Table:
    """Return one row per run that was evaluated, with all measures and intervals."""
    evaluated = [source for source in sources if source.measures]
    names = list(dict.fromkeys(name for source in evaluated for name in source.measures))
    rows = tuple(
        (
            source.name,
            f"{(source.evaluation or {}).get('shapes', 0):,}",
            str(source.votes or NONE),
            *(_measure(source, name) for name in names),
            (source.evaluation or {}).get("data", NONE),
        )
        for source in evaluated
    )
    columns = ("run", "test shapes", "votes", *map(in_words, names), "data")
    note = "In brackets: the 95 % interval, by the bootstrap over test shapes." * bool(rows)
    return Table("evaluation", "Test split", columns, rows, note)


def per_class(sources: list[Source], baseline: Source, gains: Gains) -> Table:
    """Return one row per class, and the difference of each run from the baseline."""
    evaluated = [source for source in sources if source.per_class]
    classes = list(dict.fromkeys(name for source in evaluated for name in source.per_class))
    known = [name for name in classes if any(s.per_class.get(name) is not None for s in evaluated)]
    rows = [
        (
            name,
            *(_percent(source.per_class.get(name)) for source in evaluated),
            *(_gain(gain.get(name)) for gain in gains.values()),
        )
        for name in known
    ]
    if gains and rows:
        first = [_percent(next(iter(s.measures.values()), None)) for s in evaluated]
        rows.append((OVERALL, *first, *(_gain(gain.get(OVERALL)) for gain in gains.values())))
    less = [f"{name} − {baseline.name}" for name in gains]
    columns = ("class", *(source.name for source in evaluated), *less)
    measure = in_words(evaluated[0].measure_of_classes) if evaluated else ""
    note = (
        "Differences are in points. Their 95 % intervals are by the paired bootstrap over test "
        "shapes; runs that were evaluated on different shapes or by an older version have no "
        "intervals."
    )
    return Table("classes", f"Classes: {measure}", columns, tuple(rows), note if gains else "")


def probes(sources: list[Source]) -> Table:
    """Return the numbers of the probes of frozen features."""
    rows = tuple(
        (source.name, name, in_words(key), f"{value:.4g}")
        for source in sources
        for name, table in source.probes.items()
        for key, value in flatten(table).items()
        if isinstance(value, float)
    )
    return Table("probes", "Probes of frozen features", ("run", "probe", "number", "value"), rows)


def cost(sources: list[Source]) -> Table:
    """Return what each run cost; of unfinished runs, the time of its finished epochs."""
    columns = (
        "run", "parameters", "in training", "GFLOPs per sample", "time", "samples/s",
        "memory (MiB)", "device",
    )  # fmt: skip
    return Table("cost", "Cost", columns, tuple(map(_cost, sources)))


def _cost(source: Source) -> tuple[str, ...]:
    found = source.cost
    if found is None:
        seconds = sum(record.get("seconds", 0.0) for record in source.records)
        return (source.name, NONE, NONE, NONE, duration(seconds), NONE, NONE, NONE)
    return (
        source.name,
        f"{found['inference_parameters']:,}",
        f"{found['total_parameters']:,}",
        f"{found['flops'] / 1e9:.2f}",
        duration(3600 * found["hours"]),
        f"{found['samples_per_second']:.0f}",
        f"{found['peak_memory_bytes'] / 2**20:.0f}",
        f"{found['processes']} × {found['device']}",
    )


def configuration(sources: list[Source]) -> Table:
    """Return the settings that differ between runs; of a single run, from the defaults."""
    tables = [flatten(source.run.config.model_dump(mode="json")) for source in sources]
    names = tuple(source.name for source in sources)
    title = "Settings that differ"
    if len(sources) == 1:
        tables, names = [*tables, _defaults(sources[0])], (*names, "default")
        title = "Settings that are not defaults"
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = tuple(
        (key, *(_setting(table, key) for table in tables))
        for key in keys
        if len({_setting(table, key) for table in tables}) > 1
    )
    return Table("configuration", title, ("setting", *names), rows)


def provenance(sources: list[Source]) -> Table:
    """Return the data, versions and dates of each run, and the command that trains it again."""
    rows = []
    for source in sources:
        facts, folder = source.run.facts, source.run.folder
        versions = ", ".join(f"{name} {text}" for name, text in facts["versions"].items())
        dates = f"{source.date(FACTS)} to {source.date(METRICS) or NONE}"
        stores = [word for one in each_store(facts["data"]) for word in ("--data", one["path"])]
        words = ["pointcmt", "train", source.run.config.recipe, *stores]
        command = shlex.join([*words, "--config", str(folder / CONFIG), "--out", "NEW"])
        rows.append((source.name, facts["data"]["dataset"], dates, versions, command))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    note = f"Report of {now}, by pointcmt {__version__}."
    columns = ("run", "dataset", "trained", "versions", "the command that trains it again")
    return Table("provenance", "Data, versions, commands", columns, tuple(rows), note)


def find_baseline(sources: list[Source], name: str | None) -> Source:
    """Return the run to compare with: the named one, or the first. Raises UsageError."""
    if name is None:
        return sources[0]
    by_name = {source.name: source for source in sources}
    if name not in by_name:
        raise UsageError(
            f"no run of this report is called '{name}'",
            where="baseline",
            fix=nearest(name, by_name),
        )
    return by_name[name]


def _defaults(source: Source) -> dict[str, Any]:
    return flatten(load_config(source.run.config.recipe).model_dump(mode="json"))


def _setting(table: dict[str, Any], key: str) -> str:
    return brief(table[key]).strip('"') if key in table else NONE


def _measure(source: Source, name: str) -> str:
    if name not in source.measures:
        return NONE
    text = _percent(source.measures[name])
    interval = (source.evaluation or {}).get(f"{name}_interval")
    return f"{text} [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else text


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _gain(gain: Difference | None) -> str:
    if gain is None or gain.value is None:
        return NONE
    text = f"{100 * gain.value:+.2f}"
    if gain.low is None or gain.high is None:
        return text
    return f"{text} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
