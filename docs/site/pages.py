"""A Sphinx extension that completes pages with what is generated: figures, commands, settings.

A page says what it wants in a comment, which a reader on the hosting site does not see:

    <!-- figure: rigs.png The cameras of each rig, and what they see. -->
    <!-- commands -->
    <!-- settings -->
    <!-- examples -->

Links that lead out of docs/ become links to the repository.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

from figures import FIGURES
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/pointcmt/pointcmt/blob/main/"
FIGURE = re.compile(r"<!-- figure: (\S+) (.*?) -->", re.DOTALL)
OUTSIDE = re.compile(r"\]\(\.\./([^)\s]+)\)")
CONFIGURATIONS = ROOT / "pointcmt" / "configs"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _draw)
    app.connect("source-read", _complete)
    return {"parallel_read_safe": True}


def _draw(app: Sphinx) -> None:
    """Draw all figures into the site."""
    folder = Path(app.outdir) / "_static" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw().save(folder / name, optimize=True)


def _complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the comments of a page; `source` is a list of its one text."""
    text = FIGURE.sub(_figure, source[0])
    if docname == "index":
        text += contents(text)
    for mark, make in GENERATED.items():
        if f"<!-- {mark} -->" in text:
            text = text.replace(f"<!-- {mark} -->", make())
    if not docname.startswith("tutorials/"):
        text = OUTSIDE.sub(rf"]({REPOSITORY}\1)", text)
    source[0] = text


def contents(text: str) -> str:
    """Return the site's table of contents: the pages that the sections of a page list."""
    tables = []
    for section in text.split("\n## ")[1:]:
        caption, _, body = section.partition("\n")
        pages = re.findall(r"^- \[(.*?)\]\(([\w/-]+)\.\w+\)", body, re.MULTILINE)
        lines = "\n".join(f"{title} <{page}>" for title, page in pages)
        tables.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "".join(tables)


def _figure(found: re.Match[str]) -> str:
    name, caption = found[1], escape(" ".join(found[2].split()))
    if name not in FIGURES:
        raise ValueError(f"docs/site/figures.py draws no {name}")
    return (
        f'<figure><img src="_static/figures/{name}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def commands() -> str:
    """Return the options of all commands as Markdown, as typer writes them."""
    command = [sys.executable, "-m", "typer", "pointcmt.cli", "utils", "docs", "--name", "pointcmt"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    text = "## " + text.partition("\n## ")[2]  # without the options of `pointcmt` itself
    return re.sub(r"docs/([\w-]+)\.md", r"[\1](\1.md)", text)


def settings() -> str:
    """Return all packaged configurations as Markdown, those of recipes first."""
    files = sorted(CONFIGURATIONS.glob("*.yaml"), key=lambda file: ("-" in file.stem, file.stem))
    return "\n".join(f"## {file.stem}\n\n```yaml\n{file.read_text()}```\n" for file in files)


def examples() -> str:
    """Return the example scripts as Markdown."""
    files = sorted((ROOT / "examples").glob("*.py"))
    return "\n".join(f"## {file.name}\n\n```python\n{file.read_text()}```\n" for file in files)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "examples": examples,
}
