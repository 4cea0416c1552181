"""Images of any kind to sRGB pixels, through Pillow."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointcmt.render.readers.sidecars import NotRead, printable, read_sidecar

MAX_TEXTURE = 2048  # pixels of the longer side; larger images are reduced
MAX_PIXELS = 128 << 20  # of all textures of one model together, as they are kept
# Those that Pillow decodes by itself: EPS, for one, would start another program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "TGA", "WEBP", "PCX", "PPM", "DDS", "SGI")


@dataclass
class Textures:
    """The textures of one model: each file is decoded once, each pair with a colour laid once."""

    pixels: int = 0
    _decoded: dict[Path, NDArray[np.uint8]] = field(default_factory=dict)
    _opaque: dict[tuple[Path, tuple[float, ...]], NDArray[np.uint8]] = field(default_factory=dict)

    def opaque(self, path: Path, behind: tuple[float, float, float]) -> NDArray[np.uint8]:
        """The image [h,w,3] of a file over the colour (sRGB, 0..1) that shows through its alpha.

        Raises NotRead for a file that is no image Pillow can decode.
        """
        if path not in self._decoded:
            image = decode(read_sidecar(path), path.name)
            self.count(image)
            self._decoded[path] = image
        image = self._decoded[path]
        if image.shape[2] == 3:
            return image
        if (path, behind) not in self._opaque:
            self.count(image)
            self._opaque[path, behind] = lay_over(image, behind)
        return self._opaque[path, behind]

    def count(self, image: NDArray[np.uint8]) -> None:
        """Keep account of an image. Raises NotRead where the model has too many pixels."""
        self.pixels += image.shape[0] * image.shape[1]
        if self.pixels > MAX_PIXELS:
            raise NotRead(f"textures beyond {MAX_PIXELS >> 20} megapixels in all are not read")


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """The first image of a file: [h,w,3] u8 sRGB, or [h,w,4] where it has an alpha channel.

    Reduced so that no side is longer than MAX_TEXTURE. Raises NotRead where Pillow cannot decode
    it, or where its decompression bomb guard objects.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _pixels(image)
        except Exception as error:  # Pillow's decoders raise nearly anything, MemoryError too
            reason = type(error).__name__
            raise NotRead(f"texture {printable(name)} cannot be decoded ({reason})") from error


def lay_over(image: NDArray[np.uint8], behind: tuple[float, float, float]) -> NDArray[np.uint8]:
    """An image [h,w,4] over a colour (sRGB, 0..1): [h,w,3] u8."""
    alpha = image[:, :, 3:].astype(np.float32) / 255
    below = np.array(behind, np.float32) * 255
    return np.rint(image[:, :, :3] * alpha + below * (1 - alpha)).astype(np.uint8)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    image.draft(None, (MAX_TEXTURE, MAX_TEXTURE))  # JPEG: decode at a lower resolution
    if image.mode.startswith(("I", "F")):  # integers of 16 or 32 bits, or floats
        image = Image.fromarray(_narrow(np.asarray(image), image.mode))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    image = image.convert(mode)
    image.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.BOX)
    return np.asarray(image)


def _narrow(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Grey values of more than 8 bits, scaled to 8: from 0..1 or from 16 bits by their mode."""
    wide = np.nan_to_num(values.astype(np.float64))
    white = 1.0 if mode == "F" and wide.max() <= 1 else 255.0 if mode == "F" else 65535.0
    return np.rint(np.clip(wide / white, 0, 1) * 255).astype(np.uint8)
