"""Coverage-guided fuzzing of everything that reads untrusted files.

Usage: python benchmarks/fuzz.py [--minutes 60] [--jobs 2] [--targets off,obj,...] [--corpus DIR]

Needs atheris (`pip install --group fuzz`, Linux). Each target is a reader, or a store document that
is given to everything that reads stores. The fuzzer sees the branches of Python code; compiled
kernels run with bounds checks here. Anything but the project's own refusal is a finding: a crash,
another exception, 20 s for one input, or more than 1 GB. Then all inputs that reached new code are
read again by the kernels as users run them, which must give the same results.

Seeds are generated. Findings stay in --corpus, by default a temporary folder. Exit code 1 if there
were any.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

SECONDS, MEGABYTES, LENGTH = 20, 1024, 8192  # limits of one input: time, memory, bytes
WORDS = {  # words that a fuzzer would take long to find
    ".off": ["OFF", "COFF", "NOFF", "4OFF", "#", "1e308", "nan", "-1", "4294967296"],
    ".obj": ["v ", "vt ", "f ", "1/1/1", "-1//", "usemtl ", "mtllib ", "l ", "nan", "1e39"],
    ".ply": [
        *("ply\n", "format ascii 1.0\n", "format binary_little_endian 1.0\n", "element vertex "),
        *("element face ", "property float x\n", "property list uchar int vertex_indices\n"),
        *("property double ", "end_header\n", "comment TextureFile "),
    ],
    ".stl": ["solid ", "facet normal ", "outer loop", "vertex ", "endloop", "endfacet", "endsolid"],
    ".glb": [
        *('"accessors":[', '"bufferViews":[', '"meshes":[', '"primitives":[', '"attributes":{'),
        *('"POSITION":', '"indices":', '"mode":', '"nodes":[', '"matrix":[', '"children":['),
        *('"skins":[', '"joints":[', '"weights":[', '"targets":[', '"sparse":{', '"count":'),
        *('"type":"VEC3"', '"componentType":5126', '"images":[', '"uri":"data:image/png;base64,'),
    ],
    ".csv": ["x,y,z", "nx,ny,nz", "red,green,blue", "label", "//", "nan", ";", "1,5", '"x"'],
    ".pcd": [
        *("VERSION .7\n", "FIELDS x y z", "SIZE 4", "TYPE F", "COUNT 1", "WIDTH ", "HEIGHT "),
        *("POINTS ", "DATA ascii\n", "DATA binary\n", "DATA binary_compressed\n", "rgb", "_"),
    ],
    ".npy": ["\x93NUMPY", "'descr': '<f4'", "'fortran_order': False", "'shape': (", "O", "|V8"],
    ".json": ["null", "true", "1e999", "NaN", "-1", "{}", "[]", "\\ud800", "0" * 40],
}


VALUES = (
    None,
    True,
    -1,
    0,
    1,
    255,
    10**30,
    1.5,
    1e300,
    "",
    "x",
    "\0",
    "../x",
    [],
    {},
    [[]],
    [0] * 99,
)


@dataclass(frozen=True)
class Target:
    """read: called on an input, with a folder of its own. words: the suffix in WORDS."""

    read: Callable[[bytes, Path], Any]
    seeds: tuple[bytes, ...]
    words: str

    @property
    def is_json(self) -> bool:
        return self.words == ".json" or self.seeds == GLTFS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the target of a child process
    parser.add_argument("--replay", action="store_true", help=argparse.SUPPRESS)
    options, more = parser.parse_known_args()
    if options.replay:
        print(json.dumps(replay(options.one, options.corpus)))
    elif options.one:
        fuzz(options.one, options.corpus, more)
    else:
        with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
            sys.exit(fuzz_all(options, options.corpus or Path(folder)))


def fuzz_all(options: argparse.Namespace, corpus: Path) -> int:
    """Fuzz each target for its share of the time; return the exit code."""
    names = options.targets.split(",")
    seconds = max(1, round(options.minutes * 60 * options.jobs / len(names)))
    started = time.monotonic()
    print(f"{'target':16}{'inputs':>10}{'kept':>8}{'slowest s':>11}{'peak MB':>9}  findings")
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda name: fuzz_one(name, corpus / name, seconds), names)
        findings = sum(results)
    print(f"{(time.monotonic() - started) / 60:.0f} min on {options.jobs} processes: ", end="")
    print(f"{findings} findings" if findings else "nothing but refusals")
    return int(findings > 0)


def fuzz_one(name: str, corpus: Path, seconds: int) -> int:
    """Fuzz one target in separate processes, then replay; print a line, return findings."""
    target, inputs, found = TARGETS[name], corpus / "inputs", corpus / "findings"
    for folder in (inputs, found):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (inputs / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    words = corpus / "words"
    words.write_text("".join(f"{quoted(word)}\n" for word in WORDS[target.words]))
    limits = [
        f"-timeout={SECONDS}",
        f"-report_slow_units={SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={LENGTH}",
    ]
    limits += [f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={found}/"]
    command = [sys.executable, __file__, "--one", name, "--corpus", str(corpus)]
    careful = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run(
        [*command, *limits, "-print_final_stats=1", "-verbosity=1"],
        env=careful, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    (corpus / "log.txt").write_text(done.stdout + done.stderr)
    again = [subprocess.run([*command, "--replay"], env={**os.environ, **mode}, capture_output=True)
             for mode in ({}, {"NUMBA_BOUNDSCHECK": "1"})]  # fmt: skip
    same = all(one.returncode == 0 for one in again) and again[0].stdout == again[1].stdout
    if not same:
        (found / "with-and-without-checks-differ").write_bytes(b"\n".join(o.stdout for o in again))
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", done.stderr))
    problems = sorted(path.name for path in found.iterdir())
    problems += [] if done.returncode == 0 or problems else [f"exit code {done.returncode}"]
    print(
        f"{name:16}{stats.get('number_of_executed_units', '?'):>10}{len(list(inputs.iterdir())):>8}"
        f"{stats.get('slowest_unit_time_sec', '?'):>11}{stats.get('peak_rss_mb', '?'):>9}  "
        f"{', '.join(problems) or 'none'}",
        flush=True,
    )
    return len(problems)


def quoted(word: str) -> str:
    """Quote a word for libFuzzer's dictionaries."""
    plain = (char if char.isalnum() or char in " .-_" else f"\\x{ord(char):02x}" for char in word)
    return f'"{"".join(plain)}"'


