"""Show messages, and progress as a bar, as lines or as JSON lines.

All output goes through the logger `pointcmt`. In Python nothing is shown unless logging is set up
(`logging.basicConfig(level="INFO")`, or `show_messages` for the same output as the commands).
"""

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pointcmt.errors import MOST_DETAIL, MOST_TEXT, printable, printable_text

logger = logging.getLogger("pointcmt")
LOG_FORMATS = ("auto", "plain", "json")
ABBREVIATIONS = ("ap25", "ap50", "ar25", "ar50")  # of metrics
EVERY = 10.0  # seconds between two reports of many small steps


def show_messages(log_format: str = "auto") -> None:
    """Send the package's messages and progress to standard error, as the commands do.

    log_format: "plain" for lines of text, "json" for one JSON object per line, "auto" for text with
    a progress bar if standard error is a terminal.
    """
    hide_messages()
    logger.addHandler(_Console(log_format))
    logger.setLevel(logging.INFO)


def hide_messages() -> None:
    """Discard the package's messages; the handlers of the root logger do not get them either."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


@contextmanager
def showing_messages(shown: bool = True) -> Iterator[None]:
    """Show messages and progress as the commands do during the `with` block, if `shown`."""
    before = list(logger.handlers), logger.propagate, logger.level
    if shown:
        show_messages()
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[:2]
        logger.setLevel(before[2])


class _Console(logging.Handler):
    """Write each message as one line to the current `sys.stderr`."""

    def __init__(self, log_format: str) -> None:
        super().__init__()
        self.log_format = log_format

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self.log_format == "json":
            facts = getattr(record, "facts", {})
            text = json.dumps({"time": round(record.created, 3), "message": text, **facts})
        else:
            text = printable(text, MOST_TEXT)
        print(text, file=sys.stderr, flush=True)


class Meter(Protocol):
    """Counts finished work."""

    def advance(self, count: int, note: str = "", **facts: Any) -> None: ...


def show(*parts: str) -> None:
    """Print one line of a result to standard output: the parts joined by ": ".

    Names may come from files: control characters and line breaks in them are made harmless.
    """
    print(": ".join(printable(part, MOST_TEXT) for part in parts))


def show_text(text: str) -> None:
    """Print a multi-line result to standard output, without control characters."""
    print(printable_text(text))


@contextmanager
def meter(title: str, total: int, unit: str) -> Iterator[Meter]:
    """Show the progress of `total` units: a bar, or one line per second and one for each failure.

    With JSON lines, print one whenever something finishes.
    """
    log_format = next((h.log_format for h in logger.handlers if isinstance(h, _Console)), "plain")
    if log_format == "auto" and sys.stderr.isatty():
        with _Bar(title, total, unit) as bar:
            yield bar
    else:
        yield _Lines(title, total, unit, often=log_format == "json")


def in_words(name: str) -> str:
    """Return a metric's display name: instance_miou → instance mIoU, ap25 → AP25."""
    words = name.replace("_", " ").replace("miou", "mIoU")
    return words.upper() if words in ABBREVIATIONS else words


def in_pixels(image: tuple[int, int]) -> str:
    """Format the height and width of an image: 224², or 320 × 240, the width first."""
    height, width = image
    return f"{width}²" if height == width else f"{width} × {height}"


def duration(seconds: float) -> str:
    """Format seconds as 0:42, 12:03 or 3:07:59."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    def __init__(self, title: str, total: int, unit: str, often: bool) -> None:
        self.title, self.total, self.unit, self.often = title, total, unit, often
        self.count, self.started = 0, time.monotonic()
        self.last_line = -math.inf

    def advance(self, count: int, note: str = "", **facts: Any) -> None:
        self.count += count
        now, finished = time.monotonic(), self.count >= self.total
        if not (self.often or note or finished or now - self.last_line >= 1):
            return
        self.last_line = now
        seconds = now - self.started
        rate = self.count / max(seconds, 1e-9)
        eta = (self.total - self.count) / max(rate, 1e-9)
        progress = f"{self.count}/{self.total} {self.unit}"
        text = f"{self.title}: {progress} · {rate:.1f}/s · ETA {duration(eta)}"
        text += f" · {note}" if note else ""
        numbers: dict[str, Any] = {
            "done": self.count,
            "total": self.total,
            "per_second": round(rate, 2),
        }
        numbers |= {"eta_seconds": round(eta, 1), **facts}
        logger.info(text, extra={"facts": numbers})


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
            TextColumn("{task.fields[note]}", markup=False),  # names may contain brackets
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
    """Combine many small steps into few large ones for a meter, which may print a line for each."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.count, self.reported = 0, time.monotonic()

    def advance(self, count: int, note: str = "", now: bool = False, **facts: Any) -> None:
        """Count finished work; report it if EVERY seconds have passed, or if `now`."""
        self.count += count
        if now or time.monotonic() - self.reported > EVERY:
            self.meter.advance(self.count, note, **facts)
            self.count, self.reported = 0, time.monotonic()
