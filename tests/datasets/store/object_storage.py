"""Real servers of object storage on loopback, and a connection to them that can be cut."""

import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIATHEKEY", "AWS_SECRET_ACCESS_KEY": "the+secret+of+the+key"}


@dataclass(frozen=True)
class Bucket:
    """A bucket accessed over plain HTTP, without the package. server: its address."""

    scheme: str
    server: str
    name: str = "bucket"

    def url(self, path):
        return f"{self.scheme}://{self.name}/{path}"

    def objects(self, path):
        """The data of all objects below a path, by the rest of their names."""
        return {name.removeprefix(f"{path}/"): self.get(name) for name in self.names(f"{path}/")}

    def names(self, prefix):
        found, more = [], ""
        while True:
            text = self.ask("GET", self._listing(prefix, more)).decode()
            pattern = r'"name": "([^"]+)"' if self.scheme == "gs" else r"<Key>([^<]+)</Key>"
            found += re.findall(pattern, text)
            token = re.search(r'(?:nextPageToken": "|<NextContinuationToken>)([^"<]+)', text)
            if not token:
                return found
            more = token[1]

    def get(self, name):
        return self.ask("GET", self._object(name) + ("?alt=media" if self.scheme == "gs" else ""))

    def put(self, name, data):
        if self.scheme == "gs":
            where = f"upload/storage/v1/b/{self.name}/o?uploadType=media&name={quote(name, '')}"
            self.ask("POST", where, data)
        else:
            self.ask("PUT", self._object(name), data)

    def delete(self, name):
        self.ask("DELETE", self._object(name))

    def _object(self, name):
        if self.scheme == "gs":
            return f"storage/v1/b/{self.name}/o/{quote(name, '')}"
        return f"{self.name}/{quote(name)}"

    def _listing(self, prefix, more):
        if self.scheme == "gs":
            return f"storage/v1/b/{self.name}/o?prefix={quote(prefix)}&pageToken={quote(more)}"
        token = f"&continuation-token={quote(more, '')}" if more else ""
        return f"{self.name}?list-type=2&prefix={quote(prefix)}{token}"

    def ask(self, method, where, data=None):
        headers = {
            "Content-Type": "application/octet-stream",
            # moto requires an identity, and accepts any
            "Authorization": "AWS4-HMAC-SHA256 Credential=t/20261125/us-east-1/s3/aws4",
        }
        request = urllib.request.Request(f"{self.server}/{where}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


@contextmanager
def s3_server():
    """Run moto's S3 server with one bucket in its own process."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with server(command, port) as address:
        bucket = Bucket("s3", address)
        bucket.ask("PUT", bucket.name)
        yield bucket


@contextmanager
def gcs_server():
    """Run gcs_server.py with one bucket in its own process."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).parent / "gcs_server.py"), str(port), "bucket"]
    with server(command, port) as address:
        yield Bucket("gs", address)


class _Endless(BaseHTTPRequestHandler):
    """An S3 server with endless listings: each page has one key and names the next page."""

    protocol_version = "HTTP/1.1"
    pages = 0

    def do_GET(self):
        _Endless.pages += 1
        key, token = f"commits/render/{self.pages:06d}.json", f"page{self.pages}"
        body = (
            '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>true'
            f"</IsTruncated><NextContinuationToken>{token}</NextContinuationToken><KeyCount>1"
            f"</KeyCount><Contents><Key>store/{key}</Key></Contents></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def endless_listing():
    """Yield the address of a server whose listings never end."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()


@contextmanager
def server(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, "the server did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Wire:
    """A TCP connection to a server that breaks after a number of bytes have been sent.

    From then on nothing answers until `mend` is called.
    """

    def __init__(self, server, length):
        self.target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.broken = threading.Event()
        # The beginning of the request whose response will be lost.
        self.forget, self._lost = b"", False
        self.mend(length)

    def mend(self, length=1 << 60):
        self.left = length
        self.broken.clear()
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.open = {self.listener}
        threading.Thread(target=self._accept, args=(self.listener, self.open), daemon=True).start()

    def cut(self):
        self.broken.set()
        for one in list(self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener, open_):
        with suppress(OSError):
            while True:
                near, far = listener.accept()[0], socket.create_connection(self.target)
                open_ |= {near, far}
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, target, counted):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and self.forget and data.startswith(self.forget):
                    self.forget, self._lost = b"", True
                elif not counted and self._lost:
                    self._lost = False
                    break
                self.left -= len(data) * counted
                if self.left < 0:
                    return self.cut()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
