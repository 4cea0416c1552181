"""Compiled scanners of numbers in text, shared by the OFF, OBJ and ASCII PLY readers.

All scanners take the file as u8 followed by TAIL (`scannable`): two line ends and a byte that
starts no number, so that loops do not need to check the length. Numbers are rounded like Python's
`float` rounds their first 19 significant digits; the others are ignored.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.errors import Reason, ShapeRefused

LINE_FEED, RETURN, SPACE, HASH, BACKSLASH = 10, 13, 32, 35, 92
TAIL = b"\n\n\xff"
_PLUS, _MINUS, _DOT, _ZERO, _BIG_E, _BIG_N, _SMALL_E = 43, 45, 46, 48, 69, 78, 101

_NONE, _NINE, _TEN = np.uint64(0), np.uint64(9), np.uint64(10)
_MOST_DIGITS = 19  # that always fit into 64 bits
_LEAST_POWER, _GREATEST_POWER = -342, 308  # powers of ten beyond which 19 digits are 0 or infinity
_EXACT_POWERS = 10.0 ** np.arange(23)  # powers of ten without rounding


def scannable(data: bytes) -> NDArray[np.uint8]:
    """Prepare the bytes of a text file for the scanners: UTF-8 without mark, followed by TAIL.

    UTF-16 is recognized by its byte order mark. Raises ShapeRefused (bad_syntax) if it is invalid.
    """
    return np.frombuffer(without_mark(data) + TAIL, np.uint8)


def without_mark(data: bytes) -> bytes:
    """Return the bytes of a text file as UTF-8 without mark. Raises ShapeRefused (bad_syntax)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise ShapeRefused(Reason.BAD_SYNTAX, f"invalid UTF-16 text: {error}") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def line_of(data: NDArray[np.uint8], at: int) -> int:
    """Return the number, from 1, of the line of byte `at`; TAIL counts as the file's last line."""
    before = data[: min(at, len(data) - len(TAIL))].tobytes()
    return 1 + (before.count(b"\n") or before.count(b"\r"))


def token_at(data: NDArray[np.uint8], at: int) -> str:
    """Return the word around byte `at`, shortened, for messages."""
    words = data[at : min(at + 80, len(data) - len(TAIL))].tobytes().split(maxsplit=1)
    word = words[0].decode("utf-8", "replace") if words else ""
    return repr(word if len(word) <= 24 else word[:20] + "…")


@compiled
def skip_space(data, at):  # type: ignore[no-untyped-def]
    """Return (start of the next word, whether a line ended before it). # starts a comment.

    At the end of the file the next word is the last byte, at len(data) - 1.
    """
    new_line = False
    while True:
        while data[at] <= SPACE:
            new_line |= (data[at] == LINE_FEED) | (data[at] == RETURN)
            at += 1
        if data[at] != HASH:
            return at, new_line
        while data[at] != LINE_FEED and data[at] != RETURN:
            at += 1


@compiled
def skip_blanks(data, at):  # type: ignore[no-untyped-def]
    """Return where the line continues or ends; a backslash at its end joins it to the next line."""
    while True:
        if data[at] == BACKSLASH and (data[at + 1] == LINE_FEED or data[at + 1] == RETURN):
            at += 3 if data[at + 1] == RETURN and data[at + 2] == LINE_FEED else 2
        elif data[at] > SPACE or data[at] == LINE_FEED or data[at] == RETURN:
            return at
        else:
            at += 1


@compiled
def ends_line(byte):  # type: ignore[no-untyped-def]
    """Return whether the rest of this line is empty or a comment."""
    return byte in (LINE_FEED, RETURN, HASH)


@compiled
def ends_word(byte):  # type: ignore[no-untyped-def]
    """Return whether a word ends before this byte."""
    return byte <= SPACE or byte in (HASH, BACKSLASH)


@compiled
def begins(text, at, word):  # type: ignore[no-untyped-def]
    """Return whether this word comes next, followed by a blank or the line's end."""
    for i in range(len(word)):
        if text[at + i] != word[i]:
            return False
    return text[at + len(word)] <= SPACE


