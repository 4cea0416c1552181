"""Read untrusted YAML in time and memory proportional to its length.

PyYAML's safe loader runs no code, but a few lines of aliases can expand to billions of values,
nested lists end in a RecursionError, and numbers in base 60 take quadratic time.
"""

from typing import Any

import yaml
from yaml.events import AliasEvent
from yaml.nodes import Node, ScalarNode

MOST_BYTES = 1 << 20  # ours have a few thousand
MOST_VALUES = 10_000  # aliases count as their expansion
MOST_DEEP = 32  # nesting levels of lists and tables
LONGEST_NUMBER = 100  # characters


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text. Raises ValueError if it is malformed or exceeds a limit."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} characters")
    try:
        return yaml.load(text, _Bounded)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        # The latter three come from explicit tags on values of another type: !!bool foo
        raise ValueError(f"{type(error).__name__}: {error}") from None


class _Bounded(yaml.SafeLoader):
    """The safe loader with limits: counts the expansion of aliases while composing nodes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values, self.depth = 0, 0
        self.weights: dict[int, int] = {}  # id of a finished node → number of its values

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        alias = self.check_event(AliasEvent)
        before, self.depth = self.values, self.depth + 1
        if self.depth > MOST_DEEP:
            raise ValueError(f"nested more than {MOST_DEEP} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if alias and id(node) not in self.weights:
            raise ValueError("an alias that contains itself")
        self.values += self.weights[id(node)] if alias else 1
        if self.values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, with aliases expanded")
        self.weights.setdefault(id(node), self.values - before)
        return node

    def construct_number(self, node: ScalarNode) -> int | float:
        if len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number with {len(node.value)} characters")
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Bounded.add_constructor(f"tag:yaml.org,2002:{_kind}", _Bounded.construct_number)
