"""Progress: never more than a line a second, but for trouble; every end is said."""

import json

from pointcmt.console import duration, meter


def lines_of(capsys, log_format):
    with meter("verifying", 1000, "shapes", log_format) as progress:
        for shape in range(1000):
            progress.advance(1, "ball: bad_index" if shape == 500 else "", shard=shape)
    return capsys.readouterr().err.splitlines()


def test_plain_progress_is_short_and_leaves_no_trouble_out(capsys):
    lines = lines_of(capsys, "plain")
    assert len(lines) < 10
    assert any("501/1000" in line and line.endswith("ball: bad_index") for line in lines)
    assert lines[0].startswith("verifying: 1/1000 shapes")
    assert lines[-1].startswith("verifying: 1000/1000 shapes")


def test_json_progress_has_a_line_for_everything(capsys):
    facts = [json.loads(line) for line in lines_of(capsys, "json")]
    assert [fact["done"] for fact in facts] == list(range(1, 1001))
    assert [fact["shard"] for fact in facts] == list(range(1000))


def test_durations():
    assert [duration(s) for s in (-1, 42, 723, 11279)] == ["0:00", "0:42", "12:03", "3:07:59"]
