"""Execute notebooks again and store what they print: python packaging/notebook.py NOTEBOOK...

Needs nbclient and ipykernel, which `make notebooks` installs. Files that a notebook writes go to a
temporary folder.
"""

import io
import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image


def main() -> None:
    for path in sys.argv[1:]:
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, record_timing=False, resources=resources).execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                tidy(output.get("data", {}))
        notebook.metadata.get("language_info", {}).pop("version", None)  # of this machine's Python
        nbformat.write(notebook, path)
        print(f"{path}: {Path(path).stat().st_size / 1024:.0f} KiB")


def tidy(data: dict[str, str]) -> None:
    """Keep the smaller of what an output holds: of two formats of a picture, and of its colors."""
    data.pop("image/jpeg", None)
    if "image/png" in data:
        picture = Image.open(io.BytesIO(b64decode(data["image/png"])))
        small = io.BytesIO()
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
            small, "PNG", optimize=True
        )
        data["image/png"] = b64encode(small.getvalue()).decode() + "\n"
        data.pop("text/plain", None)


if __name__ == "__main__":
    main()
