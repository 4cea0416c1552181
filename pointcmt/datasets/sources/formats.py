"""The file formats that are read, those that are not and how to convert them: one table each."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

# Shapes by suffix. What sources list, what readers accept and what `doctor` prints.
MESHES = {
    ".off": "OFF",
    ".obj": "Wavefront OBJ",
    ".ply": "PLY",
    ".stl": "STL",
    ".glb": "binary glTF 2.0",
    ".gltf": "glTF 2.0",
}
CLOUDS = {
    ".ply": "PLY",
    ".pcd": "PCD",
    ".npy": "NumPy array",
    ".npz": "NumPy archive",
    **dict.fromkeys((".xyz", ".txt", ".asc", ".csv", ".pts", ".xyzrgb", ".xyzn"), "text"),
}
# By Pillow's name, with the usual suffixes. Pillow decodes these itself: EPS, for example, would
# start another program.
IMAGES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "TGA": (".tga",),
    "WEBP": (".webp",),
    "PCX": (".pcx",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "DDS": (".dds",),
    "SGI": (".sgi", ".rgb"),
}
# Images that are not read, by suffix: the name and what converts them.
_MAGICK = "ImageMagick (`magick in{0} out.png`)"
UNREAD_IMAGES = {
    ".exr": ("OpenEXR", _MAGICK),
    ".hdr": ("Radiance HDR", _MAGICK),
    ".psd": ("Photoshop", _MAGICK),
    ".jp2": ("JPEG 2000", _MAGICK),
    ".heic": ("HEIC", _MAGICK),
    ".avif": ("AVIF", _MAGICK),
    ".svg": ("SVG", "Inkscape (`inkscape in{0} -o out.png`)"),
    ".ktx": ("KTX", "KTX-Software (`ktx2ktx2 in{0}`, then `ktx extract in.ktx2 out.png`)"),
    ".ktx2": ("KTX 2", "KTX-Software (`ktx extract in{0} out.png`)"),
    ".basis": ("Basis Universal", "basisu (`basisu -unpack in{0}`)"),
    ".tx": ("OpenImageIO", "OpenImageIO (`oiiotool in{0} -o out.png`)"),
    ".xcf": ("GIMP", "GIMP (File > Export As)"),
    ".vtf": ("Valve", "VTFEdit"),
    ".dng": ("raw photo", "a raw converter such as darktable (`darktable-cli in{0} out.png`)"),
}
_IMAGE_MAGIC = {
    b"\x76\x2f\x31\x01": ".exr",
    b"#?RADIANCE": ".hdr",
    b"#?RGBE": ".hdr",
    b"8BPS": ".psd",
    b"\xabKTX 11": ".ktx",
    b"\xabKTX 20": ".ktx2",
    b"\0\0\0\x0cjP": ".jp2",
    b"gimp xcf": ".xcf",
}
# Shapes that are not read, by suffix: how to convert them.
_BLENDER = "in Blender, import it and export glTF 2.0 (.glb)"
_ASSIMP = "`assimp export in{0} out.obj` (Assimp)"
_CAD = "`FreeCAD`: open it, select the body, and export .stl"
_MESHLAB = "in MeshLab, import it and export .ply"
_MESHIO = "`meshio convert in{0} out.ply` (pip install meshio)"
_EXPORT = "export it as .obj or .stl from"
_PDAL = "`pdal translate in{0} out.ply` (PDAL), then --dataset clouds"
_UNPACK = "unpack it"
UNREAD_SHAPES = {
    **dict.fromkeys((".fbx", ".usd", ".usda", ".usdc", ".usdz", ".abc"), _BLENDER),
    ".blend": "open it in Blender and export glTF 2.0 (.glb)",
    **dict.fromkeys((".dae", ".3ds", ".lwo", ".lws", ".ase", ".md2", ".ms3d", ".b3d"), _ASSIMP),
    **dict.fromkeys((".x", ".ac", ".amf"), _ASSIMP),
    ".3mf": "`trimesh.load('in.3mf').export('out.glb')` (pip install 'trimesh[easy]')",
    **dict.fromkeys((".step", ".stp", ".iges", ".igs", ".brep", ".fcstd"), _CAD),
    **dict.fromkeys((".x3d", ".x3dv", ".wrl", ".vrml", ".ctm"), _MESHLAB),
    **dict.fromkeys((".vtk", ".vtp", ".vtu", ".msh", ".mesh"), _MESHIO),
    ".drc": "`draco_decoder -i in.drc -o out.ply` (Draco)",
    ".max": f"{_EXPORT} 3ds Max",
    **dict.fromkeys((".ma", ".mb"), f"{_EXPORT} Maya"),
    ".c4d": f"{_EXPORT} Cinema 4D",
    ".skp": f"{_EXPORT} SketchUp",
    ".3dm": f"{_EXPORT} Rhino",
    **dict.fromkeys((".sldprt", ".ipt", ".catpart", ".prt", ".jt"), f"{_EXPORT} its CAD program"),
    **dict.fromkeys((".las", ".laz", ".e57"), _PDAL),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz"), _UNPACK),
}
_OTHER_KIND = {"folder": "clouds", "clouds": "folder"}
# Files that belong to models or tell about them: no reason for a note.
_MODEL_PARTS = (".mtl", ".bin")
_WORDS = (
    *(".txt", ".md", ".rst", ".pdf", ".html", ".htm", ".log", ".csv", ".tsv", ".json", ".jsonl"),
    *(".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".config", ".pbtxt", ".sdf", ".urdf"),
    *(".license", ".md5", ".sha1", ".sha256", ".bib"),
)
_DOCUMENTS = ("readme", "license", "licence", "copying", "notice", "authors", "citation", "changes")
_COMPANIONS = {
    *_MODEL_PARTS,
    *_WORDS,
    *UNREAD_IMAGES,
    *(s for each in IMAGES.values() for s in each),
}


def suffixes(dataset: str) -> tuple[str, ...]:
    """Return the suffixes of the shapes that the datasets "folder" and "clouds" list."""
    return tuple(MESHES if dataset == "folder" else CLOUDS)


def unread(dataset: str, paths: Iterable[str]) -> dict[str, int]:
    """Count the files of shapes that are not read, by suffix, the most common first.

    paths: files that are not listed as shapes. Includes shapes of the other kind, such as clouds
    in a folder of meshes, if their suffix leaves no doubt.
    """
    other = set(suffixes(_OTHER_KIND[dataset])) - set(suffixes(dataset)) - set(_WORDS)
    counts = Counter(_suffix(path) for path in paths)
    found = {s: n for s, n in counts.items() if s in UNREAD_SHAPES or s in other - {".npy", ".npz"}}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def unknown(dataset: str, paths: Iterable[str]) -> dict[str, int]:
    """Count the files that are neither shapes nor belong to models, by suffix.

    paths: files that are not listed as shapes.
    """
    companions = _COMPANIONS - set(suffixes(dataset))
    paths = list(paths)
    named = set(unread(dataset, paths))
    rest = Counter(
        _suffix(path) or "no suffix"
        for path in paths
        if _suffix(path) not in companions | named and not _is_document(path)
    )
    return dict(sorted(rest.items(), key=lambda item: (-item[1], item[0])))


def kind_of_unread(dataset: str, suffix: str) -> str:
    """Return the kind of note for files of shapes that are not read: how to use them.

    >>> kind_of_unread("folder", ".fbx")
    '.fbx files are not read: in Blender, import it and export glTF 2.0 (.glb)'
    """
    how = UNREAD_SHAPES.get(suffix, f"use --dataset {_OTHER_KIND[dataset]}")
    return f"{suffix} files are not read: {how.format(suffix)}"


def image_advice(name: str, data: bytes) -> str:
    """Say in which format an image is that is not read, and how to convert it; "" if unknown.

    data: the beginning of the file, which counts more than its name.
    """
    suffix = next((s for magic, s in _IMAGE_MAGIC.items() if data.startswith(magic)), "")
    if not suffix and data[4:8] == b"ftyp":
        suffix = ".avif" if data[8:11] == b"avi" else ".heic"
    if not suffix and (data.strip() and _suffix(name) in UNREAD_IMAGES):
        suffix = _suffix(name)
    if not suffix:
        return ""
    kind, how = UNREAD_IMAGES[suffix]
    return f"{kind} images are not read; convert it to PNG with {how.format(suffix)}"


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _is_document(path: str) -> bool:
    return PurePosixPath(path).name.lower().startswith(_DOCUMENTS)
