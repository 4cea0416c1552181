"""Convert the options in messages (`--out`) to Python arguments (`out=`).

Messages are written with command-line options. The command line prints them unchanged; in Python
they show the arguments of the public functions. Commands in backticks stay unchanged, since they
are for a shell.
"""

import re

SWITCHES = frozenset(
    ("overwrite", "retry-failed", "moved", "changed-sources", "follow-links", "compile", "failed")
)
# The options that are also arguments of public functions, with `-` for `_`.
ARGUMENTS = SWITCHES | frozenset(
    (
        "dataset", "root", "out", "rig", "size", "points", "layers", "split", "limit", "up",
        "backend", "device", "background", "light", "cull", "shading", "crease-angle", "splat",
        "seed", "workers", "timeout",
        "memory-limit", "shard-size", "data", "config", "init", "teacher", "generator", "epochs",
        "features", "precision", "votes", "class-name", "top", "checkpoint", "holdout",
        "textures", "frames", "resolution", "voxel", "correspondences", "backbone", "frame",
        "layout", "min-score", "layer", "run", "ids", "codec",
    )
)  # fmt: skip
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:[ =]([A-Z0-9…<][^\s,;)]*|[a-z][a-z_.]*=[^\s,;)]+)|\b)")
_WHERE = re.compile(r"--([a-z][a-z-]*) ([^-].*)", re.DOTALL)
_VALUES = re.compile(
    r"--(backend|device|dataset|init|split|checkpoint) "
    r"(embree|egl|cpu|folder|clouds|shapenetpart|val|best|last)\b"
)


def as_arguments(text: str) -> str:
    """Return a message with its options as arguments: `--memory-limit 4` → `memory_limit=4`.

    `--set data.points=64` becomes `data__points=64`, a switch such as `--overwrite` becomes
    `overwrite=True`.
    """
    parts = text.split("`")
    for index, part in enumerate(parts):
        if index % 2 == 0 or part.startswith("--"):
            parts[index] = _OPTION.sub(_argument, _VALUES.sub(r"\1=\2", part))
    return "`".join(parts)


def place_as_arguments(where: str) -> str:
    """Convert an error's `where`: an option's value may contain spaces, as paths do."""
    found = _WHERE.fullmatch(where)
    if found and found[1] == "set" and ", --" not in where:
        return _nested(found[2])
    if found and found[1] in ARGUMENTS and ", --" not in where:
        return f"{found[1].replace('-', '_')}={found[2]}"
    return as_arguments(where)


def _argument(found: re.Match[str]) -> str:
    name, value = found[1], found[2] or ""
    if name == "trust":
        return f'pointcmt.plugins.trust("{value}")'
    if name == "set":
        return _nested(value) if value else "as arguments"
    if name not in ARGUMENTS:
        return found[0]
    if name in SWITCHES:
        return f"{name.replace('-', '_')}=True" + (f" {value}" if value else "")
    return f"{name.replace('-', '_')}={value}"


def _nested(setting: str) -> str:
    """Convert nested keys to an argument: `a.b=c` → `a__b=c`."""
    key, equals, value = setting.partition("=")
    return f"{key.replace('.', '__')}{equals}{value}"
