"""Several view stores, read as one: their shapes one store after the other.

Nothing is written or copied. Classes and parts are joined by name: first those of the first store
in its order, then those that each later store adds. The stores must be rendered alike: the same
cameras, image size and number of points, and all other settings that change what a network sees.
Only `UNSEEN` ones may differ. Shapes are numbered over all stores, so the order of the stores
matters: other orders have other random numbers, and are other trainings.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pointcmt.console import logger
from pointcmt.datasets.store.locations import absolute
from pointcmt.datasets.store.schema import ArraySpec, Schema, ShapeRecord, digest, encode_json
from pointcmt.datasets.store.view_store import Share, StoreReader, ViewStore, joined
from pointcmt.errors import StoreError, UsageError, brief, differing, printable

UNSEEN = ("layers", "seed", "backend")  # render settings that may differ
DIMENSIONS = ("kind", "views", "size", "points", "depth_scale")  # of the schema
LABELS = 256  # values of a part label


def open_stores(
    places: Sequence[str | Path | ViewStore], features: str | Path | None = None
) -> StoreReader:
    """Open a store, or join several. features: as in `ViewStore.open`, for all of them.

    Raises StoreError where there is no readable store or for stores that were rendered with other
    settings, UsageError for no store or one that is given twice.
    """
    stores = [
        place if isinstance(place, ViewStore) else ViewStore.open(place, features=features)
        for place in places
    ]
    return stores[0] if len(stores) == 1 else JointStore(stores)


class JointStore:
    """Two or more stores, open for reading. members: in order. class_names: of all."""

    def __init__(self, members: Sequence[ViewStore]) -> None:
        self.members = tuple(members)
        _require_different(self.members)
        _require_alike(self.members)
        self.class_names = _join_names([member.class_names for member in self.members])
        self._of_class = [match_names(m.class_names, self.class_names) for m in self.members]
        counts = [member.schema.shapes for member in self.members]
        self._first = np.cumsum([0, *counts])  # of each store, and the total
        parts = [self._join_parts(number) for number in range(len(self.members))]
        self._part_orders = parts if self.schema.parts else [None] * len(parts)

    def __reduce__(self) -> tuple[Any, ...]:  # another process opens the stores by itself
        return type(self)._reopen, tuple(member.__reduce__() for member in self.members)

    @classmethod
    def _reopen(cls, *made: tuple[Any, ...]) -> Self:
        return cls([open_one(*place) for open_one, place in made])

    @property
    def path(self) -> str:
        """The locations, for messages."""
        return ", ".join(member.path for member in self.members)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """What describes all stores together, under the names of a store's own attributes."""
        each = [member.attributes for member in self.members]
        names = dict.fromkeys(attributes["source"]["name"] for attributes in each)
        hashes = {attributes["render_hash"]: None for attributes in each}
        plans = [attributes["plan_sha256"] for attributes in each]
        return {
            "source": {"name": " + ".join(names)},
            "class_names": self.class_names,
            "part_names": self._part_names,
            "plan_sha256": digest(encode_json(plans)),
            "render_hash": min(hashes) if len(hashes) == 1 else digest(encode_json([*hashes])),
            "render": each[0]["render"],
        }

    @cached_property
    def schema(self) -> Schema:
        """The dimensions of all stores together. Shards are those of each store alone."""
        each = [member.schema for member in self.members]
        layers = (name for name in each[0].layers if all(name in one.layers for one in each))
        return replace(
            each[0],
            shapes=int(self._first[-1]),
            shard=max(one.shard for one in each),
            layers=tuple(layers),
            parts=all(one.parts for one in each),
        )

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """The arrays that every store has, including open features."""
        first, *others = (member.specs for member in self.members)
        return {name: spec for name, spec in first.items() if all(name in o for o in others)}

    @cached_property
    def shapes(self) -> "JointShapes":
        """The shapes of all stores. Ids may repeat in different stores."""
        return JointShapes(self)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index per shape, [O]; -1 = unknown."""
        own = zip(self.members, self._of_class, strict=True)
        return np.concatenate([np.append(of, -1)[member.labels] for member, of in own])

    @cached_property
    def splits(self) -> NDArray[np.uint8]:
        """Split per shape, [O], as each store has it."""
        return np.concatenate([member.splits for member in self.members])

    def status(self) -> NDArray[np.uint8]:
        """Return PENDING, DONE or FAILED per shape, [O]."""
        return np.concatenate([member.status() for member in self.members])

    def shares(self, shapes: NDArray[np.int64]) -> list[Share]:
        """Return which of these shapes are in which store, in the order of the stores."""
        number = np.searchsorted(self._first, shapes, side="right") - 1
        found = []
        for n in np.unique(number).tolist() or [0]:  # one even for no shapes
            rows = np.flatnonzero(number == n)
            own = shapes[rows] - self._first[n]
            found.append(Share(n, self.members[n], rows, own, self._part_orders[n]))
        return found

    def read(self, name: str, shapes: NDArray[np.int64]) -> NDArray[Any]:
        """Return `array[shapes]`, [n, ...]. Raises like `ViewStore.read`."""
        shares = self.shares(np.asarray(shapes, np.int64))
        return joined([share.read(name) for share in shares], shares)

    def require_complete(self) -> None:
        """Raise DamageError unless every file of the committed shards of all stores exists."""
        for member in self.members:
            member.require_complete()

    @cached_property
    def _part_names(self) -> dict[str, list[str]]:
        """Names by class: those of the first store that has them."""
        names: dict[str, list[str]] = {}
        for member, of_class in zip(self.members, self._of_class, strict=True):
            own = member.attributes.get("part_names") or {}
            for name, joint in zip(member.class_names, of_class.tolist(), strict=True):
                if own.get(name):
                    names.setdefault(self.class_names[joint], list(own[name]))
        return names

    def _join_parts(self, number: int) -> NDArray[np.uint8] | None:
        """Return the joint part labels of a store's classes, [C, 256]; None if they are the same.

        Raises StoreError for a class that two stores divide into other parts.
        """
        member, of_class = self.members[number], self._of_class[number]
        own = member.attributes.get("part_names") or {}
        order = np.tile(np.arange(LABELS, dtype=np.uint8), (len(member.class_names), 1))
        for label, name in enumerate(member.class_names):
            theirs, joint = own.get(name), self.class_names[of_class[label]]
            if not theirs or list(theirs) == (names := self._part_names[joint]):
                continue
            if sorted(theirs) != sorted(names):
                raise StoreError(
                    f"the stores divide {printable(joint)} into different parts: "
                    f"{', '.join(theirs)} in this one, {', '.join(names)} in an earlier one",
                    where=member.path,
                    fix="train on stores whose common classes have the same parts",
                )
            order[label, : len(names)] = [names.index(part) for part in theirs]
        return order if np.any(order != np.arange(LABELS)) else None


class JointShapes:
    """The records of all shapes, each decoded on access."""

    def __init__(self, store: JointStore) -> None:
        self._plans = [member.shapes for member in store.members]
        self._first = store._first

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, shape: int) -> ShapeRecord:
        number = int(np.searchsorted(self._first, shape, side="right")) - 1
        return self._plans[number][int(shape - self._first[number])]

    def __iter__(self) -> Iterator[ShapeRecord]:
        return (record for plan in self._plans for record in plan)


def match_names(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """Return the index in `known` of each name, -1 for those that are not in it.

    A name that differs only in case, spaces, `_` or `-` is the same, unless several do.
    """
    exact = {name: index for index, name in enumerate(known)}
    folded = Counter(map(_fold, known))
    loose = {_fold(name): i for i, name in enumerate(known) if folded[_fold(name)] == 1}
    taken = {exact[name] for name in names if name in exact}
    mine = Counter(map(_fold, names))
    found = []
    for name in names:
        index = exact.get(name, -1)
        if index < 0 and mine[_fold(name)] == 1:
            index = loose.get(_fold(name), -1)
            index = -1 if index in taken else index
        found.append(index)
    return np.array(found, np.int64)


def describe_difference(key: str, values: tuple[Any, Any], places: tuple[str, str]) -> str:
    """Return one line about a render setting that two stores do not share."""
    names = [value.get("name") if isinstance(value, dict) else value for value in values]
    if names[0] == names[1]:
        return f"{key}: different cameras with the same name, {brief(names[0])}"
    return f"{key}: {brief(names[0])} in {places[0]}, {brief(names[1])} in {places[1]}"


def _join_names(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return the classes of all stores, each once. Raises no error: no two may clash."""
    joint: list[str] = []
    for names in lists:
        unknown = match_names(names, joint) < 0
        joint += [name for name, new in zip(names, unknown, strict=True) if new]
    return joint


