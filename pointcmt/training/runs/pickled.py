"""Tell a checkpoint that needs code from one that is damaged. Reads pickles, never runs them."""

import io
import pickletools
import re
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pointcmt.regular_files import open_regular

MOST = 1 << 24  # bytes of a pickle that are searched
PICKLES = 5  # in torch's format before 1.6: what the file is, then what it holds
LONGEST = 100  # characters of a name in a message
NEWER = "names in a newer pickle protocol than torch's own"
TORCHSCRIPT = "the program that TorchScript keeps in it"
OWN = re.compile(r"(torch|torch\._utils|torch\.storage|collections)\.\w+")  # of tensors alone, too
REFUSED = (  # how torch's reader names what it refuses
    r"GLOBAL (\S+) was not an allowed global",
    r"unsupported GLOBAL (\S+) whose module",
    r"``(torch[\w.]+)``.* must be imported",
)


def named_code(path: Path, error: Exception) -> str:
    """What unpickling a file would run; "" where nothing says so, since then it is damaged.

    error: torch's, on reading the file as weights alone.
    """
    text = str(error)
    if "TorchScript" in text:
        return TORCHSCRIPT
    refused = next((found[1] for p in REFUSED if (found := re.search(p, text))), "")
    strange = "Unsupported operand" in text  # a newer way to name and call things is one, too
    if not refused and not strange:
        return ""
    names = [name for pickle in _pickles(path) for name in _named(pickle)]
    if refused:  # whole, or torch's short form of a builtin's or of a module's name
        whole = any(f".{refused}." in f".{name}." for name, _ in names if name != ".")
        return _shown(refused) if whole else ""  # else the file ends in the middle of the name
    foreign = [name for name, _ in names if not OWN.fullmatch(name)]
    return _shown(foreign[0]) if foreign else NEWER if any(new for _, new in names) else ""


def _pickles(path: Path) -> Iterator[io.BytesIO]:
    """The beginning of each pickle in a file, in either of torch's formats."""
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                content = io.BytesIO(file.read(MOST))
                yield from [content] * PICKLES  # one after the other
                return
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    if name.endswith(".pkl"):
                        yield io.BytesIO(_entry(archive, name))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """The beginning of an archive's entry, nothing where it cannot be unpacked."""
    # Encrypted, cut off, packed by a library that is not there: each has an exception of its own.
    with suppress(Exception), archive.open(name) as part:
        return part.read(MOST)
    return b""


def _named(pickle: io.BytesIO) -> list[tuple[str, bool]]:
    """The functions and classes that a pickle asks for, as far as it can be read.

    With each, whether it is named in the newer way, which torch.save does not use by default.
    """
    names, memo, strings = [], dict[int, str](), deque[str](maxlen=2)
    top = ""  # the string that was pushed last, "" where something else was
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
    """A name as a message may hold it: short, and without control characters."""
    return ascii(name)[1:-1][:LONGEST]
