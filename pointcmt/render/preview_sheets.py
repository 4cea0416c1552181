"""Sheets of captioned views, and of points drawn on their pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import printable
from pointcmt.render.preview_layers import layer_images

POINTS_SHOWN = 1024  # the first n points: evenly spread, since points are in farthest-point order
SHARE_OF_DOTS = 0.25  # of a silhouette that dots may cover, so that thin shapes stay visible
FEWEST_POINTS = 16
RADIUS = 2  # of a dot, in pixels of the enlarged picture
HIDDEN = (168, 168, 168)  # the ring of a point that this view does not see
COLUMNS_OF_VIEWS = 10  # two shapes are put side by side if they have at most half as many
PAGE = 1200  # pixels: the width at which a page shows a sheet
CAPTION = 14  # pixels of a caption's text at that width
FEWEST_PIXELS = 96  # of a view in a sheet: smaller ones are enlarged


def contact_sheet(
    store: ViewStore, shapes: list[int], views: list[int], layer: str = "rgb"
) -> Image.Image:
    """Draw one row of views per shape; put two shapes side by side if there are few views."""
    factor = -(-FEWEST_PIXELS // store.schema.image[0])
    columns = min(len(shapes), max(1, COLUMNS_OF_VIEWS // len(views)))
    size = caption_size(columns * len(views) * factor * store.schema.image[1])
    tiles = [
        strip(enlarge(layer_images(store, i, views, layer), factor), caption_of(store, i), size)
        for i in shapes
    ]
    return grid(tiles, columns)


def points_sheet(store: ViewStore, shapes: list[int], views: list[int]) -> Image.Image:
    """Draw each visible point on its pixel, colored by its position on the shape.

    A point has the same color in all views. Points that a view does not see are gray rings. Of thin
    shapes, fewer points are drawn.
    """
    scale = 2 * -(-FEWEST_PIXELS // store.schema.image[0])
    size, tiles = caption_size(len(views) * scale * store.schema.image[1]), []
    for shape in shapes:
        images, depth = (store.read(name, shape)[views] for name in ("rgb", "depth"))
        count = points_to_draw(float(np.median((depth > 0).sum(axis=(1, 2)))), scale)
        points = store.read("points", shape)[:count]
        visible, camera = store.visible(shape)[views][:, :count], store.camera(shape)[views]
        colors, (uv, _) = point_colors(points), camera.project(points)
        painted = [
            paint_points(image, uv[v][seen], colors[seen], scale, uv[v][~seen])
            for v, (image, seen) in enumerate(zip(images, visible, strict=True))
        ]
        tiles.append(strip(np.stack(painted), caption_of(store, shape), size))
    return grid(tiles, columns=1)


def points_to_draw(area: float, scale: int) -> int:
    """Return how many points may be drawn on a silhouette of `area` pixels, enlarged `scale` times.

    Their dots cover at most SHARE_OF_DOTS of it.
    """
    dots = SHARE_OF_DOTS * area * scale**2 / (np.pi * (RADIUS + 0.5) ** 2)
    return int(np.clip(dots, FEWEST_POINTS, POINTS_SHOWN))


def paint_points(
    image: NDArray[np.uint8],
    uv: NDArray[np.float64],
    colors: NDArray[np.uint8],
    scale: int = 2,
    hidden: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Return an image [H,W,3], lightened, enlarged `scale` times, with points at pixels [n,2].

    hidden: pixels [m,2] of points that the view does not see; they are drawn as rings below.
    """
    pale = Image.fromarray((255 - (255 - image.astype(np.int32)) // 3).astype(np.uint8))
    picture = pale.resize((pale.width * scale, pale.height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for u, v in scale * hidden if hidden is not None else ():
        draw.ellipse((u - 1.5, v - 1.5, u + 1.5, v + 1.5), outline=HIDDEN)
    for (u, v), color in zip(uv * scale, colors, strict=True):
        box = (u - RADIUS, v - RADIUS, u + RADIUS, v + RADIUS)
        draw.ellipse(box, fill=tuple(color.tolist()))
    return np.asarray(picture)


def point_colors(points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return colors [N,3] that encode the positions of points [N,3]: x red, y green, z blue."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (255 * (points - low) / np.maximum(high - low, 1e-9)).astype(np.uint8)


def caption_of(store: ViewStore, shape: int) -> str:
    """Return a shape's id, class and split."""
    record = store.shapes[shape]
    parts = (record.id, *((record.class_name,) if record.class_name else ()), record.split)
    return " · ".join(map(printable, parts))


def caption_size(width: int) -> int:
    """Return the size of text, in pixels, that is legible when a sheet is shown PAGE wide."""
    return max(CAPTION, round(CAPTION * width / PAGE))


def strip(images: NDArray[np.uint8], caption: str, size: int) -> Image.Image:
    """Put images [V,H,W,3] side by side under a caption; size: of its text in pixels.

    The beginning of a caption that is too long is cut.
    """
    views, height, width = images.shape[:3]
    top, font = round(1.5 * size), ImageFont.load_default(size)
    picture = Image.new("RGB", (views * width, height + top), "white")
    picture.paste(Image.fromarray(np.concatenate(list(images), axis=1)), (0, top))
    draw = ImageDraw.Draw(picture)
    text = printable(caption, 400)
    while len(text) > 1 and draw.textlength(text, font) > picture.width - 8:
        text = "…" + text[2:]
    draw.text((4, size // 8), text, fill="#333333", font=font)
    return picture


def grid(tiles: list[Image.Image], columns: int) -> Image.Image:
    """Put tiles into rows; smaller ones leave room at their right and below."""
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = (max(sizes) for sizes in zip(*(tile.size for tile in tiles), strict=True))
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


def enlarge(images: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return images [V,H,W,3], enlarged by a whole number."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)
