"""Import libraries of extras; if one is missing, the error names its extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from pointcmt.errors import DependencyError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn an ImportError into a DependencyError that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pointcmt"):
            raise
        raise DependencyError(
            f"this needs {error.name}, which is not installed",
            fix=f"install pointcmt with its extra `{extra}`",
        ) from None
