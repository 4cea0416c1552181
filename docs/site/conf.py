"""Sphinx settings of the documentation site, which `make docs` builds into build/docs."""

import importlib
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

import pointcmt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the extensions are the modules beside this file

project = "pointcmt"
author = "the authors of pointcmt"
copyright = "the authors of pointcmt, MIT license"
release = version = pointcmt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "pages", "docstrings"]
exclude_patterns = ["site"]
smartquotes_action = "q"  # and not dashes: --option
default_role = "py:obj"  # `name` in a docstring links to what it names
nb_merge_streams = True
nb_execution_mode = "off"  # notebooks are stored with what they print; tests keep it true
myst_heading_anchors = 4
python_maximum_signature_line_length = 88

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "__init__, __new__"}

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_here_doc_delimiter = "EOF"

lexers["csv"] = TextLexer()  # Pygments has none for it

html_theme = "furo"
html_title = f"pointcmt {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/pointcmt/pointcmt/",
    "source_branch": "main",
    "source_directory": "docs/",
}

# These are modules that can be called; the reference shows the functions.
for name in ("render", "view"):
    importlib.import_module(f"pointcmt.{name}")
    pointcmt.__dict__[name] = pointcmt.load_public(name)
