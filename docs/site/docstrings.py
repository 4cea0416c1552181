"""A Sphinx extension that shows our docstrings: descriptions of parameters become lists.

A docstring describes parameters in running text, `root: the folder. size: pixels.`, and the fields
of a class also in comments behind them. Types of arrays are written as in the source.
"""

import dataclasses
import inspect
import re
import typing
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import pointcmt

ERRORS = [name for name in pointcmt.__all__ if name.endswith("Error")]
ERROR = re.compile(rf"(?<![\w`.~])({'|'.join(ERRORS)})\b")
PAGE = re.compile(r"docs/([\w-]+)\.md(?:#([\w-]+))?")
FIELD = re.compile(r"^    (\w+): .*?  # (.+)$", re.MULTILINE)
ARRAY = re.compile(r"[~\w.]*ndarray\[tuple\[[~\w.]*Any, \.\.\.\], [~\w.]*dtype\[[~\w.]*?(\w+)\]\]")
ARRAY_LIKE = re.compile(
    r"[~\w.]*_Buffer \| .*?_NestedSequence\[[~\w.]*complex \| [~\w.]*bytes \| [~\w.]*str\]"
)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _list_parameters)
    app.connect("autodoc-process-signature", _shorten_signature)
    app.connect("doctree-read", _shorten_properties)
    return {"parallel_read_safe": True}


def _list_parameters(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    names = _names(obj)
    comments = dict(FIELD.findall(inspect.getsource(obj))) if inspect.isclass(obj) else {}
    shown = [
        text if text.startswith(">>>") else _link("\n\n".join(_split(text, names, comments)))
        for text in "\n".join(lines).strip().split("\n\n")
    ]
    if comments:  # of fields that the text does not describe; examples come last
        listed = "\n".join(f"* **{name}** – {text}" for name, text in comments.items())
        examples = [text.startswith(">>>") for text in shown]
        shown.insert(examples.index(True) if any(examples) else len(shown), listed)
    lines[:] = "\n\n".join(shown).split("\n")


def _names(obj: Any) -> list[str]:
    """Return the names of a function's parameters, or of a class's fields, longest first."""
    if dataclasses.is_dataclass(obj):
        found = [each.name for each in dataclasses.fields(obj)]
    elif typing.is_typeddict(obj) or hasattr(obj, "_fields"):
        found = list(obj.__annotations__)
    elif inspect.isclass(obj) or not callable(obj):
        found = []
    else:
        found = list(inspect.signature(obj).parameters)
    if inspect.isclass(obj) and "__init__" in vars(obj):
        found += list(inspect.signature(obj.__init__).parameters)
    return sorted(set(found), key=len, reverse=True)


def _split(paragraph: str, names: list[str], comments: dict[str, str]) -> list[str]:
    """Split a paragraph into its text, a list of the parameters described, and what it raises.

    A parameter takes its comment along, which is then removed from `comments`.
    """
    if not names:
        return [paragraph]
    text, _, raises = re.sub(r"\s*\n\s*", " ", paragraph).partition(" Raises ")
    one = f"(?:{'|'.join(map(re.escape, names))})"
    shape, end = r"( \[[^\]]+\](?! and| are| is))?", r"(: | (?=[fiu]\d))"
    begin = rf"(?:^|(?<=\. ))({one}(?:, {one})*){shape}{end}"
    parts = re.split(begin, text)
    items = []
    for name, shape, _, description in zip(*(parts[i::4] for i in range(1, 5)), strict=True):
        comment = comments.pop(name, None)
        about = f" ({comment})" if comment else shape or ""
        items.append(f"* **{name}**{about} – {description.strip()}")
    if not items:
        return [paragraph]
    return [
        *([parts[0].strip()] if parts[0].strip() else []),
        "\n".join(items),
        *([f"Raises {raises}"] if raises else []),
    ]


def _link(text: str) -> str:
    """Link errors and pages."""
    text = ERROR.sub(r":exc:`~pointcmt.\1`", text)

    def page(found: re.Match[str]) -> str:
        name, anchor = found[1], found[2]
        return f"`{name} <{name}.html#{anchor}>`__" if anchor else f":doc:`{name}`"

    return PAGE.sub(page, text)


def _shorten(types: str) -> str:
    return ARRAY_LIKE.sub("ArrayLike", ARRAY.sub(r"NDArray[\1]", types))


def _shorten_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, ...] | None:
    if signature is None:
        return None
    return _shorten(signature), returns and _shorten(returns)


def _shorten_properties(app: Sphinx, doctree: nodes.document) -> None:
    """Shorten the types of properties, which Sphinx shows without asking."""
    for node in doctree.findall(addnodes.desc_annotation):
        if "ndarray[" in node.astext():
            node.children = [nodes.Text(_shorten(node.astext()))]
