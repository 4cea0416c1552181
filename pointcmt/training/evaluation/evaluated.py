"""What every result of an evaluation says about how it came about."""

from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The run's recipe, and what was evaluated of it.

    split: of the store. which: the checkpoint, of the epoch `epoch`. votes: predictions that are
    averaged. notes: for the user, about the store. left_out: what belongs to classes that the run
    does not know, by class: shapes, points or boxes, as the recipe counts. ids: of the shapes or
    scenes.
    """

    recipe: str
    split: str
    which: str
    epoch: int
    votes: int
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    left_out: dict[str, int] = field(default_factory=dict, kw_only=True)
    ids: tuple[str, ...] = field(default=(), kw_only=True)
