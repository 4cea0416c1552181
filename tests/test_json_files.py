"""JSON of bounded size and depth: whatever is wrong with it is a ValueError, or an OSError."""

import json

import pytest

from pointcmt.files import MOST_DEEP, parse_json, read_json


def test_values_are_read_as_json_reads_them(tmp_path):
    value = {"a": [1, 2.5, None, {"b": "ü"}], "c": {}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value
    assert parse_json("[" * MOST_DEEP + "]" * MOST_DEEP) is not None


@pytest.mark.parametrize("depth", [MOST_DEEP + 2, 900, 5_000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(depth, begin, end):
    with pytest.raises(ValueError, match="nested more than"):
        parse_json(begin * depth + "0" * bool(end == "}") + end * depth)


def test_what_is_damaged_or_too_large_is_refused(tmp_path):
    for text in ("", "{", b"\xff\xfe\xfd", "1" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011, whatever the words
            parse_json(text)
    (tmp_path / "a.json").write_text('"1234"')
    with pytest.raises(OSError, match="6 bytes, more than the maximum of 5"):
        read_json(tmp_path / "a.json", 5)
