"""Only regular files are opened, without waiting; JSON is bounded in size and depth."""

import errno
import json
import os
import socket

import pytest

from pointcmt.files import (
    MOST_DEEP,
    open_regular,
    parse_json,
    read_json,
    read_regular,
    require_regular,
)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def ring(path):
    path.symlink_to(path)


def folder(path):
    path.mkdir()


def listener(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [fifo, device, ring, folder, listener])
@pytest.mark.parametrize(
    "use", [open_regular, require_regular, lambda path: read_regular(path, 100)]
)
def test_files_that_are_not_regular_are_refused_at_once(tmp_path, make, use):
    make(tmp_path / "it")
    with pytest.raises(OSError, match=r"not a regular file|symbolic links") as refused:
        use(tmp_path / "it")
    assert refused.value.errno in (errno.EINVAL, errno.ELOOP)


def test_a_regular_file_is_read_whole_also_through_a_link(tmp_path):
    (tmp_path / "it").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("it")
    assert read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(OSError, match="more than the maximum of 9") as refused:
        read_regular(tmp_path / "it", 9)
    assert refused.value.errno == errno.EFBIG


def test_json_values_are_read_exactly(tmp_path):
    value = {"a": [1, 2.5, None, {"b": "ü"}], "c": {}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value
    assert parse_json("[" * MOST_DEEP + "]" * MOST_DEEP) is not None


@pytest.mark.parametrize("depth", [MOST_DEEP + 2, 900, 5_000, 100_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_deeply_nested_json_is_refused(depth, begin, end):
    with pytest.raises(ValueError, match="nested more than"):
        parse_json(begin * depth + "0" * bool(end == "}") + end * depth)


def test_damaged_or_oversized_json_is_refused(tmp_path):
    for text in ("", "{", b"\xff\xfe\xfd", "1" * 5000):
        with pytest.raises(ValueError):  # noqa: PT011, whatever the words
            parse_json(text)
    (tmp_path / "a.json").write_text('"1234"')
    with pytest.raises(OSError, match="6 bytes, more than the maximum of 5"):
        read_json(tmp_path / "a.json", 5)
