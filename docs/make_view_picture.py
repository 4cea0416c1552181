"""Makes the picture in docs/view.md: the page of `pointcmt view` in a headless Chromium.

Usage: python docs/make_view_picture.py   (a minute; writes docs/images/view.png)
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

import pointcmt as pc
from pointcmt.view.write import write_view

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.view.browser import Browser, find_browser

ADDRESS = "#shape=chair%2F0200&view=1&pixel=104,128"


def main() -> None:
    path = find_browser()
    if path is None:
        sys.exit("no Chromium here: apt-get install chromium-headless-shell")
    image = Path(__file__).parent / "images" / "view.png"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        pc.render("toy", out=work / "S", limit=1, rig="mvnet12", size=224, points=2048, workers=1)
        write_view(pc.open_store(work / "S"), work / "P")
        browser = Browser(path, work / "profile")
        try:
            browser.resize(1280)
            browser.open((work / "P/index.html").as_uri() + ADDRESS, "state.chosen !== null")
            browser.evaluate("toggle('cameras')")
            browser.screenshot(image)
        finally:
            browser.close()
    shot = Image.open(image).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    shot.save(image, optimize=True)
    print(f"{image}: {image.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
