"""Execute a notebook again and store what it prints: python packaging/notebook.py NOTEBOOK

Needs nbclient and ipykernel, which `make notebook` installs. Files that the notebook writes go to a
temporary folder.
"""

import sys
import tempfile

import nbformat
from nbclient import NotebookClient

path = sys.argv[1]
notebook = nbformat.read(path, as_version=4)
with tempfile.TemporaryDirectory() as folder:
    resources = {"metadata": {"path": folder}}
    NotebookClient(notebook, record_timing=False, resources=resources).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        output.get("data", {}).pop("image/jpeg", None)  # the same picture as image/png
nbformat.write(notebook, path)
