"""Textures outside of 0..1 and under vertex colors: the CPU against a plain reference, and EGL."""

from itertools import product

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.egl import contexts
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.shapes import Material, Mesh, UnitMesh
from tests.render.shapes import wall

MODES = ("repeat", "clamp", "mirror")
PADDED = {"repeat": "wrap", "clamp": "edge", "mirror": "symmetric"}
REACH = 4  # textures on each side


def picture(height: int = 3, width: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def sampled(image: np.ndarray, uv: np.ndarray, wrap: tuple[str, str]) -> np.ndarray:
    """Linear light [n,3] at coordinates [n,2]: bilinear, in an image that numpy has continued."""
    height, width = image.shape[:2]
    light = shading.LINEAR_OF_BYTE.astype(np.float64)[image]
    light = np.pad(light, ((0, 0), (REACH * width,) * 2, (0, 0)), PADDED[wrap[0]])
    light = np.pad(light, ((REACH * height,) * 2, (0, 0), (0, 0)), PADDED[wrap[1]])
    x = uv[:, 0] * width - 0.5 + REACH * width
    y = (1 - uv[:, 1]) * height - 0.5 + REACH * height
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[:, None], (y - top)[:, None]
    rows = [light[top + k, left] * (1 - across) + light[top + k, left + 1] * across for k in (0, 1)]
    return rows[0] * (1 - down) + rows[1] * down


@pytest.mark.parametrize("wrap", list(product(MODES, MODES)))
@pytest.mark.parametrize("size", [(3, 5), (1, 1), (4, 1)])
def test_a_texture_continues_as_its_material_says(wrap, size):
    """At random places up to three textures away, and exactly on the borders of texels."""
    uv = np.float32([[-3, -3], [3.5, -3], [-3, 3.5]])
    material = Material(texture=picture(*size), wrap=wrap)
    mesh = Mesh(np.eye(3), [[0, 1, 2]], (material,), [0], uv=uv[None])
    rng = np.random.default_rng(1)
    weights = rng.dirichlet((1, 1, 1), 2_000).astype(np.float32)
    grid = np.array(list(product(range(14), range(14)))) / 13
    grid = grid[grid.sum(axis=1) <= 1]
    borders = np.column_stack([1 - grid.sum(axis=1), grid]).astype(np.float32)
    weights = np.concatenate([weights, borders, np.eye(3, dtype=np.float32)])
    hits, width = np.zeros(len(weights), np.int32), np.zeros(len(weights), np.float32)
    found = shading.base_colors(hits, weights, width, shading.make_surface(mesh))
    expected = sampled(material.texture, weights.astype(np.float64) @ uv.astype(np.float64), wrap)
    # A float32 coordinate may fall to the other side of where a texture repeats.
    close = np.abs(found - expected).max(axis=1) < 1e-3
    assert close.mean() > 0.95
    if "repeat" not in wrap:
        assert close.all()
    inside = np.ones(len(weights), bool)
    position = weights.astype(np.float64) @ uv.astype(np.float64)
    for axis in (0, 1):
        inside &= np.abs(position[:, axis] - np.rint(position[:, axis])) > 1e-5
    assert close[inside].all()


def test_one_texture_may_be_used_in_several_ways_and_is_packed_once():
    texture = picture()
    ways = [("repeat", "repeat"), ("clamp", "mirror"), ("repeat", "repeat")]
    materials = [Material(texture=texture, wrap=wrap) for wrap in ways]
    uv = np.float32([[[1.2, 0.4]] * 3] * 3)
    mesh = Mesh(np.eye(3), [[0, 1, 2]] * 3, materials, [0, 1, 2], uv=uv)
    surface = shading.make_surface(mesh)
    assert surface.face_texture.tolist() == [0, 1, 0]
    assert len(surface.texels) == sum(level.size for level in shading.mip_levels(texture))
    weights = np.full((3, 3), 1 / 3, np.float32)
    found = shading.base_colors(np.arange(3, dtype=np.int32), weights, weights[:, 0] * 0, surface)
    expected = [sampled(texture, np.array([[1.2, 0.4]]), wrap)[0] for wrap in ways]
    assert np.allclose(found, expected, atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-2)


@pytest.mark.parametrize("tinted", [False, True])
def test_vertex_colors_multiply_tinted_textures_alone(tinted):
    texture, rng = picture(), np.random.default_rng(2)
    colors = rng.random((3, 3))
    material = Material(texture=texture, tinted=tinted)
    plain = Mesh(
        np.eye(3),
        [[0, 1, 2]] * 2,
        (material,),
        [0, -1],
        uv=np.tile(np.float32([[0, 0], [1, 0], [0, 1]]), (2, 1, 1)),
        vertex_colors=shading.to_srgb(colors),
    )
    weights = rng.dirichlet((1, 1, 1), 50).astype(np.float32)
    surface, width = shading.make_surface(plain), np.zeros(50, np.float32)
    found = shading.base_colors(np.zeros(50, np.int32), weights, width, surface)
    image = sampled(texture, weights[:, 1:].astype(np.float64), material.wrap)
    own = weights @ colors
    assert np.allclose(found, image * own if tinted else image, atol=1e-4)
    bare = shading.base_colors(np.ones(50, np.int32), weights, width, surface)
    assert np.allclose(bare, own, atol=1e-5)


@pytest.mark.parametrize("wrap", [("repeat", "repeat"), ("clamp", "mirror"), ("mirror", "clamp")])
@pytest.mark.parametrize("tinted", [False, True])
def test_egl_draws_the_same_textures(wrap, tinted):
    square = wall(picture(16, 16))
    colors = np.array([[1, 0.2, 0.2], [0.3, 1, 0.3], [0.2, 0.2, 1], [1, 1, 1]])
    mesh = UnitMesh(
        square.vertices,
        square.faces,
        (Material(texture=picture(16, 16), wrap=wrap, tinted=tinted),),
        square.face_material,
        uv=3 * square.uv - 1,
        vertex_colors=colors,
    )
    config = RenderConfig(find_rig("ortho6"), size=96, layers=("albedo",), antialias=False)
    caster, camera = RayCaster(mesh), config.rig.cameras(96)
    cpu = draw_views(caster, camera, config)
    with Rasterizer(contexts.list_devices()[0]) as drawer:
        gpu = drawer.render(caster.surface, caster.faces, camera, config)
    both = (cpu.face_index >= 0) & (gpu.face_index >= 0)
    assert both.sum() > 1_000
    gap = np.abs(cpu.layers["albedo"].astype(int) - gpu.layers["albedo"])[both].max(axis=1)
    assert np.percentile(gap, 99) <= 2
