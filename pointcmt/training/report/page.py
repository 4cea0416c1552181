"""The page of a report: one file that opens from disk, with all tables, figures and pictures.

Names of runs, classes and settings may come from strangers: see `static_page`.
"""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pointcmt.datasets.page_folder import is_ours, require_free, write_files
from pointcmt.datasets.static_page import static_page
from pointcmt.datasets.store.locations import storage_errors
from pointcmt.errors import printable
from pointcmt.files import open_regular, read_regular
from pointcmt.training.report.content import find_baseline, tables_of
from pointcmt.training.report.differences import all_differences
from pointcmt.training.report.figures import figure_files, figures_of
from pointcmt.training.report.source import Source, read_sources
from pointcmt.training.report.tables import Table

GENERATOR = "pointcmt report"
PAGE = "index.html"
LINK = re.compile(r'<a href="([a-z0-9-]+\.(?:csv|md|tex|svg|pdf))">')  # to a file beside the page
MOST_PICTURE = 8 << 20  # bytes of a picture that the page holds
STYLE = """
h1, h2, h3 { line-height: 1.25; overflow-wrap: anywhere }
h2 { margin: 2.25rem 0 .5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid #e5e5e5;
  vertical-align: top }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td { max-width: 34rem; overflow-wrap: anywhere; min-width: 4.5rem }
.note, .files { color: #666; font-size: .85rem; margin: .35rem 0 }
figure { margin: .75rem 0 }
figure img { max-width: 100%; height: auto; border: 1px solid #e5e5e5; background: white }
img.drawn { min-width: 32rem }
figcaption { color: #666; font-size: .85rem }
"""


def write_report(
    runs: Sequence[Path], out: Path, baseline: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Write OUT/index.html, and each table and figure in files beside it; return the paths.

    runs: folders of runs, of whole recipes or of studies. baseline: the name of the run that the
    others are compared with; the first one unless given. overwrite: replace files that are not from
    an earlier report. Raises StoreError for a folder that is not a run, and if files would be
    replaced; UsageError for an unknown baseline or a run that is given twice.
    """
    sources = read_sources(runs)
    reference = find_baseline(sources, baseline)
    gains = all_differences(sources, reference)
    tables, figures = tables_of(sources, reference, gains), figures_of(sources, reference, gains)
    files: dict[str, bytes] = {}
    for table in tables:
        files |= table.files()
    for name, figure in figures.items():
        files |= figure_files(name, figure)
    earlier = _earlier(out)
    others = [name for name in files if name not in earlier]
    require_free(out, [PAGE, *others], overwrite, GENERATOR)
    drawn = {name: files[f"{name}.svg"] for name in figures}
    text = _page(sources, tables, drawn)
    written = write_files(out, {PAGE: text.encode("utf-8", "replace"), **files})
    with storage_errors(str(out)):
        for name in earlier - files.keys():
            (out / name).unlink(missing_ok=True)
    return written


def _earlier(out: Path) -> set[str]:
    """Return the names of the files of an earlier report in a folder.

    Tables have no room for a mark of their own, so these are the files that its page links.
    """
    page = out / PAGE
    with storage_errors(str(out)):
        if not page.exists() or not is_ours(page, GENERATOR):
            return set()
        with open_regular(page) as file:
            return set(LINK.findall(file.read().decode("utf-8", "replace")))


def _page(sources: list[Source], tables: list[Table], figures: Mapping[str, bytes]) -> str:
    names = ", ".join(printable(source.name) for source in sources)
    by_name = {table.name: table for table in tables}
    shown = {name: _figure(name, data) for name, data in figures.items()}
    of_classes = "".join(text for name, text in shown.items() if name != "curves")
    sections = [_section(by_name.get("runs"))]
    if "curves" in shown:
        sections.append(f"<h2>Curves</h2>{shown['curves']}")
    sections += [
        _section(by_name.get("evaluation")),
        _section(by_name.get("classes"), of_classes),
        *(
            _section(by_name.get(name))
            for name in ("probes", "cost", "configuration", "provenance")
        ),
        "".join(map(_pictures, sources)),
    ]
    body = f"<h1>{html.escape(names)}</h1>\n{''.join(sections)}"
    return static_page(GENERATOR, f"Report: {names}", STYLE, body)


def _section(table: Table | None, more: str = "") -> str:
    if table is None:
        return ""
    links = " · ".join(
        f'<a href="{table.name}.{suffix}">{word}</a>'
        for suffix, word in (("csv", "CSV"), ("md", "Markdown"), ("tex", "LaTeX"))
    )
    return f'<h2>{html.escape(table.title)}</h2>{table.as_html()}<p class="files">{links}</p>{more}'


def _figure(name: str, data: bytes) -> str:
    return (
        f'<figure><div class="wide"><img class="drawn" alt="{name}" '
        f'src="data:image/svg+xml;base64,{_encoded(data)}"></div><figcaption>'
        f'<a href="{name}.svg">SVG</a> · <a href="{name}.pdf">PDF</a></figcaption></figure>'
    )


def _pictures(source: Source) -> str:
    """Return the pictures in a run's folder, except its curve, which the report draws itself."""
    shown = ""
    for path in source.pictures:
        if path.stem == "curve" or path.is_symlink():
            continue
        name = html.escape(printable(path.name))
        try:
            data = _encoded(read_regular(path, MOST_PICTURE))
        except OSError as error:
            shown += f'<p class="note">{name} is not shown: {error.strerror}</p>'
            continue
        shown += f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        shown += f"<figcaption>{name}</figcaption></figure>"
    title = html.escape(printable(source.name))
    return f"<h2>Pictures of {title}</h2>{shown}" if shown else ""


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
