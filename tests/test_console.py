"""Progress: at most one line per second except for failures, and always a last line."""

import json

from pointcmt.console import duration, logger, meter, show_messages


def lines_of(messages, log_format):
    show_messages(log_format)
    with meter("verifying", 1000, "shapes") as progress:
        for shape in range(1000):
            progress.advance(1, "ball: bad_index" if shape == 500 else "", shard=shape)
    return messages().splitlines()


def test_plain_progress_is_short_and_shows_every_failure(messages):
    lines = lines_of(messages, "plain")
    assert len(lines) < 10
    assert any("501/1000" in line and line.endswith("ball: bad_index") for line in lines)
    assert lines[0].startswith("verifying: 1/1000 shapes")
    assert lines[-1].startswith("verifying: 1000/1000 shapes")


def test_json_progress_has_a_line_for_everything(messages):
    facts = [json.loads(line) for line in lines_of(messages, "json")]
    assert [fact["done"] for fact in facts] == list(range(1, 1001))
    assert [fact["shard"] for fact in facts] == list(range(1000))


def test_nothing_is_shown_unless_asked_for(capsys, caplog):
    with meter("verifying", 10, "shapes") as progress:
        progress.advance(10)
    logger.info("rendering")
    assert capsys.readouterr() == ("", "")
    with caplog.at_level("INFO", "pointcmt"), meter("verifying", 10, "shapes") as progress:
        progress.advance(10)
    assert caplog.messages[0].startswith("verifying: 10/10 shapes")


def test_messages_contain_no_terminal_escapes(messages):
    logger.info("a\x1b[2Jb\nc")
    shown = messages()
    assert "\x1b" not in shown
    assert shown.count("\n") == 1


def test_durations_are_formatted():
    assert [duration(s) for s in (-1, 42, 723, 11279)] == ["0:00", "0:42", "12:03", "3:07:59"]
