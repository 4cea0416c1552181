"""The frame of pages that open from disk: title, style and a policy.

Names in them may come from strangers: pages show them as text only. They have no scripts, and their
Content-Security-Policy allows none and no request to anywhere.
"""

import html

from pointcmt.datasets.page_folder import page_mark

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 78rem; color: #222;
  padding: 0 1rem }
"""


def static_page(generator: str, title: str, style: str, body: str, pictures: str = "data:") -> str:
    """Return a page. generator: the command that writes it. title: any text. style: CSS, which
    follows the common one. body: HTML. pictures: where they may come from, as sources of the
    policy: data URIs, or "'self' file:" for files beside the page.
    """
    return f"""<!doctype html>
<meta charset="utf-8">
{page_mark(generator)}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src {pictures};
 style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>{html.escape(title)}</title>
<style>{STYLE}{style}</style>
{body}
"""
