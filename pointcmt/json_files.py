"""Read JSON that anyone may have written: of bounded size and depth, and only ever a ValueError."""

import json
from pathlib import Path
from typing import Any, NoReturn

from pointcmt.regular_files import read_regular

MOST_BYTES = 16 << 20  # of one file; in memory JSON takes up to thirty times as much
MOST_DEEP = 100  # lists and tables within each other; Python's own limit depends on the caller


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Return what a JSON file of at most `most` bytes holds.

    Raises OSError where it cannot be read or is not a regular file, ValueError where it is damaged
    or nested too deeply.
    """
    return parse_json(read_regular(path, most))


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text. Raises ValueError, for NaN and deep nesting too."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(MOST_DEEP + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _parts(value: Any) -> list[Any]:
    """Return the lists and tables directly inside a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inside if isinstance(part, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}, which JSON does not have")


_TOO_DEEP = f"it is nested more than {MOST_DEEP} levels deep"
