"""Render a folder of hundreds of models of every format, material, texture and kind of damage.

Usage: python benchmarks/mixed_folder.py [--workers 2] [--keep DIR]

The models are those of tests/render/mixed_files.py, always the same. Each must be drawn in its
color, with a note where something is missing, or be refused with the right reason; none may be
black, white or blank. Prints what is wrong, and exits with 1 if anything is.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.render.mixed_files import all_cases, problems, write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--keep", type=Path, help="a new folder for the models and the store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        written = write(place / "models", all_cases())
        command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder"]
        command += ["--root", place / "models", "--out", place / "store", "--rig", "ortho6"]
        command += ["--size", str(options.size), "--workers", str(options.workers)]
        done = subprocess.run(list(map(str, command)), check=False)
        found = problems(place / "store", written) if done.returncode in (0, 3) else ["no store"]
    refused = sum(bool(case.reason) for case in written.values())
    print(f"{len(written)} models, {refused} of them damaged: {len(found)} not as expected")
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
