"""What `predict` is asked about: rendered shapes or scenes of stores; files, folders, objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointcmt.api.stores import ViewStore, open_store
from pointcmt.datasets.enclosing import is_store
from pointcmt.datasets.store.locations import is_remote
from pointcmt.datasets.store.schema import DONE, SCENES, SPLITS
from pointcmt.errors import StoreError, UsageError, printable
from pointcmt.extras import needs
from pointcmt.shapes import Cloud, Mesh
from pointcmt.training.config.sections import TrainConfig
from pointcmt.training.runs.store_kinds import require_kind

if TYPE_CHECKING:
    from pointcmt.api.files import Entry

AnyTarget = str | Path | ViewStore | Mesh | Cloud


@dataclass(frozen=True, eq=False)
class Target:
    """What one target holds: rendered shapes of a store, or entries to load."""

    name: str
    store: ViewStore | None = None
    shapes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    entries: "Sequence[Entry]" = ()

    @property
    def count(self) -> int:
        """The number of shapes."""
        return len(self.shapes) if self.store is not None else len(self.entries)

    @classmethod
    def open(
        cls, target: AnyTarget, number: int, split: str | None, config: TrainConfig
    ) -> "Target":
        """Open a store or list files, for a run of this configuration.

        Raises StoreError for a store without rendered shapes, UsageError for one of scenes if the
        run reads shapes, and the reverse.
        """
        scenes = config.reads == SCENES
        if not isinstance(target, ViewStore | Mesh | Cloud):
            if not str(target):
                raise UsageError("the path is empty", where="TARGET", fix="pass a path")
            if is_remote(str(target)) or is_store(Path(target)):
                target = open_store(target)
        if not isinstance(target, ViewStore):
            with needs("render", "reading files"):
                from pointcmt.api.files import list_entries
                from pointcmt.api.scans import list_scans

                entries = (list_scans if scenes else list_entries)(target, number)
            return cls(str(target) if isinstance(target, str | Path) else "", entries=entries)
        if scenes:
            require_kind(target, config)
        else:
            target.require_objects("`predict`")
        target.require_complete()
        done = target.status() == DONE
        if split is not None:
            done &= target.splits == SPLITS.index(split)
        if not done.any():
            what = f"this store has no rendered shape{f' in its {split} split' if split else ''}"
            fix = "run `pointcmt info` to see its splits, or `pointcmt render` to render them"
            raise StoreError(what, where=target.path, fix=fix)
        return cls(target.path, target, np.flatnonzero(done))


def require_file_names(scans: Iterable[str], what: str) -> None:
    """Raise UsageError for a scan that is there twice, or whose name leads out of a folder.

    what: each scan has one of these files, with its name. A store from elsewhere may call its
    scans anything.
    """
    seen: set[str] = set()
    for scan in scans:
        path = PureWindowsPath(scan)  # also knows the separator of other systems
        if path.anchor or ".." in path.parts:
            raise UsageError(
                f"'{printable(scan)}' cannot be the name of a {what}",
                where="TARGET",
                fix="pass a store that was rendered from the benchmark's own folders",
            )
        if scan in seen:
            raise UsageError(
                f"the scan {scan} is there twice, but has one {what}",
                where="TARGET",
                fix="pass each scan once",
            )
        seen.add(scan)
