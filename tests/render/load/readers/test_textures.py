"""Memory of images is estimated from their headers, and each image is decoded once."""

import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from pointcmt.render.load.meshes import load_mesh
from pointcmt.render.load.readers import textures
from pointcmt.render.load.readers.sidecars import NotRead
from pointcmt.render.load.readers.textures import MAX_DECODING, Textures, _decoding_bytes, decode
from tests.render.load.readers.glb_files import Builder, picture

MIB = 1 << 20
GRAY, RGB, RGBA = 0, 2, 6  # color types of PNG
pytestmark = pytest.mark.timeout(60)


def png(width: int, height: int, kind: int, bits: int = 8, *, header_only: bool = False) -> bytes:
    """A black PNG; header_only: without most of its pixels."""
    row = bytes(1 + width * {GRAY: 1, RGB: 3, RGBA: 4}[kind] * bits // 8)
    pixels = bytes(9) if header_only else row * height
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(pixels, 1)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def textured(*views: bytes, factors: list[list[float]], images: list[int]) -> Builder:
    """A triangle for each factor, with the corresponding entry of the list of images."""
    build = Builder()
    uv = {"TEXCOORD_0": build.accessor([[0, 0], [1, 0], [0, 1]])}
    places = [build.view(data) for data in views]
    parts = [build.primitive(attributes=uv, material=index) for index in range(len(factors))]
    build.node(mesh=build.mesh(*parts))
    build.tree["images"] = [{"bufferView": places[image]} for image in images]
    build.tree["textures"] = [{"source": index} for index in range(len(images))]
    build.tree["materials"] = [
        {
            "name": f"m{index}",
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": index % len(images)},
                "baseColorFactor": factor,
            },
        }
        for index, factor in enumerate(factors)
    ]
    return build


# Memory of one image


@pytest.mark.parametrize(
    "image",
    [
        png(9_000, 9_000, RGBA, header_only=True),
        png(9_000, 9_000, RGBA, 16, header_only=True),
        png(80_000_000, 1, GRAY, header_only=True),
        png(1, 80_000_000, GRAY, header_only=True),
        png(40_000_000, 1, RGB, 16, header_only=True),
        png(1_000_000_000, 1, GRAY, header_only=True),
    ],
    ids=["square", "16 bits", "wide", "tall", "wide, 16 bits", "wider than Pillow allows"],
)
def test_images_that_would_take_too_much_become_notes(tmp_path, image):
    assert len(image) < 100
    (tmp_path / "t.png").write_bytes(image)
    (tmp_path / "m.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    (tmp_path / "mesh.obj").write_text(
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl m\nf 1/1 2/1 3/1\n"
    )
    (tmp_path / "mesh.glb").write_bytes(textured(image, factors=[[1, 1, 1, 1]], images=[0]).bytes())
    for name in ("mesh.obj", "mesh.glb"):
        mesh = load_mesh(tmp_path / name)
        assert mesh.materials[0].texture is None
        assert len(mesh.notes) == 1
        assert "MiB decoded, more than the maximum of 592" in mesh.notes[0] or (
            "cannot be decoded" in mesh.notes[0]  # Pillow knows no size of this width
        )


