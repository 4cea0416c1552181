"""Run `pointcmt train` and the probes of `evaluate`, and describe the results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointcmt.console import in_words
from pointcmt.datasets.store.view_store import StoreReader
from pointcmt.training.config.pointcmt import PIPELINE, PipelineConfig
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.evaluation.probe import FewShot, parse_episodes, probe
from pointcmt.training.loop import Result, train
from pointcmt.training.pipeline import train_pipeline
from pointcmt.training.runs.metrics import LOSS, score_name
from pointcmt.training.study import study


@dataclass(frozen=True)
class Outcome:
    """The result of a command: as text, and as facts for `--json`."""

    text: str
    facts: dict[str, Any]


def train_command(
    store: StoreReader,
    config: TrainConfig | PipelineConfig,
    seeds: tuple[int, ...],
    out: Path,
    device: str,
) -> Outcome:
    """Train one run, a pipeline, or either with several seeds.

    Raises like `train`, `train_pipeline` and `study`.
    """
    if seeds:
        result = study(store, config, seeds, out, device)
        if result is None:  # not the main process
            return Outcome("", {})
        return Outcome(result.describe(), result.as_json())
    if isinstance(config, PipelineConfig):
        results = train_pipeline(store, config, out, device)
        lines = [_summary(out / name, result) for name, result in results.items()]
        student = results["student"].as_json()
        stages = {name: result.as_json() for name, result in results.items()}
        return Outcome("\n".join(lines), {**student, "recipe": PIPELINE, "stages": stages})
    run = train(store, config, out, device)
    return Outcome(_summary(out, run), run.as_json())


def probe_command(
    folder: Path,
    store: StoreReader,
    svm: bool,
    few_shot: str,
    which: str,
    device: str,
) -> Outcome:
    """Probe a run's frozen features. few_shot: see `parse_episodes`. Raises like `probe`."""
    episodes = parse_episodes(few_shot) if few_shot else ()
    results = probe(folder, store, svm, episodes, which, device)
    facts: dict[str, Any] = {}
    for result in results:
        if isinstance(result, FewShot):
            facts.setdefault("few_shot", {})[result.name] = result.as_json()
        else:
            facts["svm"] = result.as_json()
    return Outcome("\n".join(result.describe() for result in results), facts)


def _summary(out: Path, result: Result) -> str:
    key = score_name(result.best)
    if key not in result.best:
        text = f"{out}: {result.recipe}, {result.epochs} epochs, without validation"
        return f"{text}\n  {result.cost.describe()}" if result.cost else text
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
