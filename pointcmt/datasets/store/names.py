"""Which names are a store's own: what pointcmt itself can have written there, and nothing else.

`--overwrite` and `verify --repair` delete files of these names only. A name that merely lies in one
of the store's folders (`rgb/notes.txt`, `claims/.DS_Store`) belongs to somebody else.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from re import Pattern

from pointcmt.datasets.store import schema as contract
from pointcmt.datasets.store.claims import FOLDER as CLAIMS
from pointcmt.datasets.store.features import FOLDER as FEATURES
from pointcmt.datasets.store.schema import OPTIONAL_LAYERS, Schema
from pointcmt.datasets.store.storage import LOCK
from pointcmt.datasets.store.view_store import CORRESPONDENCES, PLAN, RENDER, ROOT

FEATURES_KEY = "[0-9a-f]{16}"
NUMBER = "(?:0|[1-9][0-9]*)"  # of a chunk along one axis
SHARD = "[0-9]{6,}\\.json"  # the name of a commit marker or a claim


class Names:
    """The names that files and folders of one store can have, relative to the store.

    arrays: the names of its arrays. features: keys of features known to be the store's, besides
    those that look like a hash.
    """

    def __init__(self, arrays: Iterable[str], features: Iterable[str] = ()) -> None:
        keys = "|".join([FEATURES_KEY, *map(re.escape, features)])
        self._array = "|".join([*map(re.escape, arrays), f"{FEATURES}/(?:{keys})"])
        self._commits = f"commits/(?:{RENDER}|{CORRESPONDENCES}|{FEATURES}-(?:{keys}))"

    @classmethod
    def of_any_store(cls) -> "Names":
        """The names of every array that a store may have: for one whose root cannot be read."""
        largest = Schema(1, 1, 1, 1, 1, 1.0, OPTIONAL_LAYERS, parts=True)
        return cls(contract.array_specs(largest))

    def file(self, name: str) -> bool:
        """Whether a file of this name is the store's, finished or half-written."""
        return self._files.fullmatch(name.removesuffix(LOCK)) is not None

    def folder(self, name: str) -> bool:
        """Whether a folder of this name is the store's."""
        return self._folders.fullmatch(name) is not None

    @cached_property
    def _files(self) -> Pattern[str]:
        roots = "|".join(map(re.escape, (ROOT, PLAN, f"{FEATURES}/{ROOT}")))
        arrays = f"(?:{self._array})/(?:{re.escape(ROOT)}|c(?:/{NUMBER})+)"
        return re.compile(f"{roots}|{arrays}|(?:{CLAIMS}|{self._commits})/{SHARD}")

    @cached_property
    def _folders(self) -> Pattern[str]:
        arrays = f"(?:{self._array})(?:/c(?:/{NUMBER})*)?"
        return re.compile(f"{arrays}|{FEATURES}|{CLAIMS}|commits|{self._commits}")
