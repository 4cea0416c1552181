"""Serve the page over loopback, for stores of any size: a shape is read when it is asked for.

Only this machine can connect, and the URL has a random token, since other users and the pages of
other sites in the same browser can connect to a loopback port, too. Nothing is written anywhere.
"""

import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.view.contents import Contents, ViewOptions, contents_of
from pointcmt.view.page import as_json, page, shape_script
from pointcmt.view.shapes import shape_data

HOST = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # it would tell the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other page can load a shape as its script
    "X-Frame-Options": "DENY",
}
_SHAPE = re.compile(r"shape-(\d{6,9})\.js")


@contextmanager
def serving(store: ViewStore, options: ViewOptions | None = None, port: int = 0) -> Iterator[str]:
    """Serve the page until the context ends; yields its URL.

    port: 0 = any free one. Raises UsageError if no shape is chosen or
    the port cannot be used, StoreError if none of the shapes is rendered yet.
    """
    options = options or ViewOptions()
    contents = contents_of(store, options)
    token = secrets.token_urlsafe(24)
    own = {"contents": contents, "views": options.views, "token": token}
    handler = type("Handler", (_Handler,), own)
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"this port cannot be used: {error}", where=f"--port {port}", fix="use another --port"
        ) from None
    thread = Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/{token}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for the page and its shapes, below the token; nothing else exists."""

    contents: Contents
    views: int
    token: str

    def do_GET(self) -> None:
        _, token, *rest = self.path.partition("?")[0].split("/")
        name = rest[0] if len(rest) == 1 else None
        found = _SHAPE.fullmatch(name or "")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found")
        elif name == "":
            text = page(self.contents.as_json(), files=True)
            self._answer(HTTPStatus.OK, "text/html", text)
        elif found and int(found[1]) in self.contents.rendered:
            place = int(found[1])
            self._answer(HTTPStatus.OK, "text/javascript", shape_script(place, self._shape(place)))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found")

    def _shape(self, place: int) -> str:
        """Return a shape as JSON, or why it cannot be read."""
        contents = self.contents
        try:
            shape, matched = contents.shapes[place], contents.matched[place]
            own = shape_data(contents.store, shape, matched, self.views, contents.overlay)
            return as_json(own)
        except StoreError as error:
            return as_json({"error": f"{error.what}: {error.where}"})

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: requests hold the token."""
