"""A server with the calls of Google Cloud Storage's JSON API that a store needs: list, get, insert,
delete, with generations as conditions. Usage: python gcs_server.py PORT BUCKET ...

They are documented at https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 20  # names per page of a listing, few so that there are several
LOCK, GENERATIONS = Lock(), count(1)
BUCKETS: dict[str, dict[str, tuple[int, bytes]]] = {name: {} for name in sys.argv[2:]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_call(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
        found = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)/o(?:/(.+))?", url.path)
        objects = BUCKETS.get(found[2]) if found else None
        with LOCK:
            if objects is None:
                self.fail(404, "The specified bucket does not exist.")
            elif self.command == "POST":
                self.insert(objects, asked, body)
            elif found[3] is None:
                self.list(objects, asked)
            else:
                self.serve(objects, unquote(found[3]), asked)

    do_GET = do_POST = do_DELETE = handle_call

    def insert(self, objects, asked, body):
        name = asked["name"]
        if not self.condition_holds(objects, name, asked):
            return self.fail(412, "conditionNotMet")
        objects[name] = next(GENERATIONS), body
        return self.answer(200, self.about(objects, name))

    def list(self, objects, asked):
        first, end = asked.get("startOffset", ""), asked.get("endOffset")
        names = [
            name
            for name in sorted(objects)
            if name.startswith(asked.get("prefix", ""))
            and name >= first
            and (end is None or name < end)
            and name > asked.get("pageToken", "")
        ]
        page = {"kind": "storage#objects", "items": [self.about(objects, n) for n in names[:PAGE]]}
        if len(names) > PAGE:
            page["nextPageToken"] = names[PAGE - 1]
        self.answer(200, page)

    def serve(self, objects, name, asked):
        if name not in objects:
            return self.fail(404, "No such object")
        if not self.condition_holds(objects, name, asked):
            return self.fail(412, "conditionNotMet")
        if self.command == "DELETE":
            del objects[name]
            return self.answer(204, b"")
        generation, data = objects[name]
        if asked.get("alt") != "media":
            return self.answer(200, self.about(objects, name))
        facts = {"x-goog-generation": str(generation)}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, data, facts)
        first = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
        last = min(len(data), int(wanted[2]) + 1 if wanted[1] and wanted[2] else len(data))
        facts["Content-Range"] = f"bytes {first}-{last - 1}/{len(data)}"
        return self.answer(206, data[first:last], facts)

    def condition_holds(self, objects, name, asked):
        wanted = asked.get("ifGenerationMatch")
        return wanted is None or int(wanted) == objects.get(name, (0, b""))[0]

    def about(self, objects, name):
        generation, data = objects[name]
        return {"name": name, "generation": str(generation), "size": str(len(data))}

    def fail(self, code, message):
        self.answer(code, {"error": {"code": code, "message": message}})

    def answer(self, code, body, facts=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for key, value in {**dict(facts), "Content-Length": len(data)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
