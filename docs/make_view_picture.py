"""Makes the pictures in docs/view.md: pages of `pointcmt view` in a headless Chromium.

Usage: python docs/make_view_picture.py   (some minutes; writes docs/images/view.png, of a chair,
and view-predicted.png, of rooms that a small network has been trained on for a minute)
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

import pointcmt as pc

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.view.browser import Browser, find_browser

IMAGES = Path(__file__).parent / "images"
ADDRESS = "#shape=chair%2F0200&view=1&pixel=104,128"
ROOM = "#shape=room%2F0000&view=5&layer=predicted"
SMALL = {"model__backbone": "sparse-unet-tiny", "data__voxel": 0.1, "data__batch_size": 2}


def main() -> None:
    path = find_browser()
    if path is None:
        sys.exit("no Chromium here: apt-get install chromium-headless-shell")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        pc.render("toy", out=work / "S", limit=1, rig="mvnet12", size=224, points=2048, workers=1)
        chair = pc.view(work / "S", work / "P")
        room = page_of_rooms(work)
        browser = Browser(path, work / "profile")
        try:
            browser.resize(1280)
            browser.open(chair.as_uri() + ADDRESS, "state.chosen !== null")
            browser.evaluate("toggle('cameras')")
            take(browser, IMAGES / "view.png")
            browser.open(room.as_uri() + ROOM)
            browser.evaluate("toggle('boxes'); toggle('cameras')")
            take(browser, IMAGES / "view-predicted.png")
        finally:
            browser.close()


def page_of_rooms(work: Path) -> Path:
    """Render rooms, train a network on them for a minute, and write the page."""
    size = {"frames": 10, "resolution": (90, 120), "points": 12_000}
    pc.render("toyrooms", out=work / "R", limit=6, workers=1, **size)
    pc.train("semseg", data=work / "R", out=work / "RUN", epochs=15, device="cpu", **SMALL)
    return pc.view(work / "R", work / "Q", run=work / "RUN", device="cpu")


def take(browser: Browser, image: Path) -> None:
    """Write a screenshot of the page with few colors."""
    browser.evaluate("state.turning = false")
    browser.screenshot(image)
    shot = Image.open(image).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    shot.save(image, optimize=True)
    print(f"{image}: {image.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
