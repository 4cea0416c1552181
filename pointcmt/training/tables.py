"""Read the JSON that runs are made of: what a stranger may have written is refused in our words.

Each file of a run has one reader, which checks every field that the program uses; what follows may
then rely on them.
"""

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pointcmt.errors import StoreError
from pointcmt.regular_files import read_regular

MOST = 64 << 20  # bytes of a JSON file; ours have a few thousand
MOST_DEEP = 100  # tables and lists within each other

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(ge=-1e39, le=1e39)]  # as far as float32 goes, and finite

Kind = TypeVar("Kind", bound=BaseModel)


class Table(BaseModel):
    """A JSON object with the fields that are used; it may have more. No value is converted."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


def read_json(path: Path, most: int = MOST) -> Any:
    """Return the value in a JSON file. Raises OSError, and ValueError for anything but JSON."""
    return parse_json(read_regular(path, most))


def parse_json(data: bytes | str) -> Any:
    """Return a JSON value. Raises ValueError for anything else, NaN and deep nesting included."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(MOST_DEEP):
        level = [part for each in level for part in _inside(each)]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def check(kind: type[Kind], value: Any, what: str, where: str, fix: str = "") -> Kind:
    """Return a parsed value as a Table. Raises StoreError, with the first field that is wrong.

    what: names the damaged thing, such as "the run".
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise StoreError(
            f"{what} is damaged: {first_problem(error)}", where=where, fix=fix
        ) from None


def first_problem(error: ValidationError) -> str:
    """The first field that pydantic found wrong, and why."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason


def _inside(value: Any) -> list[Any]:
    """The tables and lists directly inside a value."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in parts if isinstance(part, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}")