def fuzz(name: str, corpus: Path, limits: list[str]) -> None:
    """Fuzz a target until its time is over, in a child process."""
    import atheris

    compile_into(corpus.parent / "kernels-checked")
    with tempfile.TemporaryDirectory(dir=shared_memory()) as warm:
        for seed in TARGETS[name].seeds:  # compiles most kernels before the time limit applies
            with suppress(refusals()):
                TARGETS[name].read(seed, Path(warm))
    for function in python_functions():
        atheris.instrument_func(function)
    place = Path(tempfile.mkdtemp(dir=shared_memory()))

    def one_input(data: bytes) -> None:
        with suppress(refusals()):
            TARGETS[name].read(data, place)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            if chance.random() < 0.8:
                return mutate_json(data, chance)[:size]
        return atheris.Mutate(data, size)

    extra = {"custom_mutator": mutate} if TARGETS[name].is_json else {}
    atheris.Setup([sys.argv[0], *limits, str(corpus / "inputs")], one_input, **extra)
    atheris.Fuzz()


def replay(name: str, corpus: Path) -> dict[str, str]:
    """Return the digest of each kept input's result, or the reason it is refused."""
    checked = os.environ.get("NUMBA_BOUNDSCHECK") == "1"
    compile_into(corpus.parent / ("kernels-checked" if checked else "kernels"))
    made = {}
    with tempfile.TemporaryDirectory(dir=shared_memory()) as place:
        for path in sorted((corpus / "inputs").iterdir()):
            try:
                made[path.name] = digest(TARGETS[name].read(path.read_bytes(), Path(place)))
            except refusals() as refused:
                made[path.name] = str(getattr(refused, "reason", type(refused).__name__))
    return made


def compile_into(folder: Path) -> None:
    """Cache compiled kernels here: other caches do not distinguish bounds checking."""
    from pointcmt import compiled

    folder.mkdir(parents=True, exist_ok=True)
    compiled._cache_folder = lambda: folder


