"""Libraries that come with extras: where one is missing, the error names the extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from pointcmt.errors import DependencyError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a missing library into a DependencyError that names the extra it comes with."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pointcmt"):
            raise
        raise DependencyError(
            f"this needs {error.name}, which is not installed",
            fix=f"install pointcmt with its extra `{extra}`",
        ) from None
