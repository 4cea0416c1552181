"""Tell a checkpoint that needs to run code from a damaged one. Reads pickles, never runs them."""

import io
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pointcmt.files import open_regular

MOST = 1 << 24  # bytes of a pickle that are searched
PICKLES = 5  # in torch's format before 1.6: the file's header, then its content
LONGEST = 100  # characters of a name in a message
NEWER = "a newer pickle protocol than torch's own"
TORCHSCRIPT = "the program that TorchScript stores in it"
# plain tensors need these
OWN = re.compile(r"(torch|torch\._utils|torch\.storage|collections)\.\w+")
REFUSED = (  # how torch's messages name what was refused
    r"GLOBAL (\S+) was not an allowed global",
    r"unsupported GLOBAL (\S+) whose module",
    r"``(torch[\w.]+)``.* must be imported",
)


def named_code(path: Path, error: Exception) -> str:
    """Return the name of what unpickling a file would run; "" if the file is just damaged.

    error: torch's error on reading the file as weights only.
    """
    text = str(error)
    if "TorchScript" in text:
        return TORCHSCRIPT
    refused = next((found[1] for p in REFUSED if (found := re.search(p, text))), "")
    newer = "Unsupported operand" in text  # newer protocols have more ways to call things
    if not refused and not newer:
        return ""
    names = [name for pickle in _pickles(path) for name in _named(pickle)]
    if refused:  # torch shortens the names of builtins and of some modules
        whole = any(f".{refused}." in f".{name}." for name, _ in names if name != ".")
        return _shown(refused) if whole else ""  # otherwise the file ends within the name
    foreign = [name for name, _ in names if not OWN.fullmatch(name)]
    return _shown(foreign[0]) if foreign else NEWER if any(new for _, new in names) else ""


def _pickles(path: Path) -> Iterator[io.BytesIO]:
    """Yield the beginning of each pickle in a file, in either of torch's formats."""
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                content = io.BytesIO(file.read(MOST))
                yield from [content] * PICKLES  # they follow each other
                return
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if name.endswith(".pkl"):
                        yield io.BytesIO(_entry(archive, name))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the beginning of an archive's entry; nothing if it cannot be unpacked."""
    # encrypted, cut off, compressed with a missing library: each raises a different exception
    with suppress(Exception), archive.open(name) as part:
        return part.read(MOST)
    return b""


def _named(pickle: io.BytesIO) -> list[tuple[str, bool]]:
    """Return the functions and classes that a pickle names, as far as it can be read.

    With each, whether it uses the newer opcode, which torch.save does not use by default.
    """
    names, memo, strings = [], dict[int, str](), deque[str](maxlen=2)
    top = ""  # the string that was pushed last; "" if it was not a string
    try:
        for opcode, value, _ in pickletools.genops(pickle):
            kind = opcode.name
            if kind == "STACK_GLOBAL":
                names.append((".".join(strings), True))
            elif kind in ("GLOBAL", "INST"):
                names.append((str(value).replace(" ", "."), False))
            elif kind == "MEMOIZE" or "PUT" in kind:
                memo[len(memo) if value is None else value] = top
                continue
            top = value if isinstance(value, str) else ""
            if "GET" in kind and isinstance(value, int):
                top = memo.get(value, "")
            strings += [top] if top else []
    except (ValueError, EOFError, IndexError):
        pass
    return names


def _shown(name: str) -> str:
    """Return a name fit for a message: short and without control characters."""
    return ascii(name)[1:-1][:LONGEST]
