"""The first stage: meshes and clouds → view stores.

The package has the same name as the public function `pointcmt.render`, so the module is callable:
calling it renders.
"""

import sys
from types import ModuleType
from typing import Any

import pointcmt


class _Render(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Any:
        return pointcmt.load_public("render")(*given, **named)


sys.modules[__name__].__class__ = _Render
