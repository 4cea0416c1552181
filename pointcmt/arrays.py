"""Validate the arrays of `Mesh` and `Cloud`: kind, shape and finite values."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pointcmt.errors import Reason, ShapeError

_SLACK = 1e-6  # how far rounding may take a color outside 0..1


def number_array(
    name: str, values: ArrayLike, kind: DTypeLike, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return values as a C-ordered array of this kind and shape; -1 in the shape fits any length.

    An array that already fits is not copied. Floats are not accepted as integers, and integers must
    be in range. name: the argument's name, for the error. Raises ShapeError.
    """
    where, wanted = f"{name}=", np.dtype(kind)
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"not an array: {error}", where=where, reason=_SYNTAX) from None
    if array.size == 0 and array.ndim == 1 and shape[0] == -1:
        array = array.reshape(0, *shape[1:]).astype(wanted)  # an empty list has shape [0]
    allowed = "iu" if wanted.kind in "iu" else "iuf"
    if array.dtype.kind not in allowed:
        what = "integers" if wanted.kind in "iu" else "numbers"
        raise ShapeError(f"{name} must be {what}, not {array.dtype}", where=where, reason=_SYNTAX)
    fits = len(array.shape) == len(shape) and all(
        own in (length, -1) for own, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if length == -1 else str(length) for length in shape)
        raise ShapeError(
            f"{name} must have the shape [{expected}], not {list(array.shape)}",
            where=where,
            reason=Reason.COUNT_MISMATCH,
        )
    if wanted.kind in "iu" and array.dtype != wanted and array.size:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            what = (
                f"{name} range from {array.min()} to {array.max()}, which does not fit into "
                f"{wanted}"
            )
            raise ShapeError(what, where=where, reason=Reason.BAD_INDEX)
    with np.errstate(invalid="ignore", over="ignore"):  # `require_finite` checks the values
        return np.ascontiguousarray(array, wanted)


def color_array(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Convert sRGB colors, floats in 0..1 or bytes, to f32 in 0..1. Raises ShapeError."""
    given = np.asarray(values)
    if given.dtype == np.uint8:
        given = given / np.float32(255)
    colors: NDArray[np.float32] = number_array(name, given, np.float32, shape)
    require_finite(name, colors, "colors")
    if colors.size and not -_SLACK <= colors.min() <= colors.max() <= 1 + _SLACK:
        raise ShapeError(
            f"{name} range from {colors.min():g} to {colors.max():g}; expected 0 to 1",
            where=f"{name}=",
            fix="divide them by 255, or pass bytes (uint8)",
            reason=_SYNTAX,
        )
    return colors


def require_finite(name: str, array: NDArray[np.floating], rows: str) -> None:
    """Raise ShapeError for infinities and NaN, naming the first row that has one."""
    if not array.size or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return  # a minimum is NaN if any value is
    wrong = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    first = int(np.flatnonzero(wrong)[0])
    shown = " ".join(f"{value:g}" for value in array[first].ravel()[:6])
    raise ShapeError(
        f"{int(wrong.sum())} {rows} are not finite, first {first}: {shown}",
        where=f"{name}=",
        reason=Reason.NOT_FINITE,
    )


_SYNTAX = Reason.BAD_SYNTAX
