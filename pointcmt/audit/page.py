"""The page of an audit: each finding with pictures of the shapes concerned, all in one file.

Names of shapes and classes are written by strangers: see `static_page`.
"""

import html
from pathlib import Path

from pointcmt.audit.findings import Finding, Tile
from pointcmt.audit.rendered import Rendered
from pointcmt.audit.run import Audit
from pointcmt.datasets.page_folder import require_free, write_files
from pointcmt.datasets.static_page import static_page
from pointcmt.datasets.store.schema import SCENES
from pointcmt.errors import printable
from pointcmt.view.packing import image_uri

GENERATOR = "pointcmt audit"
PAGE = "index.html"
SMALL = 160  # pixels: narrower images are enlarged by whole pixels
MOST_IDS = 200  # that the page lists of a finding; the JSON has them all
STYLE = """
h2 { margin: 2rem 0 .25rem }
h2::first-letter { text-transform: uppercase }
.row { display: flex; flex-wrap: wrap; gap: .75rem; padding: .5rem 0;
  border-bottom: 1px solid #eee }
figure { margin: 0; width: 10.5rem }
img { width: 100%; border: 1px solid #ddd }
img.small { image-rendering: pixelated }
figcaption { font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere }
figcaption span { color: #666 }
details { margin: .5rem 0; overflow-wrap: anywhere }
"""


def require_folder_free(out: Path, overwrite: bool) -> None:
    """Raise StoreError if the page would replace a file that is not from an earlier audit."""
    require_free(out, [PAGE], overwrite, GENERATOR)


def write_page(audit: Audit, out: Path, overwrite: bool = False) -> Path:
    """Write OUT/index.html; return its path.

    overwrite: replace a file that is not from an earlier audit. Raises StoreError if there is one,
    or if the folder cannot be written.
    """
    require_folder_free(out, overwrite)
    (path,) = write_files(out, {PAGE: _page(audit).encode("utf-8", "replace")})
    return path


def _page(audit: Audit) -> str:
    rendered = audit.rendered
    name = rendered.store.attributes["source"]["name"]
    sections = "".join(_section(rendered, finding) for finding in audit.findings)
    passed, skipped = (
        "".join(f"<li>{html.escape(text)}</li>" for text in texts)
        for texts in (audit.verdict.passed, audit.verdict.skipped)
    )
    count = len(audit.findings)
    verdict = "no finding" if audit.ok else f"{count} finding{'s' if count > 1 else ''}"
    body = f"""<h1>{html.escape(name)}: {verdict}</h1>
<p>{len(rendered.shapes):,} rendered {rendered.unit}s of {html.escape(rendered.store.path)}</p>
{sections}
<h2>Without a finding</h2><ul>{passed}</ul>
{f"<h2>Not checked</h2><ul>{skipped}</ul>" if skipped else ""}"""
    return static_page(GENERATOR, f"{name}: audit", STYLE, body)


def _section(rendered: Rendered, finding: Finding) -> str:
    rows = "".join(
        f'<div class="row">{"".join(_figure(rendered, tile) for tile in row)}</div>'
        for row in finding.rows
    )
    ids = [rendered.named(shape) for shape in finding.shapes[:MOST_IDS]]
    more = len(finding.shapes) - len(ids)
    listed = html.escape(", ".join(map(printable, ids))) + (f" and {more:,} more" if more else "")
    summary = f"all {len(finding.shapes):,} {rendered.unit}s"
    return (
        f"<h2>{finding.kind}</h2><p>{html.escape(finding.what)}</p>{rows}"
        f"<details><summary>{summary}</summary>{listed}</details>"
    )


def _figure(rendered: Rendered, tile: Tile) -> str:
    """Return a view with the shape's id, class, split and the note below it."""
    store = rendered.store
    image = store.read("rgb", tile.shape, tile.view)
    uri = image_uri(image, lossless=store.schema.kind != SCENES)
    about = f"{rendered.class_of(tile.shape)} · {rendered.split_of(tile.shape)} · view {tile.view}"
    note = f"<br>{html.escape(tile.note)}" if tile.note else ""
    name = html.escape(printable(store.shapes[tile.shape].id))
    small = ' class="small"' if image.shape[1] < SMALL else ""
    return (
        f'<figure><img src="{uri}"{small} alt="{name}, view {tile.view}"><figcaption>{name}<br>'
        f"<span>{html.escape(about)}</span>{note}</figcaption></figure>"
    )
