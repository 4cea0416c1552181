"""Nothing but regular files is opened, and nothing is waited for."""

import errno
import os
import socket

import pytest

from pointcmt.files import open_regular, read_regular, require_regular


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
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, make, use):
    make(tmp_path / "it")
    with pytest.raises(OSError, match=r"not a regular file|symbolic links") as refused:
        use(tmp_path / "it")
    assert refused.value.errno in (errno.EINVAL, errno.ELOOP)


def test_a_regular_file_is_read_whole_through_a_link_too(tmp_path):
    (tmp_path / "it").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("it")
    assert read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(OSError, match="more than the maximum of 9") as refused:
        read_regular(tmp_path / "it", 9)
    assert refused.value.errno == errno.EFBIG
