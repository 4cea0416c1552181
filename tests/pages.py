"""Read a page that a command wrote, as a browser's parser would."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """tags: names and attributes of all elements; texts: the content of scripts and styles."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts = [], []
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.texts.append([tag, dict(attributes), ""])

    def handle_data(self, data):
        if self.texts and self.cdata_elem:
            self.texts[-1][2] += data

    @property
    def policy(self):
        (found,) = [a["content"] for t, a in self.tags if t == "meta" and "http-equiv" in a]
        return {part.split()[0]: part.split()[1:] for part in found.split(";")}

    def json(self, name):
        (text,) = [text for _, attributes, text in self.texts if attributes.get("id") == name]
        return json.loads(text)

    def code(self, tag):
        """The only style, or the only script that is not data."""
        (text,) = [x for t, a, x in self.texts if t == tag and a.get("type") != "application/json"]
        return text


def sha256_source(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def shape_of_script(path):
    """The place and the data in the file of a shape."""
    found = re.fullmatch(
        r"// pointcmt view\npointcmtShape\((\d+),(.*)\);\n", path.read_text(), re.DOTALL
    )
    return int(found[1]), json.loads(found[2])
