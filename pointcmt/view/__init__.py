"""A page on which to look at the correspondences of a store, in any browser and without a server.

`page/` holds the page's own HTML, CSS and JavaScript; the modules here put a store's data into it.
The package has the same name as the public function `pointcmt.view`, so the module is callable.
"""

import sys
from types import ModuleType
from typing import Any

import pointcmt

MOST_SHAPES = 200  # of a page that is written, unless told otherwise


class _View(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Any:
        return pointcmt.load_public("view")(*given, **named)


sys.modules[__name__].__class__ = _View
