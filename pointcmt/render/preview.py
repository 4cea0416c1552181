"""Previews of a store: a contact sheet, visible points on their pixels, and a page with both."""

import html
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pointcmt.console import in_pixels
from pointcmt.datasets.page_folder import PNG_KEY, require_free, write_files
from pointcmt.datasets.selection import Selection, choose, in_turn
from pointcmt.datasets.static_page import static_page
from pointcmt.datasets.store.documents import Outcome
from pointcmt.datasets.store.schema import CORRESPONDENCES, DONE, SCENES, SPLITS
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.render.preview_layers import layer_images, require_layer
from pointcmt.render.preview_scenes import (
    enlarged,
    map_from_above,
    matches_between,
    pair_with_overlap,
)
from pointcmt.render.preview_sheets import (
    caption_of,
    caption_size,
    contact_sheet,
    grid,
    points_sheet,
    strip,
)

GENERATOR = "pointcmt preview"
SHEET, POINTS, PAGE = "contact_sheet.png", "points.png", "index.html"
ABOUT = {
    SHEET: "One row per shape.",
    POINTS: "A dot is a point that the view sees, colored by its position on the shape; a gray "
    "ring is a point that something hides from the view.",
}
ABOUT_SCENES = {
    SHEET: "Each scene from above, with its boxes and cameras, and some of its frames.",
    POINTS: "The same points in two frames of a scene.",
}


@dataclass(frozen=True)
class Choice:
    """What a preview shows. failed: only shapes that failed. layer: of the views."""

    selection: Selection = field(default_factory=Selection)
    failed: bool = False
    layer: str = "rgb"


EVERYTHING = Choice()
STYLE = """
.sheet { overflow-x: auto }
img { width: 100%; min-width: 45rem; border: 1px solid #ddd; box-sizing: border-box }
table { border-collapse: collapse }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; overflow-wrap: anywhere }
"""


