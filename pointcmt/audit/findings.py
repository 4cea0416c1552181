"""What an audit finds, and what it does not look at."""

from dataclasses import dataclass, field
from typing import Any

CAMERAS, SCALE, FRAMING = "cameras", "scale", "framing"
EMPTY, DARK, BRIGHT, CROPPED = "empty views", "dark views", "washed-out views", "cropped views"
ACROSS, WITHIN = "duplicates across splits", "duplicates within a split"
CONFLICTS, UNSEEN = "conflicting labels", "unseen points"


@dataclass(frozen=True)
class Tile:
    """A view of a shape to show. note: below it, such as what is wrong with it."""

    shape: int
    view: int = 0
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """Something in the store that makes its scores wrong or unfair.

    what: a sentence. shapes: those concerned. rows: what to show, shapes that belong together in a
    row. facts: more fields for JSON.
    """

    kind: str
    what: str
    shapes: tuple[int, ...]
    rows: tuple[tuple[Tile, ...], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The result of one check: findings, what was looked at without one, and what was not."""

    findings: tuple[Finding, ...] = ()
    passed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            self.findings + other.findings,
            self.passed + other.passed,
            self.skipped + other.skipped,
        )


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number and its noun: 1 shape, 1,200 shapes."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
