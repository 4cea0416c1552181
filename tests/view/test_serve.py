"""The page over loopback: what is served, and to whom not."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pointcmt.datasets.selection import Selection
from pointcmt.datasets.store.schema import shard_key
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.view.contents import ViewOptions
from pointcmt.view.serve import serving
from tests.pages import Page, shape_of_script


def get(url):
    with urlopen(url, timeout=60) as answer:
        return answer.read(), answer.headers


@pytest.fixture(scope="module")
def url(toy_store):
    with serving(toy_store, ViewOptions(Selection(limit=5))) as found:
        yield found


def test_the_served_page_is_the_written_one(url, toy_page, tmp_path):
    (tmp_path / "page.html").write_bytes(get(url)[0])
    served, written = Page(tmp_path / "page.html"), Page(toy_page / "index.html")
    assert served.json("index") == written.json("index")
    for place in range(5):
        data, headers = get(f"{url}shape-{place:06d}.js")
        (tmp_path / "shape.js").write_bytes(data)
        assert shape_of_script(tmp_path / "shape.js") == (place, written.json(f"shape-{place}"))
        assert headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_without_the_token_there_is_nothing(url):
    root, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)([\w-]{32})/", url).groups()
    wrong = [root, f"{root}{token[:-1]}/", f"{root}{token}x/", f"{root}shape-000000.js"]
    wrong += [f"{url}shape-000005.js", f"{url}../zarr.json", f"{url}index.html", f"{root}%ff/"]
    for place in wrong:
        with pytest.raises(HTTPError, match="404") as error:
            urlopen(place, timeout=60)
        error.value.close()


def test_each_server_has_a_token_of_its_own(toy_store, url):
    with serving(toy_store, ViewOptions(Selection(limit=1))) as other:
        assert other.rpartition(":")[2].split("/")[1] != url.rpartition(":")[2].split("/")[1]


def test_a_port_in_use_is_a_usage_error(toy_store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="this port cannot be used"), serving(
            toy_store, port=port
        ):  # fmt: skip
            pass


def test_a_damaged_shape_is_named(toy_store, tmp_path):
    folder = shutil.copytree(toy_store.path, tmp_path / "S")
    (folder / shard_key(toy_store.specs["depth"], "depth", 0)).unlink()
    with serving(ViewStore.open(folder)) as own:
        assert b'{"error":"' in get(f"{own}shape-000000.js")[0]
        assert b'{"error":"' not in get(f"{own}shape-000039.js")[0]


def test_the_command_serves_until_it_is_interrupted(toy_store):
    command = [sys.executable, "-m", "pointcmt", "view", toy_store.path, "--serve", "--limit", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            data, _ = get(process.stdout.readline().strip())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()  # a failure must not wait for it
    assert b"<title>toy: correspondences</title>" in data
