"""Tables of a report, as CSV, Markdown, LaTeX and HTML."""

import csv
import html
import io
import re
from dataclasses import dataclass

from pointcmt.errors import printable

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip
_UNICODE = {"±": r"$\pm$", "−": "$-$", "…": r"\dots{}", "·": r"$\cdot$", "–": "--"}
_NUMBER = re.compile(r"[−+-]?[\d.,]+( ?%)?( .*)?")


@dataclass(frozen=True)
class Table:
    """name: of its files. title: above it. note: below it. rows: of texts, the first is a name."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def files(self) -> dict[str, bytes]:
        """Return the table as files by name."""
        texts = {"csv": self.as_csv(), "md": self.as_markdown(), "tex": self.as_latex()}
        return {
            f"{self.name}.{suffix}": text.encode("utf-8", "replace")
            for suffix, text in texts.items()
        }

    def as_csv(self) -> str:
        """Return CSV with a header."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows((self.columns, *map(_safe, self.rows)))
        return file.getvalue()

    def as_markdown(self) -> str:
        """Return a table of GitHub's Markdown; numbers are at the right."""
        marks = ["---", *("---:" for _ in self.columns[1:])]
        lines = (self.columns, marks, *self.rows)
        return "".join(f"| {' | '.join(map(_in_markdown, line))} |\n" for line in lines)

    def as_latex(self) -> str:
        """Return a tabular of the package booktabs."""
        head, *rows = (
            " & ".join(map(_in_latex, row)) + r" \\" for row in (self.columns, *self.rows)
        )
        columns = "l" + "r" * (len(self.columns) - 1)
        body = "\n".join(rows)
        return (
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n\\midrule\n{body}\n"
            "\\bottomrule\n\\end{tabular}\n"
        )

    def as_html(self) -> str:
        """Return a table element that scrolls where it is too wide."""
        head = "".join(f"<th>{html.escape(_line(text))}</th>" for text in self.columns)
        body = "".join(
            "<tr>" + "".join(_cell(text, place) for place, text in enumerate(row)) + "</tr>"
            for row in self.rows
        )
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        return (
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"</div>{note}"
        )


def _line(text: str) -> str:
    """Return a text as one line without control characters, and whole: commands are copied."""
    return printable(text, len(text))


def _cell(text: str, place: int) -> str:
    kind = ' class="number"' if place and _NUMBER.fullmatch(text) else ""
    return f"<td{kind}>{html.escape(_line(text))}</td>"


def _safe(row: tuple[str, ...]) -> list[str]:
    """Return cells that no spreadsheet takes for formulas."""
    return [f"'{text}" if text[:1] in ("=", "@", "\t") else text for text in row]


def _in_markdown(text: str) -> str:
    return html.escape(_line(text), quote=False).replace("|", r"\|")


def _in_latex(text: str) -> str:
    table = {**_LATEX, **_UNICODE}
    return "".join(table.get(character, character) for character in _line(text))
