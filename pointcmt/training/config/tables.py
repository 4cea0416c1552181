"""Check the JSON files of a run, which may be untrusted, and report errors clearly.

Each file of a run has one reader, which checks every field that the program uses. The rest of the
code can rely on them.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pointcmt.errors import StoreError

MOST = 64 << 20  # maximum bytes of a JSON file; usual ones have a few thousand

Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(ge=-1e39, le=1e39)]  # the range of float32, and finite

Kind = TypeVar("Kind", bound=BaseModel)


class Table(BaseModel):
    """A JSON object with typed fields; extra fields are allowed, and values are not converted."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


def check(kind: type[Kind], value: Any, what: str, where: str, fix: str = "") -> Kind:
    """Return a parsed value as a Table. Raises StoreError naming the first invalid field.

    what: names the object in the message, such as "the run".
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise StoreError(
            f"{what} is damaged: {first_problem(error)}", where=where, fix=fix
        ) from None


def first_problem(error: ValidationError) -> str:
    """Return the first field that pydantic rejected, and why."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason
