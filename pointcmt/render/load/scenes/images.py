"""Decode images of frames, and bring color and labels to the pixels of the depth image."""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointcmt.cameras import pixel_centers
from pointcmt.errors import Reason, ShapeRefused, printable
from pointcmt.scenes import IGNORE

MAX_PIXELS = 1 << 25  # of one image: eight times those of 4K video's
MISSING = (0, 65535)  # depth values that mean "not measured"; the second one in derived data sets
_FORMATS = ("PNG", "JPEG", "PPM")  # what cameras write; others may take far more memory
_SHIFT = 0.5  # pixels; resampling blurs more than it corrects for smaller shifts
_NEAR = 1e-6  # meters between two cameras that count as one


@dataclass(frozen=True, eq=False)
class ColorCamera:
    """The camera of color images that differs from that of the depth images.

    K: in pixels of the color images, with pixel centers at + 0.5. from_depth: rigid, from the depth
    camera's axes to its own.
    """

    K: NDArray[np.float64]  # [3,3]
    from_depth: NDArray[np.float64]  # [4,4]


def decode_color(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the pixels [h,w,3] of an image, sRGB, without its alpha channel.

    Raises ShapeRefused: bad_syntax, too_large.
    """
    return np.asarray(_decoded(data, name, color=True), np.uint8)


def decode_depth(data: bytes, name: str) -> NDArray[np.uint16]:
    """Return the values [h,w] of an image with one channel of 16 bits.

    Raises ShapeRefused: bad_syntax, too_large.
    """
    pixels = np.asarray(_decoded(data, name, color=False))
    if pixels.ndim != 2 or pixels.dtype.itemsize < 2 or pixels.dtype.kind not in "ui":
        what = f"{printable(name)} must have one channel of 16 bits to be a depth image"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 65535:
        what = f"{printable(name)} has depth values that do not fit into 16 bits"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return pixels.astype(np.uint16)


def decode_labels(data: bytes, name: str) -> NDArray[np.int32]:
    """Return the values [h,w] of an image with one channel of 8 or 16 bits.

    Raises ShapeRefused: bad_syntax, too_large.
    """
    pixels = np.asarray(_decoded(data, name, color=False))
    if pixels.ndim != 2 or pixels.dtype.kind not in "ui":
        what = f"{printable(name)} must have one channel to be an image of labels"
        raise ShapeRefused(Reason.BAD_SYNTAX, what)
    return pixels.astype(np.int32)


def in_meters(depth: NDArray[np.uint16], unit: float) -> NDArray[np.float32]:
    """Return depth [h,w] in meters, 0 where it was not measured. unit: meters per step."""
    return np.where(np.isin(depth, MISSING), 0, depth * np.float64(unit)).astype(np.float32)


def to_depth_pixels(
    color: NDArray[np.uint8],
    depth: NDArray[np.float32],
    K: NDArray[np.float64],
    camera: ColorCamera | None,
) -> NDArray[np.uint8]:
    """Return color [h,w,3] in the pixels of the depth image [H,W], as [H,W,3].

    The image is reduced with an area filter first. K: of the depth image. camera: None if both
    images show the same section, in which case that is all. Otherwise each depth pixel takes the
    color (bilinear) at which the color camera sees its surface; a pixel without depth is taken to
    be infinitely far away. Beyond the borders of the color image, its edge continues.
    """
    H, W = depth.shape
    small = _resized(color, W, H)
    if camera is None:
        return small
    scale = np.diag([W / color.shape[1], H / color.shape[0], 1.0])
    uv = _seen_at(depth, K, scale @ camera.K, camera.from_depth)
    if np.abs(uv - pixel_centers(W, H)).max() < _SHIFT:
        return small
    return _sampled(small, uv)


def labels_at_depth_pixels(
    labels: NDArray[np.int16],
    depth: NDArray[np.float32],
    K: NDArray[np.float64],
    camera: ColorCamera | None,
    color_size: tuple[int, int],
) -> NDArray[np.int16]:
    """Return labels [h,w] of the section that color images show in the pixels of depth, [H,W].

    Each pixel takes the label at the place where `to_depth_pixels` takes its color, or IGNORE
    beyond the borders. color_size: (width, height) that the camera's K is for.
    """
    (H, W), (h, w) = depth.shape, labels.shape
    if camera is None:
        uv, size = pixel_centers(W, H), (W, H)
    else:
        uv, size = _seen_at(depth, K, camera.K, camera.from_depth), color_size
    at = np.floor(uv * [w / size[0], h / size[1]]).astype(np.intp)
    inside = ((at >= 0) & (at < [w, h])).all(axis=-1)
    column, row = np.moveaxis(np.where(inside[..., None], at, 0), -1, 0)
    return np.where(inside, labels[row, column], np.int16(IGNORE))


def _seen_at(
    depth: NDArray[np.float32],
    K: NDArray[np.float64],
    color_K: NDArray[np.float64],
    from_depth: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return where the color camera sees the surface of each depth pixel, [H,W,2] in pixels."""
    H, W = depth.shape
    uv = pixel_centers(W, H)
    projection = color_K @ from_depth[:3, :3] @ np.linalg.inv(K)
    seen = uv @ projection[:, :2].T + projection[:, 2]
    shift = color_K @ from_depth[:3, 3]
    if np.linalg.norm(from_depth[:3, 3]) > _NEAR:
        with np.errstate(divide="ignore"):
            seen += np.where(depth > 0, 1 / depth, 0)[..., None] * shift
    return seen[..., :2] / np.maximum(seen[..., 2:], 1e-9)


def _sampled(image: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return an image's colors at positions [H,W,2], bilinear, with its edge continued."""
    H, W = image.shape[:2]
    at = np.clip(uv - 0.5, 0, [W - 1, H - 1])
    low = at.astype(np.intp)
    high = np.minimum(low + 1, [W - 1, H - 1])
    right, down = np.split((at - low).astype(np.float32), 2, axis=2)
    (x0, y0), (x1, y1) = np.moveaxis(low, 2, 0), np.moveaxis(high, 2, 0)
    upper = image[y0, x0] * (1 - right) + image[y0, x1] * right
    lower = image[y1, x0] * (1 - right) + image[y1, x1] * right
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def _resized(color: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    h, w = color.shape[:2]
    if (w, h) == (width, height):
        return color
    shrinks = width <= w and height <= h
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(color).resize((width, height), method))


def _decoded(data: bytes, name: str, color: bool) -> Image.Image:
    with _opened(data, name) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image.load()
            return image.convert("RGB") if color else image.copy()
        except Exception as error:  # Pillow's decoders raise almost anything
            raise _undecodable(name, error) from error


def _opened(data: bytes, name: str) -> Image.Image:
    """Open an image without decoding it; refuse one of too many pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise ShapeRefused(Reason.TOO_LARGE, f"{printable(name)}: {error}") from error
        except Exception as error:
            raise _undecodable(name, error) from error
    if image.width * image.height > MAX_PIXELS:
        what = (
            f"{printable(name)} has {image.width} × {image.height} pixels, more than the maximum "
            f"of {MAX_PIXELS}"
        )
        raise ShapeRefused(Reason.TOO_LARGE, what)
    return image


def _undecodable(name: str, error: Exception) -> ShapeRefused:
    what = f"{printable(name)} cannot be decoded as an image ({type(error).__name__})"
    return ShapeRefused(Reason.BAD_SYNTAX, what)
