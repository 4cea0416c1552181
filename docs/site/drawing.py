"""Helpers of the figures: lines and labels in the world, pictures in rows with captions."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pointcmt.cameras import Camera

INK, GRAY = (40, 40, 40), (130, 130, 130)
RED, GREEN, BLUE = (204, 51, 51), (46, 139, 62), (42, 98, 204)
AXES = (RED, GREEN, BLUE)  # of x, y, z
FINE = 2  # lines and text are drawn at twice the size, which smooths them
GAP = 12

Color = tuple[int, int, int]


class Drawing:
    """A picture to draw on, in its own pixels, or in the world as `camera` sees it."""

    def __init__(self, picture: NDArray[np.uint8], camera: Camera | None = None) -> None:
        height, width = picture.shape[:2]
        large = (FINE * width, FINE * height)
        self.image = Image.fromarray(picture).resize(large, Image.Resampling.NEAREST)
        self.camera = camera
        self._draw = ImageDraw.Draw(self.image)

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return where points are in the picture: [N,2] as they are, [N,3] projected."""
        places = np.atleast_2d(np.asarray(points, np.float64))
        if places.shape[1] == 3:
            assert self.camera is not None
            places = self.camera.project(places)[0]
        return places

    def line(self, points: ArrayLike, color: Color = INK, width: float = 1.5) -> None:
        path = [tuple(FINE * p) for p in self.pixels(points)]
        self._draw.line(path, fill=color, width=round(FINE * width), joint="curve")

    def arrow(self, start: ArrayLike, end: ArrayLike, color: Color, label: str = "") -> None:
        """Draw an arrow; the label stands beyond its tip."""
        (a,), (b,) = self.pixels(start), self.pixels(end)
        ahead = (b - a) / max(np.linalg.norm(b - a), 1e-9)
        across = np.array([-ahead[1], ahead[0]])
        self.line([a, b], color, 2)
        tip = [b + 2 * ahead, b - 7 * ahead + 4 * across, b - 7 * ahead - 4 * across]
        self._draw.polygon([tuple(FINE * p) for p in tip], fill=color)
        if label:
            self.text(b + 11 * ahead, label, color)

    def dot(self, point: ArrayLike, color: Color, radius: float = 2.0) -> None:
        for u, v in FINE * self.pixels(point):
            r = FINE * radius
            self._draw.ellipse((u - r, v - r, u + r, v + r), fill=color)

    def text(self, point: ArrayLike, text: str, color: Color = INK, size: int = 13) -> None:
        """Write a text around a point."""
        (place,) = FINE * self.pixels(point)
        font = ImageFont.load_default(FINE * size)
        halo = {"stroke_width": 2 * FINE, "stroke_fill": "white"}
        self._draw.text(tuple(place), text, fill=color, font=font, anchor="mm", **halo)

    def done(self) -> Image.Image:
        width, height = self.image.size
        return self.image.resize((width // FINE, height // FINE), Image.Resampling.BOX)


def enlarge(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a picture enlarged to a width, its pixels being visible."""
    height = round(size * picture.shape[0] / picture.shape[1])
    return np.asarray(Image.fromarray(picture).resize((size, height), Image.Resampling.NEAREST))


def row(
    pictures: Sequence[Image.Image], captions: Sequence[str] = (), size: int = 13
) -> Image.Image:
    """Put pictures side by side, each above its caption."""
    below = 24 if captions else 0
    height = max(picture.height for picture in pictures) + below
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    left = 0
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (left, 0))
        if captions:
            middle = (left + picture.width / 2, picture.height + below / 2)
            font = ImageFont.load_default(size)
            ImageDraw.Draw(sheet).text(middle, captions[index], INK, font, anchor="mm")
        left += picture.width + GAP
    return sheet


def column(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures one below the other."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + GAP * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height + GAP
    return sheet


def grid(pictures: Sequence[NDArray[np.uint8]], columns: int) -> Image.Image:
    """Put pictures of one size into rows without gaps."""
    height, width = pictures[0].shape[:2]
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (index % columns * width, index // columns * height))
    return sheet
