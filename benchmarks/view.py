"""The size of the page that `pointcmt view` writes, and the time to write it.

    python benchmarks/view.py [--shapes 4]

Renders built-in shapes (12 views of 224², 2,048 points) into a temporary folder.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pointcmt as pc
from pointcmt.view.write import write_view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=4)
    count = parser.parse_args().shapes
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "S"
        pc.render("toy", out=out, limit=count, rig="mvnet12", size=224, points=2048, workers=1)
        started = time.process_time()
        paths = write_view(pc.open_store(out), Path(folder) / "P")
        seconds = time.process_time() - started
        size = sum(path.stat().st_size for path in paths)
    print(f"{size / count / 1e6:.2f} MB and {seconds / count:.2f} CPU seconds per shape")


if __name__ == "__main__":
    main()