@compiled
def skip_statement(text, at):  # type: ignore[no-untyped-def]
    """Return the end of an ignored line; except in comments, backslashes join further lines."""
    joins = text[at] != HASH
    while text[at] != LINE_FEED and text[at] != RETURN:
        at = skip_blanks(text, at + 1) if joins else at + 1
    return at


@compiled
def rest_of_line(data, at, row):  # type: ignore[no-untyped-def]
    """Read numbers into row, as many as fit. Return (end of the line, count of numbers before it).

    If a word is not a number, the count is -1 and the place is the word's.
    """
    count = 0
    while True:
        at = skip_blanks(data, at)
        if ends_line(data[at]):
            return at, count
        value, end = parse_number(data, at)
        if end < 0 or not ends_word(data[end]):
            return at, -1
        if count < len(row):
            row[count] = value
        count += 1
        at = end


@compiled
def parse_number(data, at):  # type: ignore[no-untyped-def]
    """Return (value, end) of the decimal number, nan or inf at `at`; end is -1 if there is none.

    The caller checks what follows. Decimal digits use the fast path of Clinger (1990) where it is
    exact, else Lemire (2021).
    """
    negative = data[at] == _MINUS
    if negative or data[at] == _PLUS:
        at += 1
    begin = at
    digits = np.uint64(0)
    kept, power = 0, 0
    while True:
        digit = np.uint64(data[at]) - np.uint64(_ZERO)
        if digit > _NINE:
            break
        if kept < _MOST_DIGITS:
            digits = digits * _TEN + digit
            kept += digits != _NONE
        else:
            power += 1
        at += 1
    any_digit = at > begin
    if data[at] == _DOT:
        at += 1
        point = at
        while True:
            digit = np.uint64(data[at]) - np.uint64(_ZERO)
            if digit > _NINE:
                break
            if kept < _MOST_DIGITS:
                digits = digits * _TEN + digit
                kept += digits != _NONE
                power -= 1
            at += 1
        any_digit |= at > point
    if not any_digit:
        value, end = _parse_word(data, begin)
        return (-value if negative else value), end
    if data[at] == HASH and data[at - 1] == _DOT:  # Microsoft's 1.#INF, 1.#IND and 1.#QNAN
        end = _end_of_letters(data, at + 1)
        if end - at >= 4 and data[at + 2] == _BIG_N:
            return np.nan, end
    if data[at] == _SMALL_E or data[at] == _BIG_E:
        at += 1
        down = data[at] == _MINUS
        if down or data[at] == _PLUS:
            at += 1
        if data[at] < _ZERO or data[at] > _ZERO + 9:
            return 0.0, -1
        written = 0
        while data[at] >= _ZERO and data[at] <= _ZERO + 9:
            written = min(written * 10 + data[at] - _ZERO, 1_000_000)
            at += 1
        power += -written if down else written
    if digits == np.uint64(0):
        value = 0.0
    elif digits <= np.uint64(1 << 53) and -22 <= power <= 22:
        value = np.float64(digits)
        value = value * _EXACT_POWERS[power] if power >= 0 else value / _EXACT_POWERS[-power]
    else:
        value = _nearest_double(digits, power)
    return (-value if negative else value), at


@compiled
def parse_integer(data, at):  # type: ignore[no-untyped-def]
    """Return (value, end) of the decimal integer at `at`; end is -1 if missing or too large."""
    negative = data[at] == _MINUS
    if negative or data[at] == _PLUS:
        at += 1
    begin, value = at, 0
    while data[at] >= _ZERO and data[at] <= _ZERO + 9:
        value = value * 10 + data[at] - _ZERO
        at += 1
    if at == begin or at - begin > 18:
        return 0, -1
    return (-value if negative else value), at