@pytest.mark.parametrize("size", [(16_384, 16_384), (16_384, 8_192), (60_000, 3_000)])
def test_jpeg_images_of_any_size_are_read_reduced(size):
    """More pixels than Pillow opens: half red and half blue, decoded at an eighth."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, *size))
    pixels = decode(saved(image, "JPEG"), "t.jpg")
    height = round(2048 * size[1] / size[0])
    assert abs(pixels.shape[0] - height) <= 1
    assert pixels.shape[1:] == (2048, 3)
    assert np.abs(pixels[:, :1000].astype(int) - (255, 0, 0)).max() <= 3
    assert np.abs(pixels[:, -1000:].astype(int) - (0, 0, 255)).max() <= 3


def test_large_images_of_other_formats_are_read_if_they_fit():
    assert decode(png(12_000, 9_000, RGB), "t.png").shape == (1536, 2048, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_images_of_several_scans_count_with_their_coefficients(progressive):
    """Headers alone: what is charged is 2 bytes for each sample of all scans, or nothing."""
    image, paid = Image.new("RGB", (4096, 4096)), []
    data = saved(image, "JPEG", progressive=progressive)  # chroma at half the resolution
    decode(data, "t.jpg", paid.append)
    coefficients = 2 * 4096 * 4096 * 3 // 2
    assert (paid[1] > coefficients) is progressive


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("t.exr", b"\x76\x2f\x31\x01", "OpenEXR images are not read; convert it to PNG with"),
        ("t.png", b"\x76\x2f\x31\x01", "OpenEXR images are not read"),
        ("t.hdr", b"#?RADIANCE\n", "Radiance HDR images are not read"),
        ("t.ktx2", b"\xabKTX 20\xbb\r\n\x1a\n", "(`ktx extract in.ktx2 out.png`)"),
        ("t.psd", b"8BPS\0\1", "Photoshop images are not read"),
        ("t.basis", b"sB\x13\0", "basisu (`basisu -unpack in.basis`)"),
        ("t.tx", b"unknown", "(`oiiotool in.tx -o out.png`)"),
        ("t.heic", b"\0\0\0\x18ftypheic", "HEIC images are not read"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_converts_them(name, start, says):
    with pytest.raises(NotRead) as reason:
        decode(start + bytes(100), name)
    assert str(reason.value).startswith(f"texture {name} cannot be decoded: ")
    assert says in str(reason.value)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_images_of_8192_pixels_are_within_the_limit(mode):
    image = Image.new(mode, (8192, 8192))
    if mode == "P":
        image.info["transparency"] = 0
    assert _decoding_bytes(image) <= MAX_DECODING


def tiled(size: int, tile: int) -> bytes:
    """A black, deflated, gray TIFF of one tile."""
    data = zlib.compress(bytes(size * size))
    tags = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile}
    tags |= {324: 8, 325: len(data)}
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    return head + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


def test_tiles_larger_than_their_image_are_counted():
    assert decode(tiled(64, 64), "t").shape == (64, 64, 3)
    with pytest.raises(NotRead, match="needs 1024 MiB decoded"):
        decode(tiled(64, 1 << 15), "t")


MEASURE = """
import json, os, sys
from pathlib import Path
from PIL import Image
from pointcmt.render.load.readers.textures import decode
from tests.render.memory import peak, reset_peak
Image.init()
for small, path in zip(*2 * [map(Path, sys.argv[1:])]):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    decode(small.read_bytes(), small.name)  # libraries take memory when they are first used
    data, paid = path.read_bytes(), []
    before = reset_peak()
    decode(data, path.name, paid.append)
    print(json.dumps([path.name, sum(paid), peak() - before]), flush=True)
    os._exit(0)
