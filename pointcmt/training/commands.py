"""What `pointcmt train` and the probes of `evaluate` run, and what they say at the end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointcmt.console import in_words
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.training.config.pointcmt import PIPELINE, PipelineConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.probe import FewShot, parse_episodes, probe
from pointcmt.training.loop import Result, score_of, train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.run import LOSS
from pointcmt.training.study import study


@dataclass(frozen=True)
class Told:
    """The last words of a command: for people, and for `--json`."""

    text: str
    facts: dict[str, Any]


def train_command(
    store: ViewStore,
    config: TrainConfig | PipelineConfig,
    seeds: tuple[int, ...],
    out: Path,
    device: str,
) -> Told:
    """Train one run, a pipeline, or either with several seeds. Raises as what it calls."""
    if seeds:
        found = study(store, config, seeds, out, device)
        if found is None:  # a process that only helps
            return Told("", {})
        return Told(found.describe(), found.as_json())
    if isinstance(config, PipelineConfig):
        results = train_pipeline(store, config, out, device)
        lines = [_summary(out / name, result) for name, result in results.items()]
        student = results["student"].as_json()
        stages = {name: result.as_json() for name, result in results.items()}
        return Told("\n".join(lines), {**student, "recipe": PIPELINE, "stages": stages})
    result = train(store, config, out, device)
    return Told(_summary(out, result), result.as_json())


def probe_command(
    folder: Path,
    store: ViewStore,
    svm: bool,
    few_shot: str,
    which: str,
    device: str,
) -> Told:
    """Probe a run's frozen features. few_shot: as `parse_episodes`. Raises as what it calls."""
    episodes = parse_episodes(few_shot) if few_shot else ()
    found = probe(folder, store, svm, episodes, which, device)
    facts: dict[str, Any] = {}
    for result in found:
        if isinstance(result, FewShot):
            facts.setdefault("few_shot", {})[result.name] = result.as_json()
        else:
            facts["svm"] = result.as_json()
    return Told("\n".join(result.describe() for result in found), facts)


def _summary(out: Path, result: Result) -> str:
    key = score_of(result.best)
    what = "validation " + in_words(key.removeprefix("val_"))
    best, last = (
        f"{record[key]:.4f}" if key == LOSS else f"{record[key]:.1%}"
        for record in (result.best, result.last)
    )
    text = (
        f"{out}: {result.recipe}, {result.epochs} epochs; {what} {best} at epoch "
        f"{result.best['epoch']} (best), {last} (last)"
    )
    return f"{text}\n  {result.cost.describe()}" if result.cost else text
