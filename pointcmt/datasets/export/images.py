"""Images and arrays as the bytes of files; equal images give equal bytes."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode an image as PNG: [H,W,3] u8 in color, [H,W] u8 or u16 in gray of 8 or 16 bits."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "png", compress_level=4)
    return file.getvalue()


def encode_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode arrays as a compressed .npz file for `numpy.load`."""
    file, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez_compressed(file, **named)
    return file.getvalue()
