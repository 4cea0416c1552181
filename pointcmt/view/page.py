"""Put a store's data into the page: HTML with its style, its scripts and its data, all in one file.

Names of shapes and classes, notes and details are written by strangers. They reach the page as JSON
without `<`, `>` and `&`, and its scripts only ever set them as text. The Content-Security-Policy
allows the page's own scripts by their hash, and no request to anywhere.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from pointcmt.datasets.page_folder import page_mark, script_mark

GENERATOR = "pointcmt view"
SCRIPTS = tuple(  # the last one starts the page
    f"{name}.js"
    for name in (
        "geometry",
        "data",
        "colors",
        "painted",
        "views",
        "cloud",
        "run",
        "facts",
        "controls",
        "app",
    )
)
# JSON for an HTML page: no text in it can end a script element or begin a comment.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


@cache
def _part(name: str) -> str:
    return (files("pointcmt.view") / "page" / name).read_text("utf-8")


def as_json(value: Any) -> str:
    """Return JSON that is safe in a script element; ASCII only."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda found: _UNSAFE[found[0]], text)


def shape_script(place: int, data: str) -> str:
    """Return the file of one shape (JSON), for pages whose shapes are in files of their own."""
    return f"{script_mark(GENERATOR)}pointcmtShape({place},{data});\n"


def page(index: dict[str, Any], inline: Iterable[tuple[int, str]] = (), files: bool = False) -> str:
    """Return the page. index: what `Contents.as_json` returns. inline: shapes by their place in
    the index, as JSON. files: the other shapes are in files beside the page.
    """
    style, script = _part("style.css"), "\n".join(map(_part, SCRIPTS))
    sources = [_hash(script), *(["'self'", "file:"] if files else [])]
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {' '.join(sources)}; base-uri 'none'; form-action 'none'"
    )
    values = {
        "mark": page_mark(GENERATOR),
        "policy": html.escape(policy),
        "title": html.escape(index["name"]).encode("utf-8", "replace").decode(),
        "style": style,
        "script": script,
        "index": as_json(index),
        "shapes": "\n".join(
            f'<script type="application/json" id="shape-{place}">{data}</script>'
            for place, data in inline
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], _part("page.html"))


def _hash(text: str) -> str:
    """Return a source of a Content-Security-Policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
