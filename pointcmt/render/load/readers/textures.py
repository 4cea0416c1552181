"""Decode images of any kind to sRGB pixels with Pillow.

The memory that an image takes is computed from its header and charged before decoding: a few bytes
may declare any size, and a model may name one image many times. This replaces Pillow's limit on the
number of pixels, which is lower for what takes little memory, such as JPEG read at an eighth.
"""

import io
import struct
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    ROWSPERSTRIP,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from pointcmt.datasets.sources.formats import IMAGES, image_advice
from pointcmt.render.load.readers.sidecars import NotRead, printable, read_sidecar

MAX_TEXTURE = 2048  # pixels of the longer side; larger images are reduced
MAX_KEPT = 384 << 20  # bytes of all textures of one model as kept in memory
MAX_DECODING = 592 << 20  # bytes to decode one image: RGBA of 8192²
MAX_DECODED = 4 << 30  # bytes of all decoded images of one model
_BLOCK = 1 << 16  # pixels of more than 8 bits converted at a time


@dataclass
class Textures:
    """The textures of one model: each image is decoded once, and each variant of it made once."""

    _kept: int = 0
    _decoded: int = 0
    _images: dict[Hashable, NDArray[np.uint8] | str] = field(default_factory=dict)
    _variants: dict[Hashable, NDArray[np.uint8]] = field(default_factory=dict)

    def opaque(self, path: Path, behind: tuple[float, float, float]) -> NDArray[np.uint8]:
        """Return a file's image [h,w,3] over the color (sRGB, 0..1) that shows through its alpha.

        Raises NotRead for a file that Pillow cannot decode.
        """
        image = self.image(path, path.name, lambda: read_sidecar(path))
        if image.shape[2] == 3:
            return image
        return self.variant((path, behind), image, lambda: lay_over(image, behind))

    def image(
        self, key: Hashable, name: str, read: Callable[[], bytes | memoryview]
    ) -> NDArray[np.uint8]:
        """Return an image [h,w,3 or 4] by its key; `read` returns the content of its file.

        Raises NotRead if it cannot be decoded; a key that failed raises again without another try.
        """
        if key not in self._images:
            try:
                image = decode(read(), name, self._pay)
                self._keep(image.nbytes)
                self._images[key] = image
            except NotRead as reason:
                self._images[key] = str(reason)
        found = self._images[key]
        if isinstance(found, str):
            raise NotRead(found)
        return found

    def variant(
        self, key: Hashable, image: NDArray[np.uint8], make: Callable[[], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """Return the image [h,w,3] made by `make`, cached by its key. Raises NotRead."""
        if key not in self._variants:
            self._keep(3 * image.shape[0] * image.shape[1])
            self._variants[key] = make()
        return self._variants[key]

    def _keep(self, size: int) -> None:
        if self._kept + size > MAX_KEPT:
            raise NotRead(f"textures beyond {MAX_KEPT >> 20} MiB in total are ignored")
        self._kept += size

    def _pay(self, size: int) -> None:
        if self._decoded + size > MAX_DECODED:
            what = f"images beyond {MAX_DECODED >> 20} MiB in total, decoded, are ignored"
            raise NotRead(what)
        self._decoded += size


def decode(
    data: bytes | memoryview, name: str, pay: Callable[[int], None] = lambda size: None
) -> NDArray[np.uint8]:
    """Decode the first image of a file: [h,w,3] u8 sRGB, or [h,w,4] if it has an alpha channel.

    The image is reduced to at most MAX_TEXTURE per side. pay: called with the number of bytes about
    to be read or decoded; may raise NotRead. Raises NotRead if Pillow cannot decode the image, or
    if that takes more than MAX_DECODING.
    """
    pay(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _opened(data) as (image, size, whole):
                if size > MAX_DECODING:
                    raise NotRead(
                        f"texture {printable(name)} of {whole[0]} x {whole[1]} pixels "
                        f"needs {size >> 20} MiB decoded, more than the maximum of "
                        f"{MAX_DECODING >> 20}: reduce it"
                    )
                pay(size)
                return _pixels(image)
        except NotRead:
            raise
        except UnidentifiedImageError as error:
            advice = image_advice(name, bytes(data[:64]))
            raise NotRead(
                f"texture {printable(name)} cannot be decoded: {advice}"
                if advice
                else f"texture {printable(name)} cannot be decoded ({type(error).__name__})"
            ) from error
        except Exception as error:  # Pillow's decoders raise almost anything, including MemoryError
            reason = type(error).__name__
            raise NotRead(f"texture {printable(name)} cannot be decoded ({reason})") from error


def lay_over(image: NDArray[np.uint8], behind: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Blend an image [h,w,4] over a color (sRGB, 0..1): [h,w,3] u8."""
    alpha = image[:, :, 3:].astype(np.float32) / 255
    below = np.array(behind, np.float32) * 255
    return np.rint(image[:, :, :3] * alpha + below * (1 - alpha)).astype(np.uint8)


@contextmanager
def _opened(data: bytes | memoryview) -> Iterator[tuple[ImageFile, int, tuple[int, int]]]:
    """Open an image, without decoding it; also yield the memory that it takes, and its size.

    JPEG images are decoded at a lower resolution: at one that is good for reducing them further,
    or, if that takes too much memory, at the lowest that fills MAX_TEXTURE.
    """
    for tight in (False, True):
        with _open(data) as image:
            whole, size = image.size, 0
            if isinstance(image, JpegImageFile):
                size = _jpeg_coefficients(image, data)
                least = min(whole) * MAX_TEXTURE // max(whole) if tight else MAX_TEXTURE
                sides = (MAX_TEXTURE, max(1, least))
                image.draft(None, sides if whole[0] >= whole[1] else sides[::-1])
            size += _decoding_bytes(image)
            if size <= MAX_DECODING or tight or not isinstance(image, JpegImageFile):
                yield image, size, whole
                return


def _open(data: bytes | memoryview) -> ImageFile:
    """Open an image as `Image.open` does, but of any number of pixels.

    Raises UnidentifiedImageError if it has none of the formats that are read.
    """
    start = bytes(data[:16])
    for kind in IMAGES:
        if kind not in Image.OPEN:  # Image.init() would import 40 other formats, too
            import_module(f"PIL.{'WebP' if kind == 'WEBP' else kind.capitalize()}ImagePlugin")
        factory, accepts = Image.OPEN.get(kind, (None, None))
        if factory is not None and (accepts is None or accepts(start) is True):
            try:
                return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # as for Image.open
                continue
    raise UnidentifiedImageError("no image of a format that is read")


def _jpeg_coefficients(image: JpegImageFile, data: bytes | memoryview) -> int:
    """Return the bytes of coefficients that libjpeg keeps, at any output resolution.

    Only images of several scans, such as progressive ones, are kept as a whole.
    """
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA and data[at + 4] == image.layers and "progressive" not in image.info:
            return 0  # the first scan holds all components, so there is no other
        if marker in (0xDA, 0xD9):
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    across, down = (max(layer[i] for layer in image.layer) for i in (1, 2))  # sampling factors
    samples = sum(layer[1] * layer[2] for layer in image.layer)
    blocks = -(-image.width // (8 * across)) * -(-image.height // (8 * down))
    return 2 * 64 * blocks * samples


def _decoding_bytes(image: Image.Image) -> int:
    """Return the peak memory of `_pixels` in bytes, without the reduced image."""
    stored = 2 if "16" in image.mode else 1 if image.mode in ("1", "L", "P") else 4  # by Pillow
    clear = image.has_transparency_data
    if image.mode.startswith(("I", "F")):  # copied to numpy, then converted
        each = 2 * stored + 1
    elif image.mode in ("1", "L") and not clear:
        each = 2
    else:  # converted unless it is RGB or RGBA; reducing RGBA makes another copy
        each = stored + 4 * (image.mode not in ("RGB", "RGBA")) + 4 * clear
    if image.format == "WEBP":  # its decoder keeps two frames and copies the one it returns
        each += 12
    block = _tiff_block(image) if isinstance(image, TiffImageFile) else 0
    # Decoders keep two rows of up to 64 bits per pixel; Pillow's rows have a pointer and padding.
    edges = 16 * image.width + 32 * image.height
    return image.width * image.height * each + edges + block


def _tiff_block(image: TiffImageFile) -> int:
    """Return the bytes of a strip or tile: decoded as a whole, it may be larger than its image."""
    tags = image.tag_v2
    bits = tags.get(SAMPLESPERPIXEL, 1) * max(tags.get(BITSPERSAMPLE, (1,)))
    if TILEWIDTH in tags:
        pixels = tags[TILEWIDTH] * tags.get(TILELENGTH, 0)
    else:
        pixels = image.width * min(tags.get(ROWSPERSTRIP, image.height), image.height)
    return int(pixels * bits // 8)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Decode and reduce an image. Gray images are reduced before they become RGB: same pixels."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    image.load()
    if image.mode.startswith(("I", "F")):  # integers of 16 or 32 bits, or floats
        image, mode = Image.fromarray(_narrow(np.asarray(image), image.mode)), "RGB"
    if mode == "RGB" and image.mode in ("1", "L"):
        image = image.convert("L")
    elif image.mode != mode:
        image = image.convert(mode)
    image.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.BOX)
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _narrow(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Scale gray values of more than 8 bits to 8: from 0..1 or from 16 bits, depending on mode."""
    blocks = [values.reshape(-1)[at : at + _BLOCK] for at in range(0, values.size, _BLOCK)]
    white = 255.0 if mode == "F" else 65535.0
    if mode == "F" and all(np.nan_to_num(block.astype(np.float64)).max() <= 1 for block in blocks):
        white = 1.0
    narrow = np.empty(values.size, np.uint8)
    for at, block in enumerate(blocks):
        wide = np.nan_to_num(block.astype(np.float64))
        narrow[at * _BLOCK :][: len(wide)] = np.rint(np.clip(wide / white, 0, 1) * 255)
    return narrow.reshape(values.shape)
