"""What a store says of itself: its root, its list of shapes and its commit markers.

A shard counts once its commit marker `commits/<stage>/<shard>.json` exists. The marker is written
last, lists the shard's files with their SHA-256 and says how each shape ended. docs/store.md
describes all files.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.datasets.store.claims import Claims
from pointcmt.datasets.store.documents import (
    Outcome,
    decode_marker,
    decode_outcome,
    kind_of_note,
    require_marker,
)
from pointcmt.datasets.store.file_checks import MISSING
from pointcmt.datasets.store.root import (
    generations,
    plan_of,
)
from pointcmt.datasets.store.schema import (
    COMMITS,
    CORRESPONDENCES,
    DONE,
    FAILED,
    PENDING,
    PLAN,
    RENDER,
    SCENES,
    SPLITS,
    Plan,
    Schema,
    ShapeRecord,
    array_specs,
    arrays_of,
    digest,
    encode_line,
    marker_key,
    schema_from_attributes,
    shard_key,
)
from pointcmt.datasets.store.storage import REPAIR, Storage
from pointcmt.errors import DamageError, UsageError

# The field of a commit marker that says how shapes ended; of features, what they were made from.
RESULTS = {RENDER: "outcomes", CORRESPONDENCES: "failures"}
_MARKER = re.compile(r"(\d+)\.json")


class StoreRecords:
    """The root, the list of shapes and the commit markers of a store.

    attributes: of the root, checked.
    """

    def __init__(self, storage: Storage, attributes: dict[str, Any]) -> None:
        self.storage, self.attributes = storage, attributes
        self.schema: Schema = schema_from_attributes(attributes)
        self.class_names: list[str] = attributes["class_names"]
        # Of scenes: the classes of points and pixels, and of boxes.
        self.semantic_names: list[str] = attributes.get("semantic_names", [])
        self.box_names: list[str] = attributes.get("box_names", [])
        self.generations = generations(attributes)  # its sizes so far, the present one last
        self.specs = array_specs(self.schema)  # of every array; `features` adds its own

    @property
    def path(self) -> str:
        """The folder or the URL."""
        return self.storage.path

    @cached_property
    def claims(self) -> Claims:
        """The claims on the store's shards."""
        return Claims(self.storage)

    @property
    def identity(self) -> str:
        """SHA-256 of everything that decides the store's bytes; commit markers repeat it.

        It reveals shards that were made for another store, in case two writers disagreed on whose
        root it is, and it allows a lost root to be written again with certainty.
        """
        return self.generations[-1].store

    def require_objects(self, what: str) -> None:
        """Raise UsageError for a store of scenes. what: what only works with shapes."""
        if self.schema.kind == SCENES:
            raise UsageError(
                f"this is a store of scenes, which {what} cannot use",
                where=self.path,
                fix="scenes can be rendered, verified, read and segmented (`info`, `verify`, "
                "`preview`, pc.open_store, `train semseg`, `train detect`)",
            )

    def is_named(self, identity: str) -> bool:
        """Return whether the store has, or had before it grew, this identity; "" = any."""
        return identity == "" or any(each.store == identity for each in self.generations)

    @cached_property
    def shapes(self) -> Plan:
        """The list of shapes, in the order of axis 0. Raises DamageError if missing or damaged."""
        data, where = self.storage.read(PLAN), self.storage.where(PLAN)
        if data is None:
            raise DamageError("the store's list of shapes is missing", where=where, fix=REPAIR)
        own = plan_of(data, self.generations[-1])  # longer for a moment while the store grows
        if own is None:
            raise DamageError("the list of shapes is damaged", where=where, fix=REPAIR)
        plan = Plan(own, where)
        if len(plan) != self.schema.shapes:
            what = (
                f"{len(plan)} shapes are listed, but the root zarr.json says {self.schema.shapes}"
            )
            raise DamageError(what, where=where, fix=REPAIR)
        return plan

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class index per shape, [O]; -1 = unknown."""
        return self._labels_and_splits[0]

    @cached_property
    def splits(self) -> NDArray[np.uint8]:
        """Split per shape, [O]: index into SPLITS."""
        return self._labels_and_splits[1]

    @cached_property
    def _labels_and_splits(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        found = [self.label_and_split(record) for record in self.shapes]
        labels, splits = zip(*found, strict=True)
        return np.array(labels, np.int64), np.array(splits, np.uint8)

    def label_and_split(self, record: ShapeRecord) -> tuple[int, int]:
        """Return a shape's values of `label` and `split`."""
        return self._class_index.get(record.class_name or "", -1), SPLITS.index(record.split)

    @cached_property
    def _class_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.class_names)}

    def committed(self, stage: str = RENDER) -> list[int]:
        """Return the shards that a stage has committed, in order, from the names of the markers.

        Those that have room for shapes added since do not count: see `unfinished`.
        """
        prefix, shards = f"{COMMITS}/{stage}/", self.schema.shards
        names = set(self.storage.list_keys(prefix, expected=shards))
        numbers = (_MARKER.fullmatch(name.removeprefix(prefix)) for name in names)
        found = {int(number[1]) for number in numbers if number}
        found -= {i for i in self._grown & found if self._is_unfinished(stage, i)}
        return sorted(i for i in found if i < shards and marker_key(stage, i) in names)

    @cached_property
    def _grown(self) -> set[int]:
        """Shards that were the last one once, not full, and can hold more shapes now."""
        size = self.schema.shard
        return {then.shapes // size for then in self.generations[:-1] if then.shapes % size}

    def _is_unfinished(self, stage: str, shard: int) -> bool:
        try:
            return self.unfinished(stage, shard) is not None
        except DamageError:  # found by whoever reads the marker
            return False

    def unfinished(self, stage: str, shard: int) -> dict[str, Any] | None:
        """Return the commit marker of a shard that was committed before it had all its shapes.

        None for any other shard. The shapes it had are kept when it is done again. Raises
        DamageError for a damaged marker.
        """
        key, shapes = marker_key(stage, shard), self.schema.shapes_of(shard)
        data = self.storage.read(key) if shard in self._grown else None
        if data is None:
            return None
        where = self.storage.where(key)
        marker = decode_marker(data, where)
        then = {each.store: each for each in self.generations[:-1]}.get(marker.get("store", ""))
        is_this = (marker["shard"], marker["stage"]) == (shard, stage)
        if then is None or then.covers(shapes) or not is_this:
            return None
        kept, own = then.shapes - shapes.start, self._keys(stage, shard)
        require_marker(marker, RESULTS.get(stage, "made_from"), own, kept, where)
        return marker

    def pending(self, stage: str = RENDER) -> list[int]:
        """Return the shards that a stage has not committed, in order."""
        _ = self.shapes  # checks the number of shapes, which a forged root may exaggerate
        return sorted(set(range(self.schema.shards)) - set(self.committed(stage)))

    def markers(
        self, stage: str = RENDER, shards: Iterable[int] | None = None
    ) -> dict[int, dict[str, Any]]:
        """Return commit markers by shard, all of them by default.

        Raises DamageError for a marker that is damaged or belongs to another store or shard.
        """
        return dict(self.each_marker(stage, shards))

    def each_marker(
        self,
        stage: str = RENDER,
        shards: Iterable[int] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield `markers` one by one, since those of a million shapes fill gigabytes.

        Without shards, the committed ones of a share: (i, n) = every n-th shard from the i-th on.
        """
        wanted = list(shards or [])
        if shards is None:
            wanted = [i for i in self.committed(stage) if i % share[1] == share[0]]
        keys = [marker_key(stage, shard) for shard in wanted]
        for shard, (key, data) in zip(wanted, self.storage.read_many(keys), strict=True):
            gone = data is None and self.storage.problem(key) in ("", MISSING)
            if not gone or shards is not None:  # else another job has just begun to redo the shard
                where = self.storage.where(key)
                marker = decode_marker(data or b"", where)
                if not self.owns(marker, stage, shard):
                    what = "this commit marker belongs to another shard or to another store"
                    raise DamageError(what, where=where, fix=REPAIR)
                own, count = self._keys(stage, shard), len(self.schema.shapes_of(shard))
                require_marker(marker, RESULTS.get(stage, "made_from"), own, count, where)
                yield shard, marker

    def _keys(self, stage: str, shard: int) -> set[str]:
        """Return the keys of the files that a stage writes for a shard."""
        names = arrays_of(self.schema, stage)
        return {shard_key(self.specs[name], name, shard) for name in names}

    def owns(self, marker: dict[str, Any], stage: str, shard: int) -> bool:
        """Return whether a marker is that of this shard and stage of this store."""
        shapes, owner = self.schema.shapes_of(shard), marker.get("store")
        return (marker["shard"], marker["stage"]) == (shard, stage) and any(
            each.store == owner and each.covers(shapes) for each in self.generations
        )

    def commit(self, stage: str, shard: int, marker: dict[str, Any]) -> None:
        """Write a shard's commit marker: from now on the shard counts."""
        marker = {"shard": shard, "stage": stage, "store": self.identity, **marker}
        marker["checksum"] = digest(encode_line(marker))
        self.storage.write(marker_key(stage, shard), encode_line(marker))

    def forget(self, shard: int, stage: str = RENDER) -> None:
        """Delete a shard's commit marker, and those of later stages, so that they run again."""
        for each in (CORRESPONDENCES, RENDER) if stage == RENDER else (stage,):
            self.storage.delete([marker_key(each, shard)])

    def ended(self, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each rendered shape and its encoded `Outcome`, in the order of axis 0."""
        for shard, marker in self.each_marker(share=share):
            yield from zip(self.schema.shapes_of(shard), marker["outcomes"], strict=True)

    def outcomes(self) -> list[Outcome | None]:
        """Return how each shape ended, in the order of axis 0; None = not rendered yet."""
        ended: list[Outcome | None] = [None] * len(self.shapes)
        for shape, table in self.ended():
            ended[shape] = decode_outcome(table)
        return ended

    def failures(self, share: tuple[int, int] = (0, 1)) -> tuple[Outcome, ...]:
        """Return the shapes of a share that failed at any stage, in the order of axis 0."""
        failed = {i: table for i, table in self.ended(share) if table["status"] == "failed"}
        for shard, marker in self.each_marker(CORRESPONDENCES, share=share):
            if marker["failures"]:
                shapes = {self.shapes[shape].id: shape for shape in self.schema.shapes_of(shard)}
                own = (table for table in marker["failures"] if table["id"] in shapes)
                failed |= {shapes[table["id"]]: table for table in own}
        return tuple(decode_outcome(failed[shape]) for shape in sorted(failed))

    def notes(self, share: tuple[int, int] = (0, 1)) -> dict[str, int]:
        """Return the number of shapes of a share by kind of note, the most common first."""
        kinds: Counter[str] = Counter()
        for _, table in self.ended(share):
            kinds.update({kind_of_note(note) for note in table["notes"]})
        return dict(kinds.most_common())

    def status(self) -> NDArray[np.uint8]:
        """Return PENDING, DONE or FAILED per shape, [O], from the commit markers."""
        codes = np.full(len(self.shapes), PENDING, np.uint8)
        for shape, table in self.ended():
            codes[shape] = DONE if table["status"] == "done" else FAILED
        return codes
