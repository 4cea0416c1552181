"""Arrays and images as text in a JSON document; `page/data.js` unpacks them.

A packed array is {dtype, width, smooth, data}. data: base64 of zlib's format (DEFLATE), of the
array's bytes in planes: the first (lowest) byte of all values, then the second, and so on. That
separates bytes that vary slowly from those that do not, and halves the size. smooth: each value is
replaced by its difference, modulo 2^bits, from the one before it in its row of `width` values.
Browsers decompress it natively, and exactly; the pixels of a decoded image they may convert.
"""

import base64
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DTYPES = ("u1", "i1", "u2", "u4", "i4")
LEVEL = 6  # of compression; 9 takes four times as long for 1 % less
STEPS = 65535  # of a quantized coordinate
PHOTO = 85  # WebP's quality for frames, which mostly come from JPEG files


def pack(array: NDArray[Any], smooth: bool = False) -> dict[str, Any]:
    """Pack an array of one of DTYPES. smooth: it is an image-like array, [..., H, W]."""
    kind = array.dtype.str[1:]
    assert kind in DTYPES, kind
    width = array.shape[-1] if array.ndim > 1 else array.size
    rows = np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(-1, max(1, width))
    if smooth:
        rows = np.concatenate([rows[:, :1], rows[:, 1:] - rows[:, :-1]], axis=1)
    planes = rows.astype(f"<u{array.itemsize}").reshape(-1, 1).view(np.uint8).T
    data = base64.b64encode(zlib.compress(planes.tobytes(), LEVEL)).decode()
    return {"dtype": kind, "width": width, "smooth": smooth, "data": data}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """Return the values of a packed array in rows, [n, width]: the inverse of `pack`."""
    size, width = int(packed["dtype"][1:]), packed["width"]
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    rows = planes.reshape(size, -1).T.copy().view(f"<u{size}").reshape(-1, max(1, width))
    if packed["smooth"]:
        rows = np.cumsum(rows, axis=1, dtype=rows.dtype)
    return rows.view(f"<{packed['dtype']}")


def pack_points(points: NDArray[np.floating]) -> dict[str, Any]:
    """Quantize points [N,3] to 16 bits per coordinate of their bounding box.

    The error is at most half of `step`, which is 1.5e-5 of the box's size.
    """
    places = points.astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    step = np.maximum((high - low) / STEPS, np.finfo(np.float32).tiny)
    quantized = np.rint((places - low) / step).astype(np.uint16)
    return {"low": low.tolist(), "step": step.tolist(), **pack(quantized.T)}


def pack_normals(normals: NDArray[np.floating]) -> dict[str, Any]:
    """Quantize unit vectors [N,3] to 127 n."""
    return pack(np.rint(127 * normals.clip(-1, 1)).astype(np.int8).T)


def image_uri(image: NDArray[np.uint8], lossless: bool) -> str:
    """Return an image [H,W,3] as a data URI: WebP, for objects without loss."""
    file = io.BytesIO()
    options = {"lossless": True, "quality": 20, "method": 1} if lossless else {"quality": PHOTO}
    Image.fromarray(np.ascontiguousarray(image)).save(file, "webp", **options)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
