"""A headless Chromium, spoken to through a pipe in the DevTools protocol: no port, no library."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# The protocol uses the file descriptors 3 and 4 of the browser.
LAUNCH = "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); "
LAUNCH += "os.execv(sys.argv[3], sys.argv[3:])"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
FLAGS += ("--disable-background-networking", "--hide-scrollbars", "--force-color-profile=srgb")


def find_browser():
    """The path of a Chromium, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One process with one tab. profile: an empty folder."""

    def __init__(self, path: str, profile: Path) -> None:
        read, their_write = os.pipe()
        their_read, write = os.pipe()
        # High numbers, so that neither is 3 or 4 in the child.
        theirs = [_high(their_read), _high(their_write)]
        command = [sys.executable, "-S", "-c", LAUNCH, *map(str, theirs), path, *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in theirs:
            os.close(number)
        self._read, self._write = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._read.close()
        self._write.close()

    def send(self, method, **parameters):
        """Call a method of the protocol; return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._buffer:
            data = os.read(self._read.fileno(), 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, code):
        """Run JavaScript, wait for it if it is a promise, and return its JSON-able value."""
        done = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def resize(self, width, height=900):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )

    def open(self, url, ready="state.shape !== null"):
        """Load a page and wait until it is ready; forget earlier events."""
        self.send("Page.navigate", url="about:blank")
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")
        self.wait(ready)

    def wait(self, condition):
        """Wait until a JavaScript expression is true; fail after 20 s."""
        self.evaluate(f"""new Promise((resolve, reject) => {{
            const end = Date.now() + 20000;
            const holds = () => {{ try {{ return {condition}; }} catch {{ return false; }} }};
            const look = () => {{
                if (holds()) resolve(true);
                else if (Date.now() > end) reject(new Error("this never came true"));
                else setTimeout(look, 20);
            }};
            look();
        }})""")

    def click(self, x, y):
        """Press and release the mouse at a place of the page, in its pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key)

    def screenshot(self, path, whole=True):
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def problems(self):
        """Errors and warnings that the page has logged, and requests that left it."""
        found = [e["params"] for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        found += [e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded"]
        return found

    def requests(self):
        """The addresses that the page has asked for, without those inside of it."""
        asked = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [e["params"]["request"]["url"] for e in asked]
        return [url for url in urls if not url.startswith(("data:", "about:"))]


def pixel_of(browser, canvas, column, row):
    """The place on the page of a pixel's center in a view's canvas."""
    x, y, scale = browser.evaluate(
        f"(() => {{ const c = {canvas}, b = c.getBoundingClientRect();"
        "return [b.left, b.top, c.clientWidth / state.shape.width]; })()"
    )
    return x + (column + 0.5) * scale, y + (row + 0.5) * scale


def _high(number):
    import fcntl

    moved = fcntl.fcntl(number, fcntl.F_DUPFD, 20)
    os.close(number)
    return moved
