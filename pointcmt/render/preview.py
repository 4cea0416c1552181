"""Previews of a store: a contact sheet, visible points on their pixels, and a page with both."""

import html
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pointcmt.datasets.page_folder import PNG_KEY, page_mark, require_free, write_files
from pointcmt.datasets.store.schema import CORRESPONDENCES, DONE, SCENES, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, printable
from pointcmt.render.preview_scenes import (
    enlarged,
    frames_with_labels,
    map_from_above,
    matches_between,
    pair_with_overlap,
)

GENERATOR = "pointcmt preview"
CAPTION = 14  # pixels
POINTS_SHOWN = 1024  # the first n points: evenly spread, since points are in farthest-point order


def preview(
    store: ViewStore, out: Path, shapes: int, views: int, overwrite: bool = False
) -> list[Path]:
    """Write contact_sheet.png, points.png (if there are correspondences) and index.html.

    shapes, views: maximum numbers; shapes are spread over classes, views over the rig. overwrite:
    replace files of these names that were not written by a preview. Returns the files written.
    Raises StoreError if no shape is rendered yet, or if files not written by a preview exist.
    """
    chosen = choose_shapes(store, shapes)
    if store.schema.kind == SCENES:
        return _preview_scenes(store, out, chosen, views, overwrite)
    shown = np.linspace(0, store.schema.views - 1, min(views, store.schema.views)).round()
    picked = [int(view) for view in shown]
    committed = set(store.committed(CORRESPONDENCES))
    matched = [i for i in chosen if i // store.schema.shard in committed]
    names = ["contact_sheet.png", *(["points.png"] if matched else [])]
    require_free(out, [*names, "index.html"], overwrite, GENERATOR)  # before drawing anything
    pictures = [contact_sheet(store, chosen, picked)]
    if matched:
        some = [matched[i] for i in range(0, len(matched), -(-len(matched) // 8))]
        pictures.append(points_sheet(store, some, picked[:6]))
    contents = {name: _png(picture) for name, picture in zip(names, pictures, strict=True)}
    return write_files(out, {**contents, "index.html": _page(store, names).encode()})


def _preview_scenes(
    store: ViewStore, out: Path, scenes: list[int], views: int, overwrite: bool
) -> list[Path]:
    """Write contact_sheet.png (maps and frames with labels), points.png (matches), index.html."""
    names = ["contact_sheet.png", "points.png"]
    require_free(out, [*names, "index.html"], overwrite, GENERATOR)
    rows, pairs = [], []
    for scene in scenes:
        count = store.counts(scene)["view_count"]
        shown = [int(i) for i in np.linspace(0, count - 1, min(views, count)).round()]
        frames = enlarged(frames_with_labels(store, scene, shown))
        above = map_from_above(store, scene, frames.shape[1])
        rows.append(_scene_strip(above, frames, store.shapes[scene].id))
        pair = pair_with_overlap(store, scene)
        if pair is not None:
            drawn = np.asarray(matches_between(store, scene, pair))
            pairs.append(_strip(drawn[None], f"{store.shapes[scene].id}, frames {pair}"))
    pictures = {"contact_sheet.png": _grid(rows, columns=1)}
    if pairs:
        pictures["points.png"] = _grid(pairs, columns=2)
    contents = {name: _png(picture) for name, picture in pictures.items()}
    return write_files(out, {**contents, "index.html": _page(store, list(pictures)).encode()})


def _scene_strip(above: Image.Image, frames: NDArray[np.uint8], caption: str) -> Image.Image:
    """Put a map and frames [V,H,W,3] side by side under a caption."""
    wide = np.concatenate([np.asarray(above), *frames], axis=1)
    return _strip(wide[None], caption)


def choose_shapes(store: ViewStore, count: int) -> list[int]:
    """Return up to `count` rendered shapes, class by class in turn. Raises StoreError if none."""
    done = np.flatnonzero(store.status() == DONE)
    if not len(done):
        raise StoreError(
            "no shape of this store has been rendered yet",
            where=store.path,
            fix="run `pointcmt render`",
        )
    labels = store.labels[done]
    turn = np.zeros(len(done), np.int64)  # number of earlier shapes of the same class
    for label in np.unique(labels):
        turn[labels == label] = np.arange(np.sum(labels == label))
    first = np.lexsort((labels, turn))[:count]
    return sorted(done[first].tolist(), key=lambda shape: (store.labels[shape], shape))


def contact_sheet(store: ViewStore, shapes: list[int], views: list[int]) -> Image.Image:
    """Draw one row of views per shape; put two shapes side by side if there are few views."""
    tiles = [_strip(store.read("rgb", shape)[views], store.shapes[shape].id) for shape in shapes]
    return _grid(tiles, columns=max(1, 10 // len(views)))


def points_sheet(store: ViewStore, shapes: list[int], views: list[int]) -> Image.Image:
    """Draw each visible point on its pixel, colored by its position on the shape.

    A point has the same color in all views; occluded points are not drawn.
    """
    tiles = []
    for shape in shapes:
        points = store.read("points", shape)[:POINTS_SHOWN]
        visible, camera = store.visible(shape)[:, :POINTS_SHOWN], store.camera(shape)
        images, colors = store.read("rgb", shape), point_colors(points)
        painted = [
            paint_points(images[v], camera[v].project(points)[0][visible[v]], colors[visible[v]])
            for v in views
        ]
        tiles.append(_strip(np.stack(painted), store.shapes[shape].id))
    return _grid(tiles, columns=1)


def paint_points(
    image: NDArray[np.uint8], uv: NDArray[np.float64], colors: NDArray[np.uint8], scale: int = 2
) -> NDArray[np.uint8]:
    """Return an image [H,W,3], lightened, enlarged `scale` times, with points at pixels [n,2]."""
    pale = Image.fromarray((255 - (255 - image.astype(np.int32)) // 3).astype(np.uint8))
    picture = pale.resize((pale.width * scale, pale.height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for (u, v), color in zip(uv * scale, colors, strict=True):
        draw.ellipse((u - 2, v - 2, u + 2, v + 2), fill=tuple(color.tolist()))
    return np.asarray(picture)


def point_colors(points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return colors [N,3] that encode the positions of points [N,3]: x red, y green, z blue."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (255 * (points - low) / np.maximum(high - low, 1e-9)).astype(np.uint8)


def _png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG, marked as written by a preview."""
    mark, file = PngInfo(), BytesIO()
    mark.add_text(PNG_KEY, GENERATOR)
    picture.save(file, "png", pnginfo=mark)
    return file.getvalue()


def _strip(images: NDArray[np.uint8], caption: str) -> Image.Image:
    """Put images [V,H,W,3] side by side under a caption."""
    views, height, width = images.shape[:3]
    strip = Image.new("RGB", (views * width, height + CAPTION), "white")
    strip.paste(Image.fromarray(np.concatenate(list(images), axis=1)), (0, CAPTION))
    ImageDraw.Draw(strip).text(
        (4, 0), printable(caption), fill="#444444", font=ImageFont.load_default(11)
    )
    return strip


def _grid(tiles: list[Image.Image], columns: int) -> Image.Image:
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


def _pixels(store: ViewStore) -> str:
    height, width = store.schema.image
    return f"{width}²" if height == width else f"{width} × {height}"


def _page(store: ViewStore, pictures: list[str]) -> str:
    """Return a self-contained page: the store's contents, the pictures, the failed shapes."""
    status, source = store.status(), store.attributes["source"]
    rows = [
        (name, [int(np.sum(mine & (store.splits == split))) for split in range(len(SPLITS))])
        for label, name in enumerate(store.class_names)
        if np.any(mine := (store.labels == label) & (status == DONE))
    ]
    failed = store.failures()
    images = "".join(f'<h2>{name}</h2><img src="{name}" alt="{name}">' for name in pictures)
    losses = "".join(
        f"<tr><td>{html.escape(o.id)}</td><td>{o.reason}</td><td>{html.escape(o.detail)}</td></tr>"
        for o in failed
    )
    heads = "".join(f"<th>{split}</th>" for split in SPLITS)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{n}</td>" for n in counts) + "</tr>"
        for name, counts in rows
    )
    return f"""<!doctype html>
<meta charset="utf-8">
{page_mark(GENERATOR)}
<title>{html.escape(source["name"])}: view store</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; color: #222 }}
img {{ max-width: 100%; border: 1px solid #ddd }}
table {{ border-collapse: collapse }} td, th {{ padding: .1rem .8rem .1rem 0; text-align: left }}
</style>
<h1>{html.escape(source["name"])}</h1>
<p>{int(np.sum(status == DONE))} of {len(status)} shapes rendered · {store.schema.views} views of
{_pixels(store)} pixels · {store.schema.points} points · license:
{html.escape(source["licence"])}</p>
{images}
<h2>Shapes</h2>
<table><tr><th>class</th>{heads}</tr>{body}</table>
<h2>Failed: {len(failed)}</h2>
<table>{losses}</table>
"""
