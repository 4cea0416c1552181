"""Compare two mappings, for error messages about settings that do not match."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

MOST_SHOWN = 60  # longer values are shortened, in characters

Key = TypeVar("Key")


def differing(left: Mapping[Key, Any], right: Mapping[Key, Any]) -> dict[Key, tuple[Any, Any]]:
    """Return both values of every key whose values differ, in the order of left, then of right.

    The value is None if a mapping lacks the key.
    """
    pairs = {key: (left.get(key), right.get(key)) for key in {**left, **right}}
    return {key: (here, there) for key, (here, there) in pairs.items() if here != there}


def brief(value: Any) -> str:
    """Return a JSON-able value as JSON; for a long one, its beginning and its length."""
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:45]}… ({len(text)} characters)"
