"""Write the page, with its shapes inside as long as it stays small, or beside it in files."""

from pathlib import Path

from pointcmt.console import meter
from pointcmt.datasets.page_folder import is_ours, require_free, write_files
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import DamageError
from pointcmt.view.contents import Contents, ViewOptions, contents_of
from pointcmt.view.page import GENERATOR, as_json, page, shape_script
from pointcmt.view.shapes import shape_data

PAGE = "index.html"
MOST_INLINE = 16 << 20  # bytes of shapes inside the page; above, each is in a file of its own


def write_view(
    store: ViewStore, out: Path, options: ViewOptions | None = None, overwrite: bool = False
) -> list[Path]:
    """Write index.html and, for many shapes, a file per shape; return the paths.

    overwrite: replace files that were not written by an earlier `pointcmt view`. A shape whose data
    is damaged is shown as failed. Raises UsageError if no shape is chosen, StoreError if none is
    rendered yet, if `out` holds files of others, or cannot be written.
    """
    options = options or ViewOptions()
    contents = contents_of(store, options)
    names = [_name(place) for place in range(len(contents.shapes))]
    require_free(out, [PAGE, *names], overwrite, GENERATOR)  # before reading any shape
    held: dict[int, str] = {}
    written: list[Path] = []

    def flush() -> None:
        scripts = {_name(place): shape_script(place, text) for place, text in held.items()}
        written.extend(write_files(out, {name: text.encode() for name, text in scripts.items()}))
        held.clear()

    with meter("writing the page", len(contents.rendered), "shapes") as progress:
        for place in contents.rendered:
            text = _shape(contents, place, options.views)
            if text is not None:
                held[place] = text
            if sum(map(len, held.values())) > MOST_INLINE:
                flush()
            progress.advance(1)
    has_files = bool(written)
    if has_files:
        flush()
    text = page(contents.as_json(), held.items(), has_files)
    _remove_earlier(out, {path.name for path in written})
    return [*write_files(out, {PAGE: text.encode()}), *written]


def _name(place: int) -> str:
    return f"shape-{place:06d}.js"


def _shape(contents: Contents, place: int, views: int) -> str | None:
    """Return a shape as JSON; None, and its line says why, if its data is damaged."""
    shape, matched = contents.shapes[place], contents.matched[place]
    try:
        return as_json(shape_data(contents.store, shape, matched, views, contents.overlay))
    except DamageError as error:
        line = contents.lines[place]
        line |= {"state": "failed", "reason": "damaged", "detail": f"{error.what}: {error.where}"}
        return None


def _remove_earlier(out: Path, names: set[str]) -> None:
    """Delete the shapes of an earlier page that this one does not have."""
    for path in out.glob("shape-*.js"):
        if path.name not in names and is_ours(path, GENERATOR):
            path.unlink()