def preview(
    store: ViewStore,
    out: Path,
    shapes: int,
    views: int,
    overwrite: bool = False,
    choice: Choice = EVERYTHING,
) -> list[Path]:
    """Write contact_sheet.png, points.png (if there are correspondences) and index.html.

    shapes, views: maximum numbers; shapes are spread over classes, views over the rig. overwrite:
    replace files of these names that were not written by a preview. Of failed shapes, only those
    without correspondences have pictures; the page lists all of them. Returns the files written.
    Raises StoreError if no shape is rendered yet, or if files not written by a preview exist, and
    UsageError if no shape is chosen or the store does not have the layer.
    """
    require_layer(store, choice.layer)
    failed = _failed(store)
    chosen = _choose(store, choice, shapes, failed)
    lost = [outcome for shape, outcome in failed.items() if shape in chosen.listed]
    if store.schema.kind == SCENES:
        names = [SHEET, POINTS] if chosen.shown else []
        require_free(out, [*names, PAGE], overwrite, GENERATOR)  # before drawing anything
        pictures = _scene_pictures(store, chosen.shown, views, choice.layer) if names else {}
        return _write(store, out, pictures, lost)
    shown = np.linspace(0, store.schema.views - 1, min(views, store.schema.views)).round()
    picked = [int(view) for view in shown]
    committed = set(store.committed(CORRESPONDENCES))
    matched = [i for i in chosen.shown if i // store.schema.shard in committed and i not in failed]
    names = [*([SHEET] if chosen.shown else []), *([POINTS] if matched else [])]
    require_free(out, [*names, PAGE], overwrite, GENERATOR)
    pictures = {}
    if chosen.shown:
        pictures[SHEET] = contact_sheet(store, chosen.shown, picked, choice.layer)
    if matched:
        some = [matched[i] for i in range(0, len(matched), -(-len(matched) // 8))]
        pictures[POINTS] = points_sheet(store, some, picked[:6])
    return _write(store, out, pictures, lost)


@dataclass(frozen=True)
class _Chosen:
    """shown: shapes that are rendered, class by class. listed: all that are chosen."""

    shown: list[int]
    listed: set[int]


def _choose(store: ViewStore, choice: Choice, count: int, failed: dict[int, Outcome]) -> _Chosen:
    """Return the shapes to show. Raises StoreError or UsageError if there are none."""
    listed = np.array(choose(store, choice.selection), np.int64)
    if choice.failed:
        listed = listed[np.isin(listed, list(failed))]
        if not len(listed):
            raise UsageError(
                "none of these shapes has failed", where=store.path, fix="leave out --failed"
            )
    done = listed[store.status()[listed] == DONE]
    if not len(done) and not choice.failed:
        raise StoreError(
            "no shape of this store has been rendered yet"
            if choice == EVERYTHING
            else "none of these shapes is rendered",
            where=store.path,
            fix="run `pointcmt render`" if choice == EVERYTHING else "choose others",
        )
    some = in_turn(done, store.labels[done], count).tolist()
    by_class = sorted(some, key=lambda shape: (store.labels[shape], shape))
    return _Chosen(by_class, set(listed.tolist()))


def _failed(store: ViewStore) -> dict[int, Outcome]:
    """Return how the failed shapes ended, by their numbers."""
    outcomes = {outcome.id: outcome for outcome in store.failures()}
    if not outcomes:
        return {}
    ids = enumerate(record.id for record in store.shapes)
    return {shape: outcomes[name] for shape, name in ids if name in outcomes}


def _scene_pictures(
    store: ViewStore, scenes: list[int], views: int, layer: str
) -> dict[str, Image.Image]:
    """Return maps and frames of scenes, and matches between frames if there are any."""
    rows, pairs = [], []
    for scene in scenes:
        count = store.counts(scene)["view_count"]
        shown = [int(i) for i in np.linspace(0, count - 1, min(views, count)).round()]
        frames = enlarged(layer_images(store, scene, shown, layer))
        above = map_from_above(store, scene, frames.shape[1])
        rows.append(_scene_strip(above, frames, caption_of(store, scene)))
        pair = pair_with_overlap(store, scene)
        if pair is not None:
            drawn = np.asarray(matches_between(store, scene, pair))[None]
            caption = f"{caption_of(store, scene)}, frames {pair[0]} and {pair[1]}"
            pairs.append(strip(drawn, caption, caption_size(2 * drawn.shape[2])))
    return {SHEET: grid(rows, 1)} | ({POINTS: grid(pairs, 2)} if pairs else {})


def _scene_strip(above: Image.Image, frames: NDArray[np.uint8], caption: str) -> Image.Image:
    """Put a map and frames [V,H,W,3] side by side under a caption."""
    wide = np.concatenate([np.asarray(above), *frames], axis=1)
    return strip(wide[None], caption, caption_size(wide.shape[1]))


def _write(
    store: ViewStore, out: Path, pictures: dict[str, Image.Image], lost: list[Outcome]
) -> list[Path]:
    """Write the pictures and the page that shows them. lost: failed shapes, for its table."""
    contents = {name: _png(picture) for name, picture in pictures.items()}
    return write_files(out, {**contents, PAGE: _page(store, list(pictures), lost).encode()})


def _png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG, marked as written by a preview."""
    mark, file = PngInfo(), BytesIO()
    mark.add_text(PNG_KEY, GENERATOR)
    picture.save(file, "png", pnginfo=mark)
    return file.getvalue()


def _page(store: ViewStore, pictures: list[str], lost: list[Outcome]) -> str:
    """Return a self-contained page: the store's contents, the pictures, the failed shapes."""
    status, source = store.status(), store.attributes["source"]
    rows = [
        (name, [int(np.sum(mine & (store.splits == split))) for split in range(len(SPLITS))])
        for label, name in enumerate(store.class_names)
        if np.any(mine := (store.labels == label) & (status == DONE))
    ]
    about = ABOUT_SCENES if store.schema.kind == SCENES else ABOUT
    images = "".join(
        f'<h2>{name}</h2><p>{about[name]}</p><div class="sheet"><a href="{name}">'
        f'<img src="{name}" alt="{about[name]}"></a></div>'
        for name in pictures
    )
    losses = "".join(
        f"<tr><td>{html.escape(o.id)}</td><td>{o.reason}</td><td>{html.escape(o.detail)}</td></tr>"
        for o in lost
    )
    heads = "".join(f"<th>{split}</th>" for split in SPLITS)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{n}</td>" for n in counts) + "</tr>"
        for name, counts in rows
    )
    content = f"""<h1>{html.escape(source["name"])}</h1>
<p>{int(np.sum(status == DONE))} of {len(status)} shapes rendered · {store.schema.views} views of
{in_pixels(store.schema.image)} pixels · {store.schema.points} points · license:
{html.escape(source["licence"])}</p>
{images}
<h2>Shapes</h2>
<table><tr><th>class</th>{heads}</tr>{body}</table>
<h2>Failed: {len(lost)}</h2>
<table>{losses}</table>"""
    return static_page(GENERATOR, f"{source['name']}: view store", STYLE, content, "'self' file:")
