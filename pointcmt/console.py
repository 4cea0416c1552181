"""What the user sees while work goes on: a bar with an ETA, plain lines, or JSON lines."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pointcmt.errors import MOST_DETAIL, MOST_TEXT, printable, printable_text

LOG_FORMATS = ("auto", "plain", "json")
SILENT = "silent"  # of processes that only help
EVERY = 10.0  # seconds between two reports of many small steps


class Meter(Protocol):
    """Counts finished work."""

    def advance(self, count: int, note: str = "", **facts: Any) -> None: ...


def say(text: str, log_format: str = "auto", **facts: Any) -> None:
    """One message about the run, to standard error (as a JSON line if asked)."""
    if log_format == SILENT:
        return
    if log_format == "json":
        text = json.dumps({"time": round(time.time(), 3), "message": text, **facts})
    else:
        text = printable(text, MOST_TEXT)
    print(text, file=sys.stderr, flush=True)


def show(*parts: str) -> None:
    """Print one line of a result to standard output: parts with a colon and a space between them.

    Names come from files: whatever they hold, it stays on this line and commands no terminal.
    """
    print(": ".join(printable(part, MOST_TEXT) for part in parts))


def show_text(text: str) -> None:
    """Print a result of several lines to standard output, without control characters."""
    print(printable_text(text))


@contextmanager
def meter(title: str, total: int, unit: str, log_format: str = "auto") -> Iterator[Meter]:
    """Progress of `total` units: a bar on a terminal, else a line a second or for each trouble.

    As JSON, a line whenever something finishes.
    """
    if log_format == "auto" and sys.stderr.isatty():
        with _Bar(title, total, unit) as bar:
            yield bar
    else:
        yield _Lines(title, total, unit, log_format)


def in_words(name: str) -> str:
    """A measure's name for people: instance_miou → instance mIoU."""
    return name.replace("_", " ").replace("miou", "mIoU")


def duration(seconds: float) -> str:
    """Seconds as 0:42, 12:03 or 3:07:59."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    def __init__(self, title: str, total: int, unit: str, log_format: str) -> None:
        self.title, self.total, self.unit, self.log_format = title, total, unit, log_format
        self.count, self.started = 0, time.monotonic()
        self.said = -math.inf

    def advance(self, count: int, note: str = "", **facts: Any) -> None:
        self.count += count
        now, finished = time.monotonic(), self.count >= self.total
        if self.log_format != "json" and not (note or finished or now - self.said >= 1):
            return
        self.said = now
        seconds = now - self.started
        rate = self.count / max(seconds, 1e-9)
        eta = (self.total - self.count) / max(rate, 1e-9)
        progress = f"{self.count}/{self.total} {self.unit}"
        text = f"{self.title}: {progress} · {rate:.1f}/s · ETA {duration(eta)}"
        text += f" · {note}" if note else ""
        numbers = {"done": self.count, "total": self.total, "per_second": round(rate, 2)}
        say(text, self.log_format, **numbers, eta_seconds=round(eta, 1), **facts)


class _Bar:
    def __init__(self, title: str, total: int, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} " + unit, markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),  # names may hold brackets
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task(title, total=total, rate="", note="")
        self.started = time.monotonic()

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def advance(self, count: int, note: str = "", **facts: Any) -> None:
        self.progress.advance(self.task, count)
        done = self.progress.tasks[0].completed
        rate = done / max(time.monotonic() - self.started, 1e-9)
        self.progress.update(self.task, rate=f"{rate:.1f}/s", note=printable(note, MOST_DETAIL))


class Paced:
    """Hands many small steps to a meter, which may print a line for each, as few large ones."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.count, self.reported = 0, time.monotonic()

    def advance(self, count: int, note: str = "", now: bool = False, **facts: Any) -> None:
        """Count finished work; reported if some seconds have passed, or `now`."""
        self.count += count
        if now or time.monotonic() - self.reported > EVERY:
            self.meter.advance(self.count, note, **facts)
            self.count, self.reported = 0, time.monotonic()
