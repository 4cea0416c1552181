"""Images of any kind to sRGB pixels, through Pillow.

The memory that an image takes is computed from its header and paid for before it is decoded: a few
bytes may declare any size, and a model may name one image many times.
"""

import io
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    ROWSPERSTRIP,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from pointcmt.render.load.readers.sidecars import NotRead, printable, read_sidecar

MAX_TEXTURE = 2048  # pixels of the longer side; larger images are reduced
MAX_KEPT = 384 << 20  # bytes of all textures of one model together, as they are kept
MAX_DECODING = 592 << 20  # bytes that one image takes while it is decoded: RGBA of 8192²
MAX_DECODED = 4 << 30  # bytes of all images of one model, as they come out of their files
# Those that Pillow decodes by itself: EPS, for one, would start another program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "TGA", "WEBP", "PCX", "PPM", "DDS", "SGI")
_BLOCK = 1 << 16  # pixels of more than 8 bits that are narrowed at a time


@dataclass
class Textures:
    """The textures of one model: each image is decoded once, each variant of it made once."""

    _kept: int = 0
    _decoded: int = 0
    _images: dict[Hashable, NDArray[np.uint8] | str] = field(default_factory=dict)
    _variants: dict[Hashable, NDArray[np.uint8]] = field(default_factory=dict)

    def opaque(self, path: Path, behind: tuple[float, float, float]) -> NDArray[np.uint8]:
        """The image [h,w,3] of a file over the colour (sRGB, 0..1) that shows through its alpha.

        Raises NotRead for a file that is no image Pillow can decode.
        """
        image = self.image(path, path.name, lambda: read_sidecar(path))
        if image.shape[2] == 3:
            return image
        return self.variant((path, behind), image, lambda: lay_over(image, behind))

    def image(
        self, key: Hashable, name: str, read: Callable[[], bytes | memoryview]
    ) -> NDArray[np.uint8]:
        """Return an image [h,w,3 or 4] by its key; `read` returns the content of its file.

        Raises NotRead if it cannot be decoded; for the same key the same, without another try.
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
        """Return by its key what `make` makes of an image, [h,w,3]. Raises NotRead."""
        if key not in self._variants:
            self._keep(3 * image.shape[0] * image.shape[1])
            self._variants[key] = make()
        return self._variants[key]

    def _keep(self, size: int) -> None:
        if self._kept + size > MAX_KEPT:
            raise NotRead(f"textures beyond {MAX_KEPT >> 20} MiB in all are not read")
        self._kept += size

    def _pay(self, size: int) -> None:
        if self._decoded + size > MAX_DECODED:
            what = f"images of more than {MAX_DECODED >> 20} MiB in all, decoded, are not read"
            raise NotRead(what)
        self._decoded += size


def decode(
    data: bytes | memoryview, name: str, pay: Callable[[int], None] = lambda size: None
) -> NDArray[np.uint8]:
    """The first image of a file: [h,w,3] u8 sRGB, or [h,w,4] where it has an alpha channel.

    Reduced so that no side is longer than MAX_TEXTURE. pay: called with the bytes that are about to
    be read or decoded, may raise NotRead. Raises NotRead where Pillow cannot decode it, where it
    takes more than MAX_DECODING, or where Pillow's decompression bomb guard objects.
    """
    pay(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                coefficients = _jpeg_coefficients(image)
                image.draft(None, (MAX_TEXTURE, MAX_TEXTURE))  # JPEG: at a lower resolution
                size = coefficients + _decoding_bytes(image)
                if size > MAX_DECODING:
                    raise NotRead(
                        f"texture {printable(name)} of {image.width} x {image.height} pixels takes "
                        f"{size >> 20} MiB decoded, at most {MAX_DECODING >> 20} are read"
                    )
                pay(size)
                return _pixels(image)
        except NotRead:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything, MemoryError too
            reason = type(error).__name__
            raise NotRead(f"texture {printable(name)} cannot be decoded ({reason})") from error


def lay_over(image: NDArray[np.uint8], behind: tuple[float, float, float]) -> NDArray[np.uint8]:
    """An image [h,w,4] over a colour (sRGB, 0..1): [h,w,3] u8."""
    alpha = image[:, :, 3:].astype(np.float32) / 255
    below = np.array(behind, np.float32) * 255
    return np.rint(image[:, :, :3] * alpha + below * (1 - alpha)).astype(np.uint8)


def _jpeg_coefficients(image: Image.Image) -> int:
    """Return the bytes of coefficients that libjpeg may keep, at any output resolution."""
    return 2 * image.layers * image.width * image.height if isinstance(image, JpegImageFile) else 0


def _decoding_bytes(image: Image.Image) -> int:
    """Return the peak memory of `_pixels` in bytes, without the reduced image."""
    stored = 2 if "16" in image.mode else 1 if image.mode in ("1", "L", "P") else 4  # Pillow's own
    clear = image.has_transparency_data
    if image.mode.startswith(("I", "F")):  # copied to numpy, then narrowed
        each = 2 * stored + 1
    elif image.mode in ("1", "L") and not clear:
        each = 2
    else:  # converted unless it is RGB or RGBA; reducing RGBA takes another copy
        each = stored + 4 * (image.mode not in ("RGB", "RGBA")) + 4 * clear
    if image.format == "WEBP":  # its decoder keeps two frames and copies the one that it gives back
        each += 12
    block = _tiff_block(image) if isinstance(image, TiffImageFile) else 0
    # Decoders keep two rows of up to 64 bits a pixel; a row of Pillow's has a pointer and padding.
    edges = 16 * image.width + 32 * image.height
    return image.width * image.height * each + edges + block


def _tiff_block(image: TiffImageFile) -> int:
    """Return the bytes of a strip or tile: decoded whole, it may be larger than its image."""
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
    """Grey values of more than 8 bits, scaled to 8: from 0..1 or from 16 bits by their mode."""
    blocks = [values.reshape(-1)[at : at + _BLOCK] for at in range(0, values.size, _BLOCK)]
    white = 255.0 if mode == "F" else 65535.0
    if mode == "F" and all(np.nan_to_num(block.astype(np.float64)).max() <= 1 for block in blocks):
        white = 1.0
    narrow = np.empty(values.size, np.uint8)
    for at, block in enumerate(blocks):
        wide = np.nan_to_num(block.astype(np.float64))
        narrow[at * _BLOCK :][: len(wide)] = np.rint(np.clip(wide / white, 0, 1) * 255)
    return narrow.reshape(values.shape)
