"""Messages: of bounded length, without control characters that a terminal would interpret."""

import io
import pickle
import sys

import pytest

from pointcmt.console import logger, meter, show, show_messages, show_text
from pointcmt.errors import (
    MOST_DETAIL,
    MOST_TEXT,
    PointcmtError,
    Reason,
    ShapeRefused,
    StoreError,
    printable,
    printable_text,
    shortened,
)

# Clear the screen, set the title, overwrite the line, reverse the text, a lone surrogate.
NASTY = "chair\x1b[2J\x1b]0;owned\x07\r\b\x9b31m\u202e\u2028\udcff\x00"


def assert_tame(text, lines=1):
    assert "chair" in text
    assert text.count("\n") == lines
    assert all(c.isprintable() for c in text.replace("\n", ""))
    text.encode()


def test_errors_print_without_control_characters_and_keep_their_fields():
    error = StoreError(NASTY, where=NASTY, fix=NASTY)
    assert error.what == NASTY
    assert_tame(str(error), lines=2)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_lines_inside_a_message_are_indented():
    lines = str(PointcmtError("two differences:\n  a\n  b\nok: all is well")).splitlines()
    assert lines == ["two differences:", "  a", "  b", "  ok: all is well"]


def test_long_texts_are_shortened_in_messages():
    long = "begin" + "x" * 10_000_000 + "end"
    error = PointcmtError(long, where=long, fix=long)
    assert all(len(part) == MOST_TEXT for part in (error.what, error.where, error.fix))
    assert error.what.startswith("beginx")
    assert error.what.endswith("xend")
    refused = ShapeRefused(Reason.BAD_SYNTAX, long)
    assert len(refused.detail) == MOST_DETAIL
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcde", 5) == "abcde"
    assert printable("  tidy \n") == "tidy"


def test_printed_text_has_no_control_characters(capsys, messages):
    show("failed", NASTY, NASTY)
    assert_tame(capsys.readouterr().out)
    show_text(f"{NASTY}\n{NASTY}")
    assert_tame(capsys.readouterr().out, lines=2)
    show_messages("plain")
    logger.info(f"{NASTY}\nok: all is well")
    assert_tame(capsys.readouterr().err)
    with meter("rendering", 2, "shapes") as progress:
        progress.advance(2, NASTY)
    assert_tame(capsys.readouterr().err)
    show_messages("json")
    logger.info(NASTY)
    assert_tame(capsys.readouterr().err)
    assert printable_text("a\tb\nc") == "a�b\nc"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", [NASTY, "chair[/nothing]", "chair[bold red]x"])
def test_the_progress_bar_shows_names_literally(monkeypatch, messages, name):
    """Brackets are names, not markup, and control characters do not reach the terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    show_messages("auto")
    with meter("rendering", 2, "shapes") as progress:
        progress.advance(1, name)
    shown = terminal.getvalue()
    assert printable(name).split("�")[0] in shown
    assert "\x1b]0;" not in shown
    assert "\u202e" not in shown