@compiled
def grown(array):  # type: ignore[no-untyped-def]
    """Return a copy of a contiguous array with twice the length along axis 0.

    Copied by a loop: for `larger[:n] = array`, numba compiles three seconds of code that writes an
    error message.
    """
    larger = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    values, copies = array.reshape(-1), larger.reshape(-1)
    for i in range(len(values)):
        copies[i] = values[i]
    return larger


@compiled
def _parse_word(data, at):  # type: ignore[no-untyped-def]
    """Return (value, end) of nan, inf or infinity in any case; end is -1 for another word."""
    end = _end_of_letters(data, at)
    if end - at == 3 and data[at] | 32 == 110 and data[at + 1] | 32 == 97:
        return np.nan, (end if data[at + 2] | 32 == 110 else -1)
    if (end - at == 3 or end - at == 8) and data[at] | 32 == 105 and data[at + 1] | 32 == 110:
        return np.inf, (end if data[at + 2] | 32 == 102 else -1)
    return 0.0, -1


@compiled
def _end_of_letters(data, at):  # type: ignore[no-untyped-def]
    while (data[at] | 32) >= 97 and (data[at] | 32) <= 122:
        at += 1
    return at


def _powers_of_five() -> NDArray[np.uint64]:
    """Return the leading 128 bits of 5^q for q = -342..308 (Lemire 2021, §4).

    [651,2], high and low words. Rounded down for q >= 0; for q < 0 the reciprocal, rounded up.
    """
    table = np.empty((_GREATEST_POWER - _LEAST_POWER + 1, 2), np.uint64)
    for row, q in enumerate(range(_LEAST_POWER, _GREATEST_POWER + 1)):
        power = 5 ** abs(q)
        if q >= 0:
            shift = power.bit_length() - 128
            bits = power >> shift if shift > 0 else power << -shift
        else:
            bits = (1 << (power.bit_length() + 127)) // power + 1
            bits >>= bits.bit_length() - 128
        table[row] = bits >> 64, bits & (1 << 64) - 1
    return table


_FIVES = _powers_of_five()


@compiled
def _product(a, b):  # type: ignore[no-untyped-def]
    """Return the high and low word of the product of two u64."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> half, a & low, b >> half, b & low
    middle = a1 * b0 + (a0 * b0 >> half)
    cross = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> half) + (cross >> half), a * b


@compiled
def _nearest_double(digits, power):  # type: ignore[no-untyped-def]
    """Return digits × 10^power, correctly rounded; digits is a u64 > 0.

    Lemire, Number Parsing at a Gigabyte per Second (2021), algorithm 1. Mushtak and Lemire (2023)
    proved that 128 bits always suffice.
    """
    if power < _LEAST_POWER:
        return 0.0
    if power > _GREATEST_POWER:
        return np.inf
    one = np.uint64(1)
    zeros = 0
    while digits < one << np.uint64(63):
        digits <<= one
        zeros += 1
    high, low = _product(digits, _FIVES[power - _LEAST_POWER, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):  # too near a boundary: use 64 more bits
        carry, _ = _product(digits, _FIVES[power - _LEAST_POWER, 1])
        low += carry
        if low < carry:
            high += one
    top = high >> np.uint64(63)
    mantissa = high >> (top + np.uint64(9))  # 53 bits and one for rounding
    exponent = ((217706 * power) >> 16) + 63 + np.int64(top) - zeros  # 217706/2^16 = log2(10)
    if exponent < -1022:  # subnormal: fewer bits are kept
        if exponent < -1022 - 62:
            return 0.0
        mantissa >>= np.uint64(-1022 - exponent)
        return math.ldexp(np.float64((mantissa + (mantissa & one)) >> one), -1074)
    half_way = mantissa << (top + np.uint64(9)) == high and low <= one and -4 <= power <= 23
    if half_way and mantissa & np.uint64(3) == one:  # round to the even neighbor, which is below
        mantissa -= one
    mantissa = (mantissa + (mantissa & one)) >> one
    if exponent > 1023:
        return np.inf
    return math.ldexp(np.float64(mantissa), exponent - 52)