def python_functions() -> Iterator[FunctionType]:
    """Yield all functions and methods of the package that are not compiled kernels."""
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "pointcmt":
            holders = [module, *(part for part in vars(module).values() if isinstance(part, type))]
            for part in [part for holder in holders for part in vars(holder).values()]:
                part = getattr(part, "__func__", part)
                if isinstance(part, FunctionType) and part.__module__ == name:
                    yield part


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """Change, repeat, move or remove one value somewhere in a JSON text."""
    tree = json.loads(data)
    nodes: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        keys = (
            node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        )
        nodes += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    node, key = chance.choice(nodes)
    other, name = chance.choice(nodes)
    match chance.randrange(6):
        case 0:
            del node[key]
        case 1:
            node[key] = other[name]
        case 2 if isinstance(node, dict):
            node[str(name)] = other[name]
        case 3 if isinstance(node, list):
            node.append(other[name])
        case 4 if isinstance(node[key], int | float):
            node[key] = node[key] + chance.choice([-1, 1, 0.5, 2**31, -(2**63), 1e300])
        case _:
            node[key] = chance.choice(VALUES)
    return json.dumps(tree).encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of the arrays of a mesh or a cloud."""
    found = hashlib.sha256()
    for key, part in sorted(vars(value).items()) if hasattr(value, "__dict__") else ():
        if hasattr(part, "tobytes"):
            found.update(f"{key} {part.dtype} {part.shape}".encode() + part.tobytes())
    return found.hexdigest()


def refusals() -> tuple[type[Exception], ...]:
    from pointcmt.errors import PointcmtError, ShapeRefused

    return PointcmtError, ShapeRefused


def shared_memory() -> str | None:
    """Return a folder in memory, if there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# Readers.


def mesh(suffix: str) -> Callable[[bytes, Path], Any]:
    def read(data: bytes, folder: Path) -> Any:
        from pointcmt.render.load.meshes import load_mesh

        path = folder / f"mesh{suffix}"
        path.write_bytes(data)
        return checked(lambda: load_mesh(path))

    return read


def glb_json(data: bytes, folder: Path) -> Any:
    """Read the JSON of a GLB with correct lengths and a buffer of a few floats."""
    return mesh(".glb")(glb(data, bytes(range(256)) * 2), folder)


def material(data: bytes, folder: Path) -> Any:
    """Read the material file of an OBJ."""
    (folder / "mesh.mtl").write_bytes(data)
    return mesh(".obj")(OBJ, folder)


def texture(data: bytes, folder: Path) -> Any:
    """Read the texture of an OBJ."""
    (folder / "mesh.mtl").write_bytes(b"newmtl m\nmap_Kd mesh.png\n")
    (folder / "mesh.png").write_bytes(data)
    return mesh(".obj")(OBJ, folder)


def cloud(suffix: str) -> Callable[[bytes, Path], Any]:
    def read(data: bytes, folder: Path) -> Any:
        from pointcmt.datasets.store.schema import ShapeRecord
        from pointcmt.render.load.clouds import CloudLoader

        (folder / f"cloud{suffix}").write_bytes(data)
        record = ShapeRecord("a", None, "train", f"cloud{suffix}")
        return checked(lambda: CloudLoader("clouds", folder).load(record)[0])

    return read


def checked(load: Callable[[], Any]) -> Any:
    """Load, and count a refusal that reports an internal error as a finding."""
    from pointcmt.errors import Reason, ShapeRefused

    try:
        return load()
    except ShapeRefused as refused:
        if refused.reason == Reason.INTERNAL_ERROR:
            raise AssertionError(refused.detail) from refused
        raise


def document(name: str) -> Callable[[bytes, Path], Any]:
    """Return a reader of one file of a tiny store, with its checksum corrected if it has one."""

    def read(data: bytes, folder: Path) -> Any:
        from pointcmt.datasets.store.verify import verify
        from pointcmt.datasets.store.view_store import ViewStore

        path = tiny_store(folder / "S")
        documents = tiny_documents()
        documents[name] = data
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            documents = with_checksums(documents)
        for key, text in documents.items():
            (path / key).write_bytes(text)
        with suppress(*refusals()):
            verify(str(path))
        store = ViewStore.open(path)
        return [store.status(), store.outcomes(), store.failures(), store.require_complete()]

    return read


MARKER = "commits/render/000000.json"