"""


def images_of_every_kind(width, height):
    """Encoded black images by file name."""
    gray = Image.fromarray(np.zeros((height, width), np.uint8))
    rgb = gray.convert("RGB")
    clear = rgb.convert("RGBA")
    clear.putalpha(gray)
    wide = Image.fromarray(np.zeros((height, width), np.uint16))
    floats = Image.fromarray(np.zeros((height, width), np.float32))
    one_strip = {"compression": "tiff_deflate", "strip_size": 1 << 30}
    return {
        "1.png": saved(gray.convert("1"), "PNG"),
        "gray.png": saved(gray, "PNG"),
        "palette.png": saved(gray.convert("P"), "PNG"),
        "clear-palette.png": saved(gray.convert("P"), "PNG", transparency=0),
        "gray-alpha.png": saved(clear.convert("LA"), "PNG"),
        "rgb.png": saved(rgb, "PNG"),
        "rgba.png": saved(clear, "PNG"),
        "rgb16.png": png(width, height, RGB, 16),
        "rgb16-wide.png": png(width * height >> 1, 1, RGB, 16),
        "rgb16-tall.png": png(1, width * height >> 1, RGB, 16),
        "gray16.png": saved(wide, "PNG"),
        "gray16-tall.png": png(1, width * height >> 1, GRAY, 16),
        "gray16.tiff": saved(wide, "TIFF", **one_strip),
        "float.tiff": saved(floats, "TIFF", **one_strip),
        "cmyk.tiff": saved(rgb.convert("CMYK"), "TIFF", **one_strip),
        "rgb.jpg": saved(rgb, "JPEG"),
        "rgb-progressive.jpg": saved(rgb, "JPEG", progressive=True, subsampling=0),
        "rgba.webp": saved(clear, "WEBP", quality=0, method=0),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_image_takes_more_memory_than_estimated(tmp_path):
    small, large = images_of_every_kind(64, 64), images_of_every_kind(16_000, 256)
    paths = []
    for name, data in large.items():
        for path, content in ((tmp_path / f"small-{name}", small[name]), (tmp_path / name, data)):
            path.write_bytes(content)
            paths.append(path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    measured = [json.loads(line) for line in run.stdout.splitlines()]
    assert [name for name, _, _ in measured] == list(large)
    over = {name: taken - paid for name, paid, taken in measured if taken > paid + 4 * MIB}
    assert over == {}
    assert max(taken for _, _, taken in measured) > 32 * MIB  # something was measured


# Memory of all images of a model


def test_each_image_is_read_once_even_if_it_fails():
    read: list[bytes] = []

    def reading(data: bytes) -> bytes:
        read.append(data)
        return data

    kept = Textures()
    good, bad = picture((1, 2, 3)), b"no image"
    for _ in range(3):
        assert kept.image("good", "t", lambda: reading(good)) is kept.image("good", "t", bytes)
        with pytest.raises(NotRead, match="texture t cannot be decoded"):
            kept.image("bad", "t", lambda: reading(bad))
    assert read == [good, bad]


def test_many_names_of_one_image_are_one_texture():
    build = textured(picture((9, 8, 7)), factors=[[1, 1, 1, 1]] * 20, images=[0] * 20)
    first, *others = [material.texture for material in build.read().materials]
    assert first is not None
    assert all(other is first for other in others)


def test_equal_tints_are_one_texture():
    build = textured(
        picture((255, 255, 255, 9)), factors=[[0, 1, 1, 1], [1, 0, 1, 1]] * 5, images=[0]
    )
    found = [material.texture for material in build.read().materials]
    assert [texture[0, 0].tolist() for texture in found[:2] if texture is not None] == [
        [0, 255, 255],
        [255, 0, 255],
    ]
    assert len({id(texture) for texture in found}) == 2


def test_tinted_copies_count_as_textures(monkeypatch):
    monkeypatch.setattr(textures, "MAX_KEPT", MIB)
    factors = [[0.01 * index, 1, 1, 1] for index in range(10)]
    build = textured(png(256, 256, RGB), factors=factors, images=[0])  # 192 KiB
    mesh = build.read()
    assert [material.texture is not None for material in mesh.materials] == [True] * 4 + [False] * 6
    assert mesh.notes[0] == "texture of material 'm4': textures beyond 1 MiB in total are ignored"
    assert len(mesh.notes) == 6


@pytest.mark.parametrize("image", [png(1024, 64, RGB), b"x" * 256 * 1024])
def test_decoded_images_are_counted_even_if_reduced_or_broken(monkeypatch, image):
    monkeypatch.setattr(textures, "MAX_DECODED", MIB)
    monkeypatch.setattr(textures, "MAX_TEXTURE", 8)
    build = textured(*[image] * 10, factors=[[1, 1, 1, 1]] * 10, images=list(range(10)))
    notes = build.read().notes
    assert sum("beyond 1 MiB in total, decoded, are ignored" in note for note in notes) >= 6
