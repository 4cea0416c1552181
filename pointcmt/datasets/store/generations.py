"""The sizes that a store has had: it may grow at its end, and what is there stays as it is.

A commit marker names the identity that the store had when the shard was committed. The root lists
the earlier ones in `grown_from`, so that old markers remain valid: all except that of a shard that
was the last one, was not full, and has room for new shapes now.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from pointcmt.datasets.store.schema import ShapeRecord, digest, encode_json
from pointcmt.errors import StoreError, differing

GROWN_FROM = "grown_from"
NAMED = 5  # shapes in a message


@dataclass(frozen=True)
class Generation:
    """One size of a store. shapes: O then. plan_sha256: of the list of shapes. store: identity."""

    shapes: int
    plan_sha256: str
    store: str

    def covers(self, shapes: range) -> bool:
        """Return whether the store had all these shapes (indices of axis 0) then."""
        return shapes.stop <= self.shapes


def identity(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that must agree for two runs to fill the same store."""
    keys = ("schema_version", "schema", "render", "class_names", "plan_sha256")
    source = {"dataset": attributes["source"]["name"], "up": attributes["source"]["up"]}
    return {**source, **{key: attributes[key] for key in keys}}


def identity_digest(attributes: dict[str, Any]) -> str:
    """Return `identity` as a SHA-256."""
    return digest(encode_json(identity(attributes)))


def generations(attributes: dict[str, Any]) -> tuple[Generation, ...]:
    """Return all sizes that a store of these root attributes has had, the present one last."""
    earlier = [
        Generation(table["shapes"], table["plan_sha256"], table["store"])
        for table in attributes.get(GROWN_FROM, [])
    ]
    now = attributes["schema"]["shapes"], attributes["plan_sha256"], identity_digest(attributes)
    return *earlier, Generation(*now)


def encode_generations(found: tuple[Generation, ...]) -> list[dict[str, Any]]:
    """Return what the root stores of earlier sizes."""
    return [asdict(generation) for generation in found]


def plan_of(data: bytes, generation: Generation) -> bytes | None:
    """Return a generation's list of shapes from a file that may have been extended since.

    None if the file does not begin with it.
    """
    if digest(data) == generation.plan_sha256:
        return data
    ends = list(islice(_line_ends(data), generation.shapes))
    first = data[: ends[-1]] if len(ends) == generation.shapes > 0 else b""
    return first if digest(first) == generation.plan_sha256 else None


def _line_ends(data: bytes) -> Iterator[int]:
    end = data.find(b"\n") + 1
    while end:
        yield end
        end = data.find(b"\n", end) + 1


def for_more_shapes(asked: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return a root's attributes as they would be for the shapes that a store has."""
    schema = {**asked["schema"], "shapes": stored["schema"]["shapes"]}
    same = {key: stored[key] for key in ("class_names", "plan_sha256")}
    return {**asked, **same, "schema": schema}


def additions(
    stored: Iterable[ShapeRecord], asked: Sequence[ShapeRecord], where: str
) -> list[ShapeRecord]:
    """Return the shapes that a store lacks, in the order asked for.

    where: the store. Raises StoreError, with their names, for shapes of the store that are not
    asked for, or that are described differently.
    """
    wanted = {record.id: record for record in asked}
    missing, different = [], []
    for record in stored:
        found = wanted.pop(record.id, None)
        if found is None:
            missing.append(record.id)
        elif found != record:
            changes = differing(vars(record), vars(found))
            what = ", ".join(f"{key}: {a} in the store, {b} now" for key, (a, b) in changes.items())
            different.append(f"{record.id} ({what})")
    problems = []
    if missing:
        problems.append(f"{len(missing)} of its shapes are not there now: {named(missing)}")
    if different:
        problems.append(f"{len(different)} are described differently: {named(different)}")
    if problems:
        more = f"; {len(wanted)} are new: {named(list(wanted))}" if wanted else ""
        raise StoreError(
            f"this store was made of other shapes: {'; '.join(problems)}{more}",
            where=where,
            fix="a store can gain shapes but not lose them: use the dataset, --split and --limit "
            "that it was made with, choose another --out, or use --overwrite",
        )
    return list(wanted.values())


def named(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
