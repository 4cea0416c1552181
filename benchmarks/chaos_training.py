"""Damage to a store during training; the second half of chaos.py.

Chunk files disappear before, during and after training, a copy is interrupted, and a foreign file
lies in every folder of the store and of the run. Each loss must be named by the command that finds
it; after `pointcmt verify --repair` the same command continues. The run must end with the weights
and metrics of an undisturbed run, the store with its original bytes, and foreign files unchanged.
"""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kill import fingerprint

FAULTS = (
    "a chunk file disappears before training",
    "a chunk file disappears during training",
    "a chunk file disappears after training",
    "a copy is interrupted",
    "a foreign file lies in every folder",
)
ARRAYS = ("rgb", "points", "visible")
FOREIGN = ("notes.txt", ".nfs0000000000000001", ".ipynb_checkpoints/notes-checkpoint.txt")
EPOCHS, LONG = 3, 8  # epochs before the second fault, and in total
SMALL = ["model.backbone=pointnet", "data.points=128", "data.batch_size=4"]
TIMES = ("samples_per_second", "data_wait", "seconds")  # metrics that always differ
LOST = "is missing or unreadable"


@dataclass(frozen=True)
class Trainer:
    """The commands of one store. command: makes a command line from pointcmt's arguments."""

    store: Path
    run: Path
    meshes: Path
    command: Callable[..., list[str]]

    def train(self) -> list[str]:
        settings = [word for setting in SMALL for word in ("--set", setting)]
        where = ["--data", self.store, "--out", self.run, "--device", "cpu", "--seed", "3"]
        return self.command("train", "student", *where, "--epochs", LONG, *settings)

    def evaluate(self) -> list[str]:
        return self.command("evaluate", self.run, "--data", self.store, "--device", "cpu", "--json")

    def repair(self) -> None:
        done = self.do(self.command("verify", self.store, "--root", self.meshes, "--repair"))
        require(done.returncode == 0, done, "the repair ends well")

    def must_name_a_loss(self, command: list[str]) -> None:
        done = self.do(command)
        require(done.returncode == 1 and LOST in done.stderr, done, "the loss is named")

    def do(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True)


def train_disturbed(
    folder: Path,
    store: Path,
    meshes: Path,
    command: Callable[..., list[str]],
    chance: random.Random,
    losses: int = 3,
) -> Counter[str]:
    """Train from a complete store while its files disappear; return the number of each fault.

    losses: how many arrays lose a file after training. Exits if anything is wrong.
    """
    quiet = Trainer(store, folder / "run", meshes, command)
    done = quiet.do(quiet.train())
    require(done.returncode == 0, done, "undisturbed training ends well")
    expected, whole = outcome(quiet), fingerprint(store)

    happened: Counter[str] = Counter()
    loud = Trainer(store, folder / "disturbed", meshes, command)
    foreign = lay_foreign(store)
    lose_chunk(store, "points", chance)
    loud.must_name_a_loss(loud.train())
    if loud.run.exists():
        sys.exit("a run was begun from a store with a lost file")
    loud.repair()
    happened[FAULTS[0]] += 1

    lose_while_training(loud, chance)
    foreign |= lay_foreign(loud.run)
    loud.repair()
    done = loud.do(loud.train())
    require(done.returncode == 0, done, "the same command finishes the run")
    happened[FAULTS[1]] += 1

    for name in ARRAYS[:losses]:
        lose_chunk(store, name, chance)
        loud.must_name_a_loss(loud.evaluate())
        loud.must_name_a_loss(command("info", store))
        loud.repair()
        happened[FAULTS[2]] += 1
    if outcome(loud) != expected:
        sys.exit("the disturbed run is not the undisturbed one")

    copy = Trainer(
        interrupted_copy(store, folder / "copy", chance), folder / "never", meshes, command
    )
    for line in (copy.train(), command("info", copy.store)):
        copy.must_name_a_loss(line)
    copy.repair()
    if own_files(copy.store) != whole or own_files(store) != whole:
        sys.exit("a store is not what it was")
    happened[FAULTS[3]] += 1

    for path, text in foreign.items():
        if path.read_text() != text:
            sys.exit(f"{path} was touched")
    happened[FAULTS[4]] += len(foreign)
    for path in foreign:
        path.unlink()
    return happened


def lose_while_training(trainer: Trainer, chance: random.Random) -> None:
    """Train for some epochs, delete chunk files, and wait for the run to end."""
    process = subprocess.Popen(
        trainer.train(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    metrics = trainer.run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= EPOCHS):
        if process.poll() is not None:
            sys.exit(f"training ended early:\n{process.stderr and process.stderr.read()}")
        time.sleep(0.01)
    for path in chunks(trainer.store, "points"):
        path.unlink()  # all of them, since the shards of the next batches are random
    _, said = process.communicate()
    done = subprocess.CompletedProcess(trainer.train(), process.returncode, "", said)
    require(done.returncode == 1 and LOST in said, done, "the loss ends the run, and is named")


def outcome(trainer: Trainer) -> tuple[object, ...]:
    """Return weights, metrics and scores of a finished run."""
    weights = [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(trainer.run.glob("*/weights-*.safetensors"))
    ]
    lines = (trainer.run / "metrics.jsonl").read_text().splitlines()
    metrics = [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]
    done = trainer.do(trainer.evaluate())
    require(done.returncode == 0, done, "evaluation ends well")
    scores = json.loads(done.stdout.splitlines()[-1])
    named = ("overall_accuracy", "mean_class_accuracy", "per_class")
    return weights, metrics, {key: scores[key] for key in named}


def chunks(store: Path, name: str) -> list[Path]:
    """Return the chunk files of an array."""
    files = sorted(path for path in (store / name / "c").rglob("*") if path.is_file())
    return [path for path in files if path.name.isdigit()]


def lose_chunk(store: Path, name: str, chance: random.Random) -> None:
    chance.choice(chunks(store, name)).unlink()


def interrupted_copy(store: Path, target: Path, chance: random.Random) -> Path:
    """Make a partial copy; in the order of names, commit markers are copied before images."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    own = [path for path in files if not is_foreign(path.relative_to(store))]
    heads = [path for path in own if "/c/" not in path.as_posix()]
    images = [path for path in own if "/c/" in path.as_posix()]
    for path in heads + images[: chance.randrange(len(images) // 4, len(images) * 3 // 4)]:
        place = target / path.relative_to(store)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target


def lay_foreign(folder: Path) -> dict[Path, str]:
    """Put foreign files into a folder and its subfolders; return them and their texts."""
    laid = {}
    for place in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        for name in FOREIGN:
            path = place / name
            path.parent.mkdir(exist_ok=True)
            laid[path] = f"not yours: {path}"
            path.write_text(laid[path])
    return laid


def is_foreign(path: Path) -> bool:
    return path.as_posix().endswith(FOREIGN)


def own_files(store: Path) -> dict[str, str]:
    """Return the fingerprint of a store without foreign files."""
    return {key: sha256 for key, sha256 in fingerprint(store).items() if not is_foreign(Path(key))}


def require(right: bool, done: "subprocess.CompletedProcess[str]", what: str) -> None:
    """Exit with a command's output unless it did what it should."""
    if not right:
        sys.exit(
            f"not so: {what}: {done.args[2:4]} ended with {done.returncode}\n"
            f"{done.stdout}\n{done.stderr}"
        )