def with_checksums(documents: dict[str, bytes]) -> dict[str, bytes]:
    """Return the documents with valid checksums, as a careful forger would."""
    from pointcmt.datasets.store.metadata import (
        group_metadata,
    )
    from pointcmt.datasets.store.root import (
        identity_digest,
    )
    from pointcmt.datasets.store.schema import (
        digest,
        encode_line,
    )

    root = json.loads(documents["zarr.json"])
    body = {key: value for key, value in root["attributes"].items() if key != "checksum"}
    body["plan_sha256"] = digest(documents["shapes.jsonl"])
    marker = json.loads(documents[MARKER])
    with suppress(KeyError, TypeError):
        marker["store"] = identity_digest(body)
    own = {key: value for key, value in marker.items() if key != "checksum"}
    own["checksum"] = digest(encode_line(own))
    made = {"zarr.json": group_metadata(body), MARKER: encode_line(own)}
    return {**documents, **made}


def tiny_documents() -> dict[str, bytes]:
    """Return root, plan and a commit marker of a store of one shape."""
    from pointcmt.datasets.store.documents import (
        Outcome,
        encode_outcome,
    )
    from pointcmt.datasets.store.metadata import (
        group_metadata,
    )
    from pointcmt.datasets.store.root import (
        identity_digest,
    )
    from pointcmt.datasets.store.schema import (
        SCHEMA_VERSION,
        Schema,
        ShapeRecord,
        array_specs,
        digest,
        encode_line,
        encode_plan,
        render_arrays,
        schema_attributes,
        shard_key,
    )

    if not _TINY:
        schema = Schema(1, 1, 2, 2, 1, 1e-4)
        plan = encode_plan([ShapeRecord("a", "c", "train", "a.off")])
        attributes = {
            "schema_version": SCHEMA_VERSION,
            "schema": schema_attributes(schema),
            "render": {"rig": {"name": "one"}},
            "render_hash": "",
            "source": {"name": "toy", "root": None, "up": "z", "licence": "none"},
            "class_names": ["c"],
            "part_names": {},
            "versions": {},
            "plan_sha256": digest(plan),
        }
        specs = array_specs(schema)
        names = render_arrays(schema)
        files = {shard_key(specs[name], name, 0): "0" * 64 for name in names}
        marker = {"shard": 0, "stage": "render", "store": identity_digest(attributes)}
        marker |= {"outcomes": [encode_outcome(Outcome("a", "done", faces=1))], "files": files}
        marker["checksum"] = digest(encode_line(marker))
        _TINY.update(
            {
                "zarr.json": group_metadata(attributes),
                "shapes.jsonl": plan,
                MARKER: encode_line(marker),
            }
        )
    return dict(_TINY)


_TINY: dict[str, bytes] = {}


def tiny_store(folder: Path) -> Path:
    """Create the folders of a store of one shape, without its images."""
    (folder / "commits" / "render").mkdir(parents=True, exist_ok=True)
    return folder


# Seeds.


def glb(text: bytes, buffer: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(buffer), b"BIN\0") + buffer
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


