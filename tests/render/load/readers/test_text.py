"""Numbers in text: the scanner returns the same bits as Python's `float` and `int`."""

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.text import (
    line_of,
    parse_integer,
    parse_number,
    scannable,
    token_at,
)

DECIMALS = st.from_regex(
    r"\A[+-]?0{0,9}([0-9]{1,10}(\.[0-9]{0,9})?|\.0{0,9}[0-9]{1,19})([eE][+-]?[0-9]{1,3})?\Z"
)
LONG_DECIMALS = st.from_regex(r"\A-?[1-9][0-9]{0,40}\.[0-9]{20,40}(e[+-]?[0-9]{1,3})?\Z")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def number(text: str) -> tuple[float, int]:
    return parse_number(scannable(text.encode()), 0)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(DECIMALS)
@example("9007199254740993")  # half way between two doubles
@example("2.4703282292062327e-324")  # just below half of the least subnormal, then just above
@example("2.4703282292062328e-324")
@example("2.2250738585072011e-308")
@example("1.7976931348623158e308")
@example("1.7976931348623159e308")
@example("1e-400")
@example("-0")
@settings(max_examples=500, deadline=None)
def test_decimals_of_19_digits_are_rounded_as_by_float(text):
    value, end = number(text)
    assert (bits(value), end) == (bits(float(text)), len(text))


@given(LONG_DECIMALS)
@example("123456789012345678901234567890e-310")
@example("9007199254740992.999999999999999999999999999999")
@settings(max_examples=300, deadline=None)
def test_longer_decimals_are_rounded_to_a_neighbor_of_the_nearest_double(text):
    value, end = number(text)
    nearest = float(text)
    assert end == len(text)
    assert np.nextafter(nearest, -np.inf) <= value <= np.nextafter(nearest, np.inf)


@given(FLOATS, st.integers(0, 18))
@settings(max_examples=1000, deadline=None)
def test_every_float_is_read_back_exactly(value, digits):
    assert bits(number(repr(value))[0]) == bits(value)
    shorter = f"{value:.{digits}e}"
    assert bits(number(shorter)[0]) == bits(float(shorter))


@pytest.mark.parametrize(
    "text", ["nan", "-NaN", "inf", "+Infinity", "1.#INF", "-1.#IND", "1.#QNAN"]
)
def test_nan_and_infinity_are_read_as_numbers(text):
    value, end = number(text)
    assert not np.isfinite(value)
    assert end == len(text)


@pytest.mark.parametrize("text", ["", "-", ".", "+.", "e5", "1e", "1e+", "x", "--1", "na", "infi"])
def test_words_that_are_not_numbers_are_refused(text):
    assert number(text)[1] == -1


@pytest.mark.parametrize(("text", "end"), [("1.2.3", 3), ("1-2", 1), ("3.1+e2", 3), ("1_0", 1)])
def test_a_number_ends_at_the_first_character_that_does_not_fit(text, end):
    assert number(text)[1] == end


@given(st.integers(-(10**18) + 1, 10**18 - 1))
@settings(max_examples=300, deadline=None)
def test_integers_are_read(value):
    text = str(value)
    assert parse_integer(scannable(text.encode()), 0) == (value, len(text))


def test_huge_integers_are_refused_rather_than_wrapped():
    assert parse_integer(scannable(b"9" * 19), 0)[1] == -1


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_lines_are_counted_in_every_convention(ending):
    text = scannable(ending.join(["a", "b", "", "d"]).encode())
    assert line_of(text, int(np.flatnonzero(text == ord("d"))[0])) == 4


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_are_understood(encoding):
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    text = scannable((mark + "1.5").encode(encoding))
    assert parse_number(text, 0) == (1.5, 3)


def test_broken_utf16_is_refused():
    with pytest.raises(ShapeRefused) as refused:
        scannable(b"\xff\xfe1")
    assert refused.value.reason is Reason.BAD_SYNTAX


def test_words_in_messages_are_short():
    assert token_at(scannable(b"0 " + b"x" * 100), 2) == repr("x" * 20 + "…")
