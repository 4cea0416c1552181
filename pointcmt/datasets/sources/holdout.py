"""Set shapes aside for the test in datasets that come without a test split."""

import hashlib
from collections import defaultdict
from dataclasses import replace

from pointcmt.datasets.sources.listing import Listing
from pointcmt.errors import UsageError


def hold_out(listing: Listing, share: float | None) -> Listing:
    """Return the listing with a share of each class of train moved into the test split.

    Of each class it is rounded, at least one shape, and at most all but one; shapes without a class
    count as one. The choice follows from the ids alone: it is the same in every store of these
    shapes. None = leave the splits as they are. Raises UsageError for a share outside of 0 to 1,
    and for a listing that has test shapes, or no train shape to spare.
    """
    if share is None:
        return listing
    if not 0 < share < 1:
        raise UsageError(
            f"{share:g} is not a share", where="--holdout", fix="use a number between 0 and 1: 0.2"
        )
    counts = listing.counts()
    if counts.get("test"):
        raise UsageError(
            f"{listing.name} has a test split of {counts['test']} shapes here",
            where="--holdout",
            fix="leave it out",
        )
    groups: dict[str | None, list[str]] = defaultdict(list)
    for shape in listing.shapes:
        if shape.split == "train":
            groups[shape.class_name].append(shape.id)
    chosen: set[str] = set()
    for ids in groups.values():
        count = min(max(1, round(share * len(ids))), len(ids) - 1)
        chosen.update(sorted(ids, key=_rank)[:count])
    if not chosen:
        raise UsageError(
            "no class has two train shapes, so none can be set aside for the test",
            where="--holdout",
            fix="leave it out, or list more shapes",
        )
    shapes = tuple(
        replace(shape, split="test") if shape.split == "train" and shape.id in chosen else shape
        for shape in listing.shapes
    )
    note = f"{len(chosen)} of {counts['train']} train shapes are set aside as the test split"
    return replace(listing, shapes=shapes, notes=(*listing.notes, note))


def _rank(shape_id: str) -> str:
    """Return a key that puts shapes in a random order that depends on nothing but their ids."""
    return hashlib.sha256(f"holdout {shape_id}".encode()).hexdigest()
