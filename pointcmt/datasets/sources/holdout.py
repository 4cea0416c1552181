"""Set shapes aside for the test in datasets that come without a test split.

Every shape is decided by itself: a hash of the seed, its class and its id gives a number from 0 to
1, and the shapes below the share are the test split. So the choice of a shape stays the same
whatever is added to the dataset or removed from it. The price is that a class of n shapes gets
about n · share test shapes, not exactly as many, with the standard deviation
√(n · share · (1 - share)) of any choice in which no shape depends on the others. Small classes may
get none.
"""

import hashlib
import math
from collections import Counter
from dataclasses import replace

from pointcmt.datasets.sources.listing import Listing
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import UsageError, printable

MOST_NAMED = 5  # classes in a note


def hold_out(listing: Listing, share: float | None, seed: int = 0) -> Listing:
    """Return the listing with about a share of each class of train moved into the test split.

    The choice of a shape follows from the seed, its class and its id alone; for a scene, from its
    space, so that all scenes of a room are in the same split. Shapes without a class count as one
    class. Notes say how large the test split is, and which classes lack test or train
    shapes. None = leave the splits as they are. Raises UsageError for a share outside of 0 to 1,
    and for a listing that has test shapes, or whose train shapes all end up in one split.
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
    shapes = tuple(
        replace(shape, split="test")
        if shape.split == "train" and place(_space(shape, listing), seed) < share
        else shape
        for shape in listing.shapes
    )
    tested, trained = (
        Counter(shape.class_name for shape in shapes if shape.split == split)
        for split in ("test", "train")
    )
    if not tested or not trained:
        raise UsageError(
            f"this puts {'none' if not tested else 'all'} of the {counts.get('train', 0)} train "
            "shapes into the test split",
            where="--holdout",
            fix=f"use a {'larger' if not tested else 'smaller'} share, another --seed, or more "
            "shapes",
        )
    notes = (
        f"{tested.total()} of {counts['train']} train shapes are set aside as the test split",
        *_lacking(tested, trained),
    )
    return replace(listing, shapes=shapes, notes=(*listing.notes, *notes))


def place(shape: ShapeRecord, seed: int) -> float:
    """Return a number from 0 to 1 that depends on nothing but the seed, the class and the id."""
    key = f"holdout {seed}\n{shape.class_name or ''}\n{shape.id}"
    first = hashlib.sha256(key.encode()).digest()[:8]
    return math.ldexp(int.from_bytes(first, "big") >> 11, -53)  # as exact as a float64 can be


def _space(shape: ShapeRecord, listing: Listing) -> ShapeRecord:
    """Return the shape as its space, if it has one: scans of a space may differ in their class."""
    space = listing.spaces.get(shape.id)
    return shape if space is None else replace(shape, id=space, class_name=None)


def _lacking(tested: Counter[str | None], trained: Counter[str | None]) -> list[str]:
    """Return notes on the classes all of whose shapes are in one of the two splits."""
    notes = []
    for split, present, other in (("test", tested, trained), ("train", trained, tested)):
        absent = sorted(name for name in other if name is not None and name not in present)
        if absent:
            named = ", ".join(printable(name) for name in absent[:MOST_NAMED])
            more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
            have = "1 class has" if len(absent) == 1 else f"{len(absent)} classes have"
            notes.append(f"{have} no {split} shapes: {named}{more}")
    return notes
