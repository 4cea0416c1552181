"""Validate the arrays of `Mesh` and `Cloud`: kind, shape, finite values; unit vectors."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pointcmt.errors import Reason, ShapeError

_SLACK = 1e-6  # how far rounding may take a color outside 0..1
_UNIT = 1e-3  # how far the length of a unit vector may be from 1


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


def normal_array(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return normals as f32: unit vectors, or zeros where there is none. Raises ShapeError."""
    normals: NDArray[np.float32] = number_array(name, values, np.float32, shape)
    require_finite(name, normals, "normals")
    square = np.einsum("...i,...i->...", normals, normals)
    wrong = (square != 0) & ~(np.abs(square - 1) <= 2 * _UNIT)
    if wrong.any():
        raise ShapeError(
            f"{name} has {int(wrong.sum())} vectors whose length is neither 1 nor 0",
            where=f"{name}=",
            fix="divide them by their lengths",
            reason=_SYNTAX,
        )
    return normals


def unit_vectors(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Return vectors [...,3] of any length as unit vectors; zero if not finite or of length 0."""
    found = np.array(vectors, np.float64)
    with np.errstate(all="ignore"):
        largest = np.abs(found).max(axis=-1, keepdims=True, initial=0)
        found /= largest  # first: squares may overflow, or be 0
        found /= np.sqrt(np.einsum("...i,...i->...", found, found))[..., None]
    found[~np.isfinite(found).all(axis=-1)] = 0
    return found.astype(np.float32)


def normal_matrices(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrices [...,3,3] that transform normals if `matrices` transform points.

    The inverse transpose up to a positive factor: cofactors, times the determinant's sign, which
    also exist for matrices that flatten a shape.
    """
    with np.errstate(all="ignore"):
        scaled = matrices / np.abs(matrices).max(axis=(-2, -1), keepdims=True)
        rows = [scaled[..., row, :] for row in range(3)]
        pairs = ((1, 2), (2, 0), (0, 1))
        cofactors = np.stack([np.cross(rows[i], rows[j]) for i, j in pairs], axis=-2)
        determinant = np.einsum("...i,...i->...", rows[0], cofactors[..., 0, :])
    return np.where(determinant[..., None, None] < 0, -cofactors, cofactors)


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