def _require_different(members: Sequence[ViewStore]) -> None:
    """Raise UsageError for a store that is given twice; note stores that hold the same shapes."""
    if not members:
        raise UsageError("no store is given", where="--data", fix="pass at least one")
    seen: dict[str, ViewStore] = {}
    same: dict[str, ViewStore] = {}
    for member in members:
        place = absolute(member.path)
        if place in seen:
            raise UsageError(
                "this store is given twice", where=f"--data {member.path}", fix="pass it once"
            )
        seen[place] = member
        if member.identity in same:
            logger.warning(
                f"note: {member.path} lists the same shapes as {same[member.identity].path}; if "
                "it is a copy, each of them counts twice"
            )
        same.setdefault(member.identity, member)


def _require_alike(members: Sequence[ViewStore]) -> None:
    """Raise StoreError for stores that were rendered with other settings, naming these."""
    first = members[0]
    settings, *others = (_settings(member) for member in members)
    for member, own in zip(members[1:], others, strict=True):
        places = first.path, member.path
        lines = [
            describe_difference(key, values, places)
            for key, values in differing(settings, own).items()
        ]
        if lines:
            raise StoreError(
                "stores can only be joined if they were rendered with the same settings:\n  "
                + "\n  ".join(lines),
                where=member.path,
                fix="render one of them again with the settings of the other; only "
                f"{', '.join(UNSEEN)} may differ",
            )


def _settings(store: ViewStore) -> dict[str, Any]:
    """Return all settings that must be the same."""
    render = {key: v for key, v in store.attributes["render"].items() if key not in UNSEEN}
    return {**{name: getattr(store.schema, name) for name in DIMENSIONS}, **render}


def _fold(name: str) -> str:
    """Return a name as it is compared."""
    return "".join(c for c in name.casefold() if c not in " _-")
