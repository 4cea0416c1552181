"""A hub of image networks on this machine, for tests of downloads."""

import http.server
import threading
from contextlib import contextmanager
from typing import ClassVar

import numpy as np


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download uses."""

    files: ClassVar[dict] = {}
    asked: ClassVar[list] = []

    def do_HEAD(self):
        name, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        self.asked.append((name, revision, file))
        models = {key[0] for key in self.files}
        data = self.files.get((name, revision, file))
        if data is None:
            known = "EntryNotFound" if name in models else "RepoNotFound"
            if name in models and (name, revision) not in {key[:2] for key in self.files}:
                known = "RevisionNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", known)
            self.send_header("X-Repo-Commit", (revision * 40)[:40])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("X-Repo-Commit", (revision * 40)[:40])
        self.send_header("ETag", f'"{np.frombuffer(data, np.uint8).sum()}-{len(data)}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def do_GET(self):
        data = self.do_HEAD()
        if data is not None:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def served(monkeypatch, cache):
    """Serve an empty hub on this machine, with an empty local cache."""
    import huggingface_hub
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "asked", [])
    yield Hub
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


def publish(hub, name, folder, revision="main", files=("config.json", "model.safetensors")):
    for file in files:
        hub.files[name, revision, file] = (folder / file).read_bytes()
