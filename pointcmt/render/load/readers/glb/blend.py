"""Pictures of what is seen of a material: reflected and emitted light in one image."""

import numpy as np
from numpy.typing import NDArray

from pointcmt.srgb import to_linear, to_srgb

_ROWS = 64  # of two images that are added at a time
_LINEAR = to_linear(np.arange(256) / 255)


def lit(
    base: NDArray[np.uint8] | None,
    factor: NDArray[np.float64],
    emitted: NDArray[np.uint8] | None,
    emission: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Return factor × base + emission × emitted, computed in linear light, as sRGB [h,w,3 or 4].

    base, emitted: images [h,w,3 or 4]; None is white. factor, emission: linear [3]. The alpha
    channel is that of base; that of emitted does not count. If the sizes differ, the result has the
    larger one.
    """
    if base is None and emitted is not None:
        return _mapped(emitted[:, :, :3], emission, factor)
    if base is not None and emitted is None:
        return _mapped(base, factor, emission)
    assert base is not None
    assert emitted is not None
    height, width = (max(base.shape[k], emitted.shape[k]) for k in (0, 1))
    base, emitted = _enlarged(base, height, width), _enlarged(emitted, height, width)
    out = base.copy()
    for at in range(0, height, _ROWS):
        rows = slice(at, at + _ROWS)
        light = _LINEAR[base[rows, :, :3]] * factor + _LINEAR[emitted[rows, :, :3]] * emission
        out[rows, :, :3] = _encoded(light)
    return out


def cut(image: NDArray[np.uint8], factor: float, cutoff: float) -> NDArray[np.uint8]:
    """Return an image [h,w,4] whose alpha times a factor is 0 below the cutoff, else full."""
    out = image.copy()
    out[:, :, 3] = np.where(image[:, :, 3] / 255 * factor >= cutoff, 255, 0)
    return out


def _mapped(
    image: NDArray[np.uint8], factor: NDArray[np.float64], added: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return image × factor + added; both are linear [3]. An alpha channel is kept."""
    if (factor == 1).all() and not added.any():
        return image
    table = _encoded(_LINEAR[:, None] * factor + added)
    channels = [table[image[:, :, channel], channel] for channel in range(3)]
    return np.dstack([*channels, image[:, :, 3:]])


def _enlarged(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Repeat texels so that an image has this size, which is not smaller than its own."""
    if image.shape[:2] == (height, width):
        return image
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]


def _encoded(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(to_srgb(np.clip(light, 0, 1)) * 255).astype(np.uint8)
