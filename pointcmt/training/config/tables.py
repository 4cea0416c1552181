"""Read the JSON that runs are made of: what a stranger may have written is refused in our words.

Each file of a run has one reader, which checks every field that the program uses; what follows may
then rely on them.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pointcmt.errors import StoreError

MOST = 64 << 20  # bytes of a JSON file; ours have a few thousand

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(ge=-1e39, le=1e39)]  # as far as float32 goes, and finite

Kind = TypeVar("Kind", bound=BaseModel)


class Table(BaseModel):
    """A JSON object with the fields that are used; it may have more. No value is converted."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


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
