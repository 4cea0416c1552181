"""Texts of errors, and what differs between two mappings."""

from pointcmt.errors import MOST_NAMES, brief, differing, nearest


def test_values_that_differ_are_paired_in_the_order_of_left_then_right():
    left = {"seed": 0, "size": 224, "rig": "ortho6"}
    right = {"points": 1024, "rig": "dodeca20", "size": 224}
    found = differing(left, right)
    assert list(found.items()) == [
        ("seed", (0, None)),
        ("rig", ("ortho6", "dodeca20")),
        ("points", (None, 1024)),
    ]
    assert differing(left, dict(reversed(left.items()))) == {}


def test_a_missing_key_equals_none():
    assert differing({"init": None}, {}) == {}


def test_long_values_are_shown_by_their_beginning_and_length():
    assert brief(["a", 1]) == '["a", 1]'
    assert brief("x" * 58) == f'"{"x" * 58}"'
    assert brief("x" * 59) == f'"{"x" * 44}… (61 characters)'


def test_a_similar_name_is_suggested_and_no_long_list_is_shown():
    assert nearest("chiar", ["table", "chair"]) == "did you mean 'chair'? known: table, chair"
    names = [f"room/{number:05}" for number in range(50_000)]
    first = ", ".join(names[:MOST_NAMES])
    assert nearest("?", names) == f"known: {first} and 49940 more"
    assert nearest("?", names[:MOST_NAMES]) == f"known: {first}"
