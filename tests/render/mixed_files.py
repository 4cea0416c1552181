"""A folder of every format, material, texture and kind of damage, with what must become of each.

`write` makes about 300 models, always the same; `problems` compares a store rendered from them.
Families of further formats belong in `FAMILIES`: a function that yields cases.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from pointcmt.datasets.store.view_store import ViewStore

RED, GREEN, GRAY = (255, 0, 0), (0, 255, 0), (190, 190, 190)
BOX = trimesh.creation.box()
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
DARK, BRIGHT = 8, 247  # values of pixels that count as black, as white


@dataclass(frozen=True)
class Case:
    """A model and its files. All are in a folder of their own; names may lead to its subfolders.

    reason: of a shape that must fail, "" = none. color: what it shows; None = anything that is
    neither black nor white. note: part of a note that it must have; "" = it must have none.
    """

    name: str
    model: str
    files: dict[str, bytes] = field(repr=False)
    color: tuple[int, int, int] | None = GRAY
    note: str = ""
    reason: str = ""


def write(root: Path, cases: Sequence[Case]) -> dict[str, Case]:
    """Write the files; return the cases by the path of their model, relative to the root."""
    written = {}
    for number, case in enumerate(cases):
        folder = root / case.name.split()[0] / f"{number:03d}"
        for name, content in case.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        written[(folder / case.model).relative_to(root).as_posix()] = case
    return written


def problems(store: str | Path, written: dict[str, Case]) -> list[str]:
    """Return what is not as expected in the store, as one line per model."""
    opened = ViewStore.open(store)
    found = []
    for index, (shape, outcome) in enumerate(zip(opened.shapes, opened.outcomes(), strict=True)):
        case = written[shape.source]
        said = [] if outcome is None else [*outcome.notes, outcome.detail]
        wrong = "not tried" if outcome is None else _difference(case, outcome.reason, outcome.notes)
        if not wrong and not case.reason:
            covered = opened.read("face_index", index) >= 0
            wrong = _appearance(case, opened.read("rgb", index), covered)
        if wrong:
            found.append(f"{shape.source} ({case.name}): {wrong}; {said}")
    return found


def _difference(case: Case, reason: str | None, notes: tuple[str, ...]) -> str:
    if (reason or "") != case.reason:
        return f"{reason or 'done'} instead of {case.reason or 'done'}"
    if case.note and not any(case.note in note for note in notes):
        return f"no note says: {case.note}"
    return "a note that was not expected" if notes and not case.note and not case.reason else ""


def _appearance(case: Case, rgb: np.ndarray, covered: np.ndarray) -> str:
    """Say what is wrong with images [V,H,W,3]: blank, black, white or of another color."""
    if not covered.any(axis=(1, 2)).all():
        return "a view is blank"
    pixels = rgb[covered].astype(int)
    if (pixels.max(axis=1) <= DARK).mean() > 0.05 or (pixels.min(axis=1) >= BRIGHT).mean() > 0.05:
        return "black or white pixels"
    if case.color is None:
        return ""
    shown = np.median(pixels, axis=0)
    expected = np.array(case.color) / max(case.color)
    if np.abs(shown / shown.max() - expected).max() > 0.25:
        return f"shows {shown.tolist()} instead of {case.color}"
    return ""


# The files


def picture(kind: str, color: tuple[int, ...] = RED, **more: object) -> bytes:
    """An image of one color."""
    data = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", (8, 8), color).save(data, kind, **more)
    return data.getvalue()


def obj(*extra: str, use: str = "usemtl m", place: tuple[int, int] = (0, 0)) -> bytes:
    """A box; each of its sides shows the whole texture, in the UDIM tile at `place`."""
    lines = [*extra, *(f"v {x} {y} {z}" for x, y, z in BOX.vertices.tolist())]
    lines += [f"vt {u} {v}" for u, v in (0.1 + 0.8 * CORNERS + place).tolist()]
    lines += [use, *("f " + " ".join(f"{v + 1}/{i + 1}" for i, v in enumerate(q)) for q in QUADS)]
    return ("\n".join(lines) + "\n").encode()


def off(vertices: np.ndarray = BOX.vertices, keyword: str = "OFF", columns: str = "") -> bytes:
    rows = [" ".join(map(repr, v)) + columns for v in vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in BOX.faces.tolist()]
    return f"{keyword}\n{len(vertices)} {len(BOX.faces)} 0\n{chr(10).join(rows)}\n".encode()


def ply(
    binary: bool, *, colors: bool = False, vertices: np.ndarray = BOX.vertices, texture: str = ""
) -> bytes:
    if texture:  # all of the box shows the middle of the image
        text = ply(False, vertices=np.hstack([vertices, np.full((len(vertices), 2), 0.5)])).decode()
        text = text.replace("float z\n", "float z\nproperty float s\nproperty float t\n")
        return text.replace("1.0\n", f"1.0\ncomment TextureFile {texture}\n", 1).encode()
    order = "binary_little_endian" if binary else "ascii"
    head = f"ply\nformat {order} 1.0\nelement vertex {len(vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue") if colors)
    head += f"element face {len(BOX.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    if binary:
        tint = bytes(RED) if colors else b""
        body = b"".join(struct.pack("<3f", *v) + tint for v in vertices.tolist())
        return head.encode() + body + b"".join(struct.pack("<B3i", 3, *f) for f in BOX.faces)
    tint_text = " 255 0 0" if colors else ""
    lines = [" ".join(map(repr, v)) + tint_text for v in vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in BOX.faces]
    return (head + "\n".join(lines) + "\n").encode()


def stl(binary: bool, vertices: np.ndarray = BOX.vertices) -> bytes:
    mesh = trimesh.Trimesh(vertices, BOX.faces, process=False, validate=False)
    made = mesh.export(file_type="stl" if binary else "stl_ascii")
    return made if isinstance(made, bytes) else made.encode()


def glb(color: tuple[int, ...] | None = None, image: bytes = b"") -> bytes:
    mesh = BOX.copy()
    if image:
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.open(io.BytesIO(image)), metallicFactor=0.0
        )
        uv = np.full((len(mesh.vertices), 2), 0.5)
        mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    elif color:
        mesh.visual.face_colors = color
    made = mesh.export(file_type="glb")
    assert isinstance(made, bytes)
    return made


# The cases


IMAGES = {  # by suffix: an image of one color
    **{s: picture(k) for s, k in ((".png", "PNG"), (".jpg", "JPEG"), (".bmp", "BMP"))},
    **{s: picture(k) for s, k in ((".gif", "GIF"), (".tif", "TIFF"), (".tga", "TGA"))},
    **{s: picture(k) for s, k in ((".webp", "WEBP"), (".ppm", "PPM"), (".pcx", "PCX"))},
    ".dds": picture("DDS"),
    ".jpeg": picture("JPEG", progressive=True),
}
LOST = {  # by suffix: an image that is not read, and part of the note
    ".exr": (b"\x76\x2f\x31\x01" + bytes(60), "OpenEXR images are not read"),
    ".hdr": (b"#?RADIANCE\n" + bytes(60), "Radiance HDR images are not read"),
    ".ktx2": (b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(60), "KTX 2 images are not read"),
    ".psd": (b"8BPS\0\1" + bytes(60), "Photoshop images are not read"),
    ".tx": (b"unknown" * 9, "OpenImageIO images are not read"),
    ".png": (b"no image", "cannot be decoded"),
    ".jpg": (IMAGES[".jpg"][:200], "cannot be decoded"),
}
PLACES = {  # the model's path, the name in its material, the texture's path; {} is the suffix
    "beside": ("a.obj", "t{}", "t{}"),
    "subfolder": ("a.obj", "textures/t{}", "textures/t{}"),
    "sibling": ("meshes/a.obj", "../textures/t{}", "textures/t{}"),
    "scanned": ("meshes/model.obj", "texture{}", "materials/textures/texture{}"),
    "windows": ("a.obj", "C:\\work\\t{}", "t{}"),
    "network": ("a.obj", "\\\\host\\share\\maps\\t{}", "maps/t{}"),
    "source": ("source/a.obj", "t{}", "Textures/t{}"),
    "deep": ("visual/mesh/a.obj", "t{}", "textures/t{}"),
    "named": ("a.obj", "t{}", "a/t{}"),
    "options": ("a.obj", "-clamp on -s 1 1 1 my t{}", "my t{}"),
    "case": ("a.obj", "Images\\T{}", "images/t{}"),
}


def textured() -> Iterator[Case]:
    for suffix, image in IMAGES.items():
        for place, (model, name, path) in PLACES.items():
            folder = model.rpartition("/")[0]
            mtl = f"newmtl m\nKd 0 0 0\nmap_Kd {name.format(suffix)}\n".encode()
            files = {model: obj("mtllib m.mtl"), f"{folder}/m.mtl".lstrip("/"): mtl}
            yield Case(f"obj {place}", model, {**files, path.format(suffix): image}, RED)

    for suffix, image in IMAGES.items():
        for place in ("beside", "windows", "source"):
            model, name, path = (part.format(suffix) for part in PLACES[place])
            model = model.replace(".obj", ".ply")
            files = {model: ply(False, texture=name), path: image}
            yield Case(f"ply {place}", model, files, RED)


def lost() -> Iterator[Case]:
    for black in ("Kd 0 0 0", "Kd 0.001 0 0"):
        for suffix, (image, note) in LOST.items():
            mtl = f"newmtl m\n{black}\nmap_Kd t{suffix}\n".encode()
            files = {"a.obj": obj("mtllib m.mtl"), "m.mtl": mtl, f"t{suffix}": image}
            yield Case(f"lost {suffix}", "a.obj", files, GRAY, note)
    for name in ("t.png", "../../../t.png", "/etc/hostname", "D:\\t.png", "x\0y.png", "<UDIM>.png"):
        mtl = f"newmtl m\nKd 0 0 0\nmap_Kd {name}".encode()
        files = {"a.obj": obj("mtllib m.mtl"), "m.mtl": mtl}
        yield Case("lost missing", "a.obj", files, GRAY, "texture ")


def materials() -> Iterator[Case]:
    for text, color in (
        ("Kd 1 0 0", RED),
        ("Kd 0 1 0\nd 0.5", GREEN),
        ("Kd 0 0 0\nKe 0.9 0 0", RED),
        ("Ka 1 1 1\nKd 1.5 -1 0", RED),
        ("Kd 0 0 0\nmap_Ke t.png", RED),
        ("Kd 1 1 1", GRAY),
    ):
        mtl, image = f"newmtl m\n{text}\n".encode(), {"t.png": IMAGES[".png"]}
        for use in ("usemtl m", ""):
            files = {"a.obj": obj("mtllib m.mtl", use=use), "m.mtl": mtl, **image}
            yield Case("mtl color", "a.obj", files, color)
    two = b"newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0\n"
    files = {"a.obj": obj("mtllib m.mtl", use=""), "m.mtl": two}
    yield Case("mtl two", "a.obj", files, GRAY, "faces without usemtl have no material")
    yield Case("mtl none", "a.obj", {"a.obj": obj("mtllib m.mtl")}, GRAY, "m.mtl is missing")
    yield Case("mtl undefined", "a.obj", {"a.obj": obj()}, GRAY, "material 'm' is not defined")


def tiles() -> Iterator[Case]:
    for name in ("t.<UDIM>.png", "t.%(UDIM)d.png", "t.1001.png"):
        mtl = f"newmtl m\nKd 0 0 0\nmap_Kd {name}\n".encode()
        for place, color in (((0, 0), RED), ((1, 0), GREEN), ((0, 1), None)):
            files = {"a.obj": obj("mtllib m.mtl", place=place), "m.mtl": mtl}
            files |= {"t.1001.png": picture("PNG"), "t.1002.png": picture("PNG", GREEN)}
            missing = color is None and "UDIM" in name
            yield Case("udim", "a.obj", files, color, "t.1011.png is missing" if missing else "")


def plain() -> Iterator[Case]:
    formats: dict[str, tuple[bytes, tuple[int, int, int]]] = {
        "a.off": (off(), GRAY),
        "b.off": (off(keyword="COFF", columns=" 255 0 0 255"), RED),
        "a.obj": (obj(use=""), GRAY),
        "a.ply": (ply(False), GRAY),
        "b.ply": (ply(True), GRAY),
        "c.ply": (ply(False, colors=True), RED),
        "d.ply": (ply(True, colors=True), RED),
        "a.stl": (stl(False), GRAY),
        "b.stl": (stl(True), GRAY),
        "a.glb": (glb(), GRAY),
        "b.glb": (glb((255, 0, 0, 255)), RED),
        **{f"{kind}.glb": (glb(image=picture(kind)), RED) for kind in ("PNG", "JPEG")},
    }
    for name, (content, color) in formats.items():
        for path in (name, name.upper(), f"schöner Würfel {name}"):
            yield Case("plain", path, {path: content}, color)
    for end in (b"\r\n", b"\r"):
        yield Case("odd lines", "a.obj", {"a.obj": obj(use="").replace(b"\n", end)})
    yield Case("odd text", "a.obj", {"a.obj": obj(use="").decode().encode("utf-16")})
    for name in ("a.ply", "b.stl"):
        content = ply(True) if name == "a.ply" else stl(True)
        yield Case("odd end", name, {name: content + b"0123456789"}, GRAY, "bytes after the end")
    unused = np.vstack([BOX.vertices, [[np.nan] * 3]])
    for name, content in (("a.off", off(unused)), ("a.ply", ply(True, vertices=unused))):
        yield Case("odd vertex", name, {name: content}, GRAY, "that no face uses are not finite")
    tinted = off(columns=" 255 0 0")
    yield Case("odd colors", "a.off", {"a.off": tinted}, RED, "taken as their colors")


def broken() -> Iterator[Case]:
    bad = BOX.vertices.copy()
    bad[0, 0] = np.nan
    flat = BOX.vertices * 0
    whole = {"a.off": off(), "a.obj": obj(use=""), "a.ply": ply(True), "a.stl": stl(True)}
    whole |= {"a.glb": glb(), "b.ply": ply(False), "b.stl": stl(False)}
    any_file: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "empty_file"),
        "blank": (b"\n\n\0\0", "empty_file"),
        "html": (b"<!DOCTYPE html><html><body>404</body></html>", "html_page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs_pointer"),
        "gzip": (b"\x1f\x8b\x08\0" + bytes(range(60)), "unknown_format"),
    }
    for what, (content, reason) in any_file.items():
        for name in whole:
            yield Case(f"broken {what}", name, {name: content}, reason=reason)
    for name, content in whole.items():
        half = content[: len(content) // 2]
        if name != "a.obj":  # half of the text of an OBJ file is a smaller OBJ file, without faces
            yield Case("broken half", name, {name: half}, reason="truncated")
    for name, make in _WITH_VERTICES.items():
        yield Case("broken NaN", name, {name: make(bad)}, reason="not_finite")
        yield Case("broken flat", name, {name: make(flat)}, reason="no_area")
    yield Case("broken index", "a.obj", {"a.obj": b"v 0 0 0\nf 1 2 3\n"}, reason="bad_index")
    yield Case(
        "broken index", "a.off", {"a.off": off().rsplit(b" ", 1)[0] + b" 99\n"}, reason="bad_index"
    )
    yield Case("broken faces", "a.obj", {"a.obj": b"v 0 0 0\nv 1 0 0\n"}, reason="no_faces")


_WITH_VERTICES: dict[str, Callable[[np.ndarray], bytes]] = {
    "a.off": off,
    "a.ply": lambda vertices: ply(True, vertices=vertices),
    "b.ply": lambda vertices: ply(False, vertices=vertices),
    "a.stl": lambda vertices: stl(True, vertices),
}
FAMILIES = (textured, lost, materials, tiles, plain, broken)


def all_cases() -> list[Case]:
    """Return all cases, always in the same order."""
    return [case for family in FAMILIES for case in family()]


def few_cases(each: int) -> list[Case]:
    """Return about every n-th case of each family, at least its first."""
    return [case for family in FAMILIES for case in [*family()][::each]]