OFF = b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3 255 0 0\n"
COLORED_OFF = b"COFF\n3 1 0\n0 0 0 255 0 0 255\n1 0 0 0 255 0 255\n0 1 0 0 0 255 255\n3 0 1 2\n"
OBJ = (
    b"mtllib mesh.mtl\nv 0 0 0\nv 1 0 0 1 0 0\nv 0 1 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvn 0 0 1\n"
    b"usemtl m\nf 1/1/1 2/2/1 3/1/1\nf -1 -2 -3 -4\n"
)
MTL = b"newmtl m\nKd 0.5 0.5 0.5\nKe 0 0 0\nd 1\nmap_Kd -s 1 1 1 mesh.png\nillum 2\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PLY_HEAD = (
    b"element vertex 3\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\n"
    b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
)
PLY = b"ply\nformat ascii 1.0\n" + PLY_HEAD + b"0 0 0 1\n1 0 0 2\n0 1 0 3\n3 0 1 2\n"
BINARY_PLY = (
    b"ply\nformat binary_little_endian 1.0\n"
    + PLY_HEAD
    + b"".join(struct.pack("<fffB", *v, 9) for v in ((0, 0, 0), (1, 0, 0), (0, 1, 0)))
    + struct.pack("<Biii", 3, 0, 1, 2)
)
TRIANGLE = struct.pack("<12fH", 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0)
STL = b"\0" * 80 + struct.pack("<I", 1) + TRIANGLE
TEXT_STL = (
    b"solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
    b"endloop\nendfacet\nendsolid a\n"
)
ACCESSOR = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
PRIMITIVE = {"attributes": {"POSITION": 0}, "mode": 4}
GLTF = {
    "asset": {"version": "2.0"},
    "scene": 0,
    "scenes": [{"nodes": [0]}],
    "nodes": [{"mesh": 0, "scale": [1, 1, -1]}],
    "meshes": [{"primitives": [PRIMITIVE]}],
    "accessors": [{**ACCESSOR, "min": [0, 0, 0], "max": [1, 1, 0]}],
    "bufferViews": [{"buffer": 0, "byteLength": 36}],
    "buffers": [{"byteLength": 36}],
}
STRIP = {**GLTF, "meshes": [{"primitives": [{**PRIMITIVE, "mode": 5}]}]}
SPARSE = {
    **GLTF,
    "accessors": [
        {
            **ACCESSOR,
            "sparse": {
                "count": 1,
                "indices": {"bufferView": 0, "componentType": 5121},
                "values": {"bufferView": 0},
            },
        }
    ],
}
MORPHED = {
    **GLTF,
    "meshes": [{"primitives": [{**PRIMITIVE, "targets": [{"POSITION": 0}]}], "weights": [0.5]}],
}
FLOATS = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
GLTFS = tuple(json.dumps(one).encode() for one in (GLTF, STRIP, SPARSE, MORPHED))
NPY_HEAD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }".ljust(117) + b"\n"
NPY = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(NPY_HEAD)) + NPY_HEAD + FLOATS
CSV = b"x,y,z,red,green,blue,label\n0,0,0,1,2,3,a\n1,0,0,1,2,3,b\n0,1,,1,2,3,c\n"
SEMICOLONS = b"//X Y Z R G B\n2\n0;0;0;1;2;3\n1,5;0;0;1;2;3\n"
PCD_HEAD = (
    b"VERSION .7\nFIELDS x y rgb z\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH 2\nHEIGHT 1\n"
    b"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA "
)
PCD_ROWS = struct.pack("<8f", 0, 0, 4e6, 0, 1, 0, 4e6, 1)
PCDS = (
    PCD_HEAD + b"ascii\n0 0 4e6 0\n1 0 4e6 nan\n",
    PCD_HEAD + b"binary\n" + PCD_ROWS,
    PCD_HEAD + b"binary_compressed\n" + struct.pack("<IIB", 33, 32, 31) + PCD_ROWS,
)


def npz() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("points.npy"), NPY)
        archive.writestr(zipfile.ZipInfo("normals.npy"), NPY)
    return stream.getvalue()


def seed_of(name: str) -> bytes:
    return tiny_documents()[name]


TARGETS = {
    "off": Target(mesh(".off"), (OFF, COLORED_OFF), ".off"),
    "obj": Target(mesh(".obj"), (OBJ,), ".obj"),
    "mtl": Target(material, (MTL,), ".obj"),
    "texture": Target(texture, (PNG,), ".npy"),
    "ply": Target(mesh(".ply"), (PLY, BINARY_PLY), ".ply"),
    "stl": Target(mesh(".stl"), (STL, TEXT_STL), ".stl"),
    "glb": Target(mesh(".glb"), tuple(glb(one, FLOATS) for one in GLTFS), ".glb"),
    "glb-json": Target(glb_json, GLTFS, ".glb"),
    "cloud-xyz": Target(cloud(".xyz"), (b"0 0 0\n1 0 0\n0,1,0,1,2,3\n",), ".off"),
    "cloud-pts": Target(cloud(".pts"), (b"2\n0 0 0 5 1 2 3\n1 0 0 5 1 2 3\n",), ".off"),
    "cloud-csv": Target(cloud(".csv"), (CSV, SEMICOLONS), ".csv"),
    "cloud-pcd": Target(cloud(".pcd"), PCDS, ".pcd"),
    "cloud-npz": Target(cloud(".npz"), (npz(),), ".npy"),
    "cloud-npy": Target(cloud(".npy"), (NPY,), ".npy"),
    "cloud-ply": Target(cloud(".ply"), (PLY, BINARY_PLY), ".ply"),
    "store-root": Target(document("zarr.json"), (seed_of("zarr.json"),), ".json"),
    "store-plan": Target(document("shapes.jsonl"), (seed_of("shapes.jsonl"),), ".json"),
    "store-marker": Target(document(MARKER), (seed_of(MARKER),), ".json"),
}

if __name__ == "__main__":
    main()
