"""Materials of glTF against its specification: what is reflected, plus what is emitted."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pointcmt.shapes import Material, Mesh
from tests.render.load.readers.glb_files import (
    BYTE,
    FLOAT,
    SHORT,
    SIGNED_BYTE,
    SIGNED_SHORT,
    Builder,
    picture,
)

GRAY = Material().color
UV = np.array([[0, 0], [1, 0], [0, 0.25]])


def linear(value: Any) -> Any:
    value = np.asarray(value, np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb(value: Any) -> Any:
    value = np.clip(np.asarray(value, np.float64), 0, 1)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)


def encoded(data: np.ndarray, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(data).save(out, kind, **more)
    return out.getvalue()


class Textured(Builder):
    """A triangle with a material; its textures are added by `texture`."""

    def __init__(self, uv: Any = UV, sets: tuple[int, ...] = (0,), **attributes: Any) -> None:
        super().__init__()
        found = {f"TEXCOORD_{number}": self.accessor(uv) for number in sets}
        found |= {name: self.accessor(values) for name, values in attributes.items()}
        self.material: dict[str, Any] = {"name": "m", "pbrMetallicRoughness": {}}
        self.tree |= {"materials": [self.material], "textures": [], "images": [], "samplers": []}
        self.node(mesh=self.mesh(self.primitive(attributes=found, material=0)))

    def image(self, data: bytes) -> int:
        self.tree["images"].append({"bufferView": self.view(data)})
        return len(self.tree["images"]) - 1

    def texture(self, data: bytes | None = None, **fields: Any) -> dict[str, Any]:
        if data is not None:
            fields["source"] = self.image(data)
        self.tree["textures"].append(fields)
        return {"index": len(self.tree["textures"]) - 1}

    def base(self, texture: dict[str, Any] | None = None, *factor: float) -> "Textured":
        model = self.material["pbrMetallicRoughness"]
        model |= {"baseColorTexture": texture} if texture else {}
        model |= {"baseColorFactor": [*factor, 1][:4]} if factor else {}
        return self


def texel(mesh: Mesh) -> list[int]:
    """The only color of the only texture."""
    image = mesh.materials[0].texture
    assert image is not None
    assert (image == image[0, 0]).all()
    return image[0, 0].tolist()


def as_bytes(light: Any) -> list[int]:
    return np.rint(255 * srgb(light)).astype(int).tolist()


# Images


def test_webp_is_read_with_and_without_a_fallback():
    webp = encoded(np.full((2, 2, 3), (200, 10, 0), np.uint8), "WEBP", lossless=True)
    build = Textured()
    only = {"EXT_texture_webp": {"source": build.image(webp)}}
    assert texel(build.base(build.texture(extensions=only)).read()) == [200, 10, 0]
    build = Textured()
    better = {"EXT_texture_webp": {"source": build.image(webp)}}
    texture = build.texture(picture((1, 2, 3)), extensions=better)
    assert texel(build.base(texture).read()) == [200, 10, 0]
    damaged = {"EXT_texture_webp": {"source": build.image(webp[:20])}}
    build.base(build.texture(picture((1, 2, 3)), extensions=damaged))
    mesh = build.read()
    assert (texel(mesh), mesh.notes) == ([1, 2, 3], ())


@pytest.mark.parametrize("name", ["KHR_texture_basisu", "EXT_texture_avif"])
def test_images_of_unsupported_kinds_are_named_unless_there_is_a_fallback(name):
    build = Textured()
    only = {name: {"source": build.image(b"\xabKTX 20\xbb\r\n")}}
    mesh = build.base(build.texture(extensions=only), 0.5, 0.25, 0).read()
    assert mesh.materials[0].texture is None
    assert mesh.materials[0].color == pytest.approx(srgb([0.5, 0.25, 0]))
    what = f"images of {name} are not supported: save it as PNG or JPEG"
    assert mesh.notes == (f"texture of material 'm': {what}",)
    mesh = build.base(build.texture(picture((1, 2, 3)), extensions=only), 1, 1, 1).read()
    assert (texel(mesh), mesh.notes) == ([1, 2, 3], ())


@pytest.mark.parametrize(("factor", "shown"), [((0, 0, 0), GRAY), ((0.5, 0, 0), None)])
@pytest.mark.parametrize("emitted", [False, True])
def test_no_shape_is_black_because_a_texture_is_lost(factor, shown, emitted):
    build = Textured(COLOR_0=np.full((3, 3), 0.5))
    build.base(None if emitted else build.texture(b"no image"), *factor)
    if emitted:
        build.material |= {"emissiveFactor": [1, 1, 1], "emissiveTexture": build.texture(b"")}
    mesh = build.read()
    expected = shown or tuple(srgb(factor))
    assert mesh.materials[0].color == pytest.approx(expected)
    assert mesh.vertex_colors is not None
    assert np.allclose(mesh.vertex_colors, srgb(0.5 * linear(expected)), atol=1e-6)
    assert len(mesh.notes) == 1


def test_a_material_that_is_meant_to_be_black_stays_black():
    assert Textured().base(None, 0, 0, 0).read().materials[0].color == (0, 0, 0)


# Coordinates


@pytest.mark.parametrize(
    ("kind", "white"),
    [(FLOAT, 1), (BYTE, 255), (SHORT, 65535), (SIGNED_BYTE, 127), (SIGNED_SHORT, 32767)],
)
@pytest.mark.parametrize("normalized", [True, False])
def test_coordinates_of_all_kinds(kind, white, normalized):
    stored = np.array([[0, 1], [1, 1], [1, 0]]) * (white if normalized else 1)
    build = Textured()
    attributes = build.tree["meshes"][0]["primitives"][0]["attributes"]
    more = {"normalized": True} if normalized and kind != FLOAT else {}
    attributes["TEXCOORD_0"] = build.accessor(stored, kind, **more)
    mesh = build.base(build.texture(picture((1, 2, 3)))).read()
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 0], [1, 0], [1, 1]]]


@pytest.mark.parametrize("sets", [(0, 1), (1,), (3,), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)])
@pytest.mark.parametrize("override", [False, True])
def test_any_set_of_coordinates_can_be_used(sets, override):
    build = Textured(sets=sets)
    used = sets[-1]
    attributes = build.tree["meshes"][0]["primitives"][0]["attributes"]
    attributes[f"TEXCOORD_{used}"] = build.accessor(UV * 0.5)
    texture = build.texture(picture((1, 2, 3))) | {"texCoord": 99 if override else used}
    if override:
        texture["extensions"] = {"KHR_texture_transform": {"texCoord": used}}
    mesh = build.base(texture).read()
    assert mesh.uv is not None
    assert mesh.uv.tolist() == [[[0, 1], [0.5, 1], [0, 0.875]]]


def test_a_texture_without_its_coordinates_is_noted():
    build = Textured(sets=(0,))
    mesh = build.base(build.texture(picture((1, 2, 3))) | {"texCoord": 2}, 0, 0, 0).read()
    what = "its faces have no texture coordinates (TEXCOORD_2)"
    assert mesh.notes == (f"texture of material 'm': {what}",)
    assert mesh.materials[0].color == GRAY


@pytest.mark.parametrize("rotation", [0, 0.3, np.pi / 2, -2])
def test_transforms_scale_then_rotate_then_move(rotation):
    """Counterclockwise as one sees the image, whose v points down in the file."""
    build = Textured()
    move, scale = np.array([0.5, 0.25]), np.array([2, -3])
    transform = {"offset": move.tolist(), "scale": scale.tolist(), "rotation": rotation}
    texture = build.texture(picture((1, 2, 3)))
    mesh = build.base(texture | {"extensions": {"KHR_texture_transform": transform}}).read()
    assert mesh.uv is not None
    for corner, found in zip(UV * scale, mesh.uv[0], strict=True):
        x, y = corner * (1, -1)  # seen with y up, as angles are
        turned = (x + 1j * y) * np.exp(1j * rotation)
        u, v = np.array([turned.real, -turned.imag]) + move
        assert found == pytest.approx([u, 1 - v], abs=1e-6)


def test_the_transform_of_the_specifications_example_uses_the_lower_left_quadrant():
    build = Textured(uv=[[0, 0], [1, 0], [1, 1]])
    transform = {"offset": [0, 1], "rotation": 1.57079632679, "scale": [0.5, 0.5]}
    texture = build.texture(picture((1, 2, 3)))
    mesh = build.base(texture | {"extensions": {"KHR_texture_transform": transform}}).read()
    assert mesh.uv is not None
    assert np.allclose(mesh.uv[0], [[0, 0], [0, 0.5], [0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ("sampler", "wrap"),
    [
        (None, ("repeat", "repeat")),
        ({}, ("repeat", "repeat")),
        ({"wrapS": 33071}, ("clamp", "repeat")),
        ({"wrapS": 10497, "wrapT": 33648}, ("repeat", "mirror")),
        ({"wrapS": 33648, "wrapT": 33071}, ("mirror", "clamp")),
        ({"wrapS": 7, "wrapT": "x"}, ("repeat", "repeat")),
    ],
)
def test_samplers_say_how_a_texture_continues(sampler, wrap):
    build = Textured()
    build.tree["samplers"] = [] if sampler is None else [sampler]
    used = {} if sampler is None else {"sampler": 0}
    assert build.base(build.texture(picture((1, 2, 3)), **used)).read().materials[0].wrap == wrap


# Colors


def test_vertex_colors_multiply_textures_only_of_their_own_primitives():
    build = Textured(COLOR_0=[[1, 0, 0, 1], [0, 0.5, 0, 0.1], [1, 1, 1, 1]])
    build.base(build.texture(picture((255, 128, 0))), 0.5, 1, 1)
    more = build.primitive(attributes={"TEXCOORD_0": build.accessor(UV)}, material=0)
    build.tree["meshes"][0]["primitives"].append(more)
    mesh = build.read()
    assert mesh.face_material is not None
    first, second = (mesh.materials[index] for index in mesh.face_material)
    assert (first.tinted, second.tinted) == (True, False)
    assert first.texture is second.texture
    assert first.texture is not None
    assert first.texture[0, 0].tolist() == as_bytes([0.5, linear(128 / 255), 0])
    assert mesh.vertex_colors is not None
    assert np.allclose(mesh.vertex_colors[:3], srgb([[1, 0, 0], [0, 0.5, 0], [1, 1, 1]]))


def test_emission_is_added_as_light():
    build = Textured().base(None, 0.1, 0.2, 0.3)
    build.material["emissiveFactor"] = [0.5, 0, 0.9]
    assert build.read().materials[0].color == pytest.approx(srgb([0.6, 0.2, 1]))
    build.base(build.texture(picture((128, 128, 128))))
    gray = linear(128 / 255)
    assert texel(build.read()) == as_bytes([0.1 * gray + 0.5, 0.2 * gray, 0.3 * gray + 0.9])


def test_emission_is_not_multiplied_by_the_colors_of_vertices():
    build = Textured(COLOR_0=np.full((3, 3), 0.5)).base(None, 0.2, 0.2, 0.2)
    build.material["emissiveFactor"] = [0.5, 0, 0]
    mesh = build.read()
    assert mesh.vertex_colors is not None
    assert np.allclose(mesh.vertex_colors, srgb([0.6, 0.1, 0.1]))
    assert mesh.notes == ()
    mesh = build.base(build.texture(picture((9, 9, 9)))).read()  # drawn as one product
    assert "the colors of vertices multiply what it emits, too" in mesh.notes[0]


def test_an_emitted_texture_over_black_is_what_is_seen():
    build = Textured().base(None, 0, 0, 0)
    build.material |= {
        "emissiveFactor": [1, 1, 0.5],
        "emissiveTexture": build.texture(picture((200, 100, 50))),
    }
    expected = linear(np.array([200, 100, 50]) / 255) * (1, 1, 0.5)
    assert texel(build.read()) == as_bytes(expected)
    build.base(None, 0.5, 0, 0)
    assert texel(build.read()) == as_bytes(np.add(expected, (0.5, 0, 0)))
    build.material["emissiveFactor"] = [0, 0, 0]  # the default
    assert build.read().materials[0].texture is None


@pytest.mark.parametrize("sizes", [((8, 4), (2, 2)), ((2, 2), (8, 4)), ((1, 8), (8, 1))])
def test_two_textures_are_added_at_the_size_of_the_larger(sizes):
    build, rng = Textured(), np.random.default_rng(0)
    base, emitted = (rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes)
    build.base(build.texture(encoded(base)), 0.5, 1, 1)
    build.material |= {
        "emissiveTexture": build.texture(encoded(emitted)),
        "emissiveFactor": [0.25, 0.25, 1],
    }
    size = np.max(sizes, axis=0)
    large = [
        i.repeat(size[0] // len(i), 0).repeat(size[1] // i.shape[1], 1) for i in (base, emitted)
    ]
    light = linear(large[0] / 255) * (0.5, 1, 1) + linear(large[1] / 255) * (0.25, 0.25, 1)
    found = build.read().materials[0].texture
    assert found is not None
    assert np.array_equal(found, np.array(as_bytes(light)))


def test_two_textures_in_different_places_cannot_both_be_seen():
    build = Textured(sets=(0, 1)).base(None, 1, 1, 1)
    build.base(build.texture(picture((50, 0, 0))))
    emitted = build.texture(picture((0, 60, 0))) | {"texCoord": 1}
    build.material |= {"emissiveFactor": [1, 1, 1], "emissiveTexture": emitted}
    mesh = build.read()
    assert texel(mesh) == [50, 0, 0]
    what = "the emitted one is placed differently and is ignored"
    assert mesh.notes == (f"texture of material 'm': {what}",)
    mesh = build.base(None, 0, 0, 0).read()  # of the base color, nothing is seen
    assert (texel(mesh), mesh.notes) == ([0, 60, 0], ())


@pytest.mark.parametrize(("strength", "expected"), [(0.5, [0.2, 0.05, 0]), (20, [1, 0.25, 0])])
def test_the_strength_of_emission_keeps_its_hue(strength, expected):
    build = Textured().base(None, 0, 0, 0)
    build.material["emissiveFactor"] = [0.4, 0.1, 0]
    build.material["extensions"] = {
        "KHR_materials_emissive_strength": {"emissiveStrength": strength}
    }
    assert build.read().materials[0].color == pytest.approx(srgb(expected))


def test_unlit_materials_show_their_base_color_alone():
    build = Textured().base(None, 0.25, 0.5, 0.75)
    build.material |= {"emissiveFactor": [1, 1, 1], "extensions": {"KHR_materials_unlit": {}}}
    assert build.read().materials[0].color == pytest.approx(srgb([0.25, 0.5, 0.75]))


def test_the_diffuse_color_of_specular_glossiness_is_used():
    build = Textured().base(None, 1, 0, 0)
    texture = build.texture(picture((100, 100, 100)))
    model = {"diffuseFactor": [0.5, 0.25, 1, 1], "diffuseTexture": texture}
    build.material["extensions"] = {"KHR_materials_pbrSpecularGlossiness": model}
    assert texel(build.read()) == as_bytes(linear(100 / 255) * np.array([0.5, 0.25, 1]))


@pytest.mark.parametrize(
    ("alpha", "cutoff", "kept"),
    [(127, None, False), (128, None, True), (51, 0.2, True), (50, 0.2, False)],
)
def test_cutouts_are_drawn_in_the_color_of_their_material(alpha, cutoff, kept):
    build = Textured()
    build.base(build.texture(picture((10, 20, 30, alpha))), 1, 1, 1)
    build.material["alphaMode"] = "MASK"
    if cutoff is not None:
        build.material["alphaCutoff"] = cutoff
    mesh = build.read()
    assert texel(mesh) == ([10, 20, 30] if kept else [255, 255, 255])
    assert bool(mesh.notes) is not kept


@pytest.mark.parametrize(("mode", "opacity"), [("OPAQUE", 1), ("BLEND", 0.4), ("MASK", 0)])
def test_the_opacity_of_each_alpha_mode(mode, opacity):
    build = Textured().base(None, 1, 1, 1, 0.4)
    build.material["alphaMode"] = mode
    assert build.read().materials[0].opacity == pytest.approx(opacity)


@pytest.mark.parametrize(
    "change",
    [
        {"emissiveTexture": {"index": 5}, "emissiveFactor": [1, 1, 1]},
        {"emissiveTexture": {}, "emissiveFactor": [1, 1, 1]},
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": -1}}},
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, "texCoord": "0"}}},
        {"pbrMetallicRoughness": {"baseColorTexture": 3}},
    ],
)
def test_textures_that_make_no_sense_are_noted(change):
    build = Textured()
    build.texture(picture((1, 2, 3)))
    build.material |= change
    mesh = build.read()
    assert mesh.materials[0].texture is None
    assert len(mesh.notes) == 1
