"""The EGL renderer: the same images as the CPU renderer; errors and lost contexts of drivers."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.datasets.sources import toy
from pointcmt.errors import DependencyError, PointcmtError, Reason, ShapeRefused
from pointcmt.geometry import normalize
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.egl import contexts, rasterizer
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.jobs import backends
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Material, UnitMesh
from tests.render import shapes

SMALL = RenderConfig(find_rig("ortho6"), size=32)


@pytest.fixture(scope="module")
def device():
    return contexts.list_devices()[0]


@pytest.fixture(scope="module")
def drawer(device):
    with Rasterizer(device) as made:
        yield made


def draw(rasterizer, mesh, config):
    caster = RayCaster(mesh)
    camera = config.rig.cameras(config.size)
    return rasterizer.render(caster.surface, caster.faces, camera, config)


def same(left, right):
    assert all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("rgb", "depth", "face_index")
    )
    assert all(np.array_equal(left.layers[name], right.layers[name]) for name in left.layers)


def around(mask, combine):
    """`combine` over each pixel's 3×3 neighborhood; outside of the image is like its edge."""
    wide = np.pad(mask, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = mask.shape[1:]
    shifted = [wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return combine(shifted, axis=0)


def assert_agree(rasterizer, mesh, **settings):
    """Check everything that docs/rendering.md promises EGL and Embree have in common."""
    config = RenderConfig(find_rig("dodeca20"), layers=("albedo", "normal"), **settings)
    caster, camera = RayCaster(mesh), config.rig.cameras(config.size)
    cpu, gpu = draw_views(caster, camera, config), draw(rasterizer, mesh, config)
    covered = (cpu.face_index >= 0) & (gpu.face_index >= 0)
    agree = cpu.face_index == gpu.face_index
    assert np.mean((cpu.face_index >= 0) == (gpu.face_index >= 0)) >= 0.999
    assert np.mean(agree[covered]) >= 0.99
    # They differ only within a pixel of an edge, or where one surface lies in another.
    twins = np.abs(cpu.depth - gpu.depth) <= 1e-5
    edge = np.maximum(around(cpu.face_index, np.max), around(gpu.face_index, np.max)) != np.minimum(
        around(cpu.face_index, np.min), around(gpu.face_index, np.min)
    )
    assert np.all((twins | edge)[covered & ~agree])
    assert np.mean((agree | twins)[covered]) >= 0.995
    np.testing.assert_array_equal(cpu.depth[agree], gpu.depth[agree])
    inside = agree & covered & (around(cpu.face_index, np.min) == around(cpu.face_index, np.max))
    images = {"rgb": (cpu.rgb, gpu.rgb)}
    images |= {name: (cpu.layers[name], gpu.layers[name]) for name in config.layers}
    for name, (left, right) in images.items():
        step = np.abs(left[inside].astype(int) - right[inside]).max(axis=-1)
        assert np.sum(step > 4) <= 0.01 * len(step), name  # the finest meshes have no inside
    empty = ~around((cpu.face_index >= 0) | (gpu.face_index >= 0), np.max)
    # A sample may hit a face that no pixel's center hits.
    left, right = cpu.rgb[empty], gpu.rgb[empty]
    assert np.mean(np.all(left == config.background, axis=-1)) >= 0.999
    assert np.mean(np.all(right == config.background, axis=-1)) >= 0.999
    # At edges, the antialiased images are closer to each other than to a plain one.
    hard = draw_views(caster, camera, replace(config, antialias=False)).rgb.astype(int)
    border = covered & (around(cpu.face_index, np.min) == -1)
    assert (
        np.abs(gpu.rgb - cpu.rgb.astype(int))[border].mean() < np.abs(gpu.rgb - hard)[border].mean()
    )


@pytest.mark.parametrize("name", ["chair/0001", "mug/0003", "lamp/0002", "table/0007"])
def test_agrees_with_embree_on_toy_shapes(drawer, name):
    mesh, _ = normalize(toy.build(name), "z")
    assert_agree(drawer, mesh, size=128)


def test_agrees_with_embree_on_real_meshes(drawer, real_data):
    found = sorted(real_data.glob("ModelNet40/*/*/*_0002.off")) + sorted(
        real_data.glob("textured/*/*.obj")
    )
    assert len(found) >= 4
    for path in found:
        mesh, _ = normalize(load_mesh(path), "z")
        assert_agree(drawer, mesh)


@pytest.mark.parametrize("light", ["camera", "world"])
@pytest.mark.parametrize("background", [(255, 255, 255), (10, 200, 30)])
def test_agrees_with_embree_on_lights_and_backgrounds(drawer, light, background):
    assert_agree(drawer, shapes.sphere(12), light=light, background=background, size=96)


def test_agrees_with_embree_on_textures_vertex_colors_and_many_materials(drawer):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (37, 53, 3), np.uint8).repeat(3, 0).repeat(3, 1)
    assert_agree(drawer, shapes.wall(picture, repeat=3.0))
    box = shapes.box()
    tinted = UnitMesh(box.vertices, box.faces, vertex_colors=rng.random((8, 3)).astype(np.float32))
    assert_agree(drawer, tinted)
    materials = tuple(Material(color=tuple(rng.random(3))) for _ in range(6))
    parts = UnitMesh(
        box.vertices,
        box.faces,
        materials=materials,
        face_material=np.arange(12, dtype=np.int32) // 2,
    )
    assert_agree(drawer, parts)


def test_agrees_with_embree_on_smooth_shading(drawer):
    ball, rng = shapes.sphere(10), np.random.default_rng(1)
    normals = ball.vertices[ball.faces] + 0.3 * rng.normal(size=(len(ball.faces), 3, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    assert_agree(drawer, replace(ball, corner_normals=normals), size=128)


def test_faces_without_area_are_never_drawn(drawer):
    """Not even by rounding, although the edge of a needle touches hundreds of pixels."""
    needle = np.array([[-0.7, 0.1, -0.31], [0.7, 0.2, 0.42], [0.0, 0.15, 0.055]])
    box = shapes.box(0.2)
    vertices = np.concatenate([needle, box.vertices])
    faces = np.concatenate([[[0, 2, 1]], box.faces + 3]).astype(np.int32)
    assert draw(drawer, UnitMesh(vertices, faces), RenderConfig(SMALL.rig)).face_index.min() == -1
    assert not np.any(
        draw(drawer, UnitMesh(vertices, faces), RenderConfig(SMALL.rig)).face_index == 0
    )


def test_the_first_of_two_coincident_faces_is_shown(drawer):
    box = shapes.box()
    twice = UnitMesh(box.vertices, np.concatenate([box.faces, box.faces[:, [1, 2, 0]]]))
    assert draw(drawer, twice, SMALL).face_index.max() == 11


def test_antialiasing_only_changes_colors_at_edges(drawer):
    mesh = shapes.sphere(12)
    smooth = draw(drawer, mesh, SMALL)
    hard = draw(drawer, mesh, RenderConfig(SMALL.rig, size=32, antialias=False))
    np.testing.assert_array_equal(smooth.face_index, hard.face_index)
    np.testing.assert_array_equal(smooth.depth, hard.depth)
    inside = around(smooth.face_index, np.min) == around(smooth.face_index, np.max)
    step = np.abs(smooth.rgb.astype(int) - hard.rgb).max(axis=-1)
    assert step[inside].max() <= 1
    assert step.max() > 30


@pytest.mark.parametrize("at_once", [32 * 32, 3 * 32 * 32, 1 << 22])
def test_views_do_not_depend_on_how_many_are_drawn_at_once(drawer, monkeypatch, at_once):
    mesh, _ = normalize(toy.build("mug/0001"), "z")
    whole = draw(drawer, mesh, SMALL)
    monkeypatch.setattr(rasterizer, "PIXELS_AT_ONCE", at_once)
    again = draw(drawer, mesh, SMALL)
    np.testing.assert_array_equal(again.face_index, whole.face_index)
    np.testing.assert_array_equal(again.depth, whole.depth)
    assert np.abs(again.rgb.astype(int) - whole.rgb).max() <= 1  # sums of rounded numbers


@pytest.mark.parametrize(("rig", "size"), [("fibonacci128", 64), ("fibonacci1", 1024)])
def test_one_and_many_views_of_small_and_large_images(drawer, rig, size):
    mesh = shapes.sphere(8)
    config = RenderConfig(find_rig(rig), size=size)
    gpu = draw(drawer, mesh, config)
    cpu = draw_views(RayCaster(mesh), config.rig.cameras(size), config)
    assert gpu.rgb.shape == (len(config.rig.views), size, size, 3)
    assert np.mean(gpu.face_index == cpu.face_index) > 0.998


def test_a_million_faces_are_drawn(drawer):
    side = np.linspace(-0.6, 0.6, 710)
    x, y = np.meshgrid(side, side)
    vertices = np.stack([x, y, 0.2 * np.sin(9 * x) * np.cos(7 * y)], axis=-1).reshape(-1, 3)
    corner = np.arange(710 * 710).reshape(710, 710)
    a, b, c, d = (
        grid.ravel()
        for grid in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:])
    )
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    mesh = UnitMesh(vertices, faces)
    assert len(mesh.faces) > 1_000_000
    config = RenderConfig(find_rig("ortho6"), size=512)
    gpu = draw(drawer, mesh, config)
    cpu = draw_views(RayCaster(mesh), config.rig.cameras(512), config)
    assert np.mean((gpu.face_index >= 0) == (cpu.face_index >= 0)) > 0.999
    assert np.quantile(np.abs(gpu.depth - cpu.depth)[gpu.face_index >= 0], 0.99) < 2e-3


def test_two_renderers_at_once_are_independent(device):
    ball, box = shapes.sphere(9), shapes.box()
    with Rasterizer(device) as one, Rasterizer(device) as two:
        first, second = draw(one, ball, SMALL), draw(two, box, SMALL)
        same(draw(one, ball, SMALL), first)
        one.close()
        same(draw(two, box, SMALL), second)


def test_a_renderer_works_from_several_threads(device):
    mesh = shapes.box()
    expected = draw_views(RayCaster(mesh), SMALL.rig.cameras(32), SMALL).face_index

    def make_and_draw(_):
        with Rasterizer(device) as made:
            return draw(made, mesh, SMALL).face_index

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(make_and_draw, range(8)):
            assert np.mean(found == expected) > 0.99
    with Rasterizer(device) as shared, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: draw(shared, mesh, SMALL).face_index, range(16)))
    assert all(np.array_equal(image, found[0]) for image in found)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="/proc is Linux's")
def test_many_shapes_and_contexts_leak_no_objects_or_memory(device):
    meshes = [shapes.box(0.3), shapes.sphere(6), shapes.wall(np.zeros((64, 64, 3), np.uint8))]
    casters = [RayCaster(mesh) for mesh in meshes]
    config = RenderConfig(find_rig("fibonacci2"), size=16)
    camera = config.rig.cameras(16)
    sizes, names = [], []
    with Rasterizer(device) as made:
        for shape in range(3000):
            caster = casters[shape % 3]
            made.render(caster.surface, caster.faces, camera, config)
            if shape % 1000 == 999:
                gc.collect()
                sizes.append(resident())
                with made.context.current():
                    names.append(objects(made.gl))
    assert names[0] == names[1] == names[2]
    assert min(names[0]) > 0
    assert sizes[-1] - sizes[0] < 5
    before = None
    for number in range(100):
        with Rasterizer(device) as one:
            one.render(casters[0].surface, casters[0].faces, camera, config)
        if number == 20:
            before = resident()
    assert resident() - before < 40


def objects(gl):
    """The number of GL objects by kind."""
    kinds = (gl.glIsBuffer, gl.glIsTexture, gl.glIsFramebuffer, gl.glIsRenderbuffer)
    return [sum(bool(exists(name)) for name in range(1, 500)) for exists in kinds]


def test_a_shader_that_does_not_compile_is_reported_with_the_drivers_log(device, monkeypatch):
    monkeypatch.setattr(shading, "AMBIENT", "no number at all")
    with pytest.raises(DependencyError, match="failed to compile") as raised:
        Rasterizer(device)
    assert "error" in raised.value.what.lower()
    assert "--backend embree" in raised.value.fix


def test_driver_errors_mean_a_lost_context_or_out_of_memory(drawer):
    gl = drawer.gl
    with (
        pytest.raises(contexts.ContextLost, match="0x0500 testing"),
        drawer.context.drawing("testing"),
    ):
        gl.glEnable(0xDEAD)
    with pytest.raises(contexts.OutOfMemory), drawer.context.drawing("testing"):
        gl.glBufferData(gl.GL_ARRAY_BUFFER, 1 << 46, None, gl.GL_STREAM_DRAW)
    draw(drawer, shapes.box(), SMALL)


def test_a_closed_renderer_refuses_to_draw(device):
    made = Rasterizer(device)
    made.close()
    made.close()
    with pytest.raises(contexts.ContextLost, match="closed"):
        draw(made, shapes.box(), SMALL)


def test_a_gpu_that_does_not_recover_stops_the_job_and_blames_no_shape(monkeypatch):
    renderer = backends.make_renderer("egl")
    caster, camera = RayCaster(shapes.box()), SMALL.rig.cameras(32)
    before = renderer.render(caster, camera, SMALL)
    lose(renderer)
    with monkeypatch.context() as patch:
        patch.setattr(
            backends, "_open", lambda *_: (_ for _ in ()).throw(contexts.ContextLost("gone"))
        )
        for _ in range(2):
            with pytest.raises(DependencyError, match="gone"):
                renderer.render(caster, camera, SMALL)
    same(renderer.render(caster, camera, SMALL), before)  # it is back
    renderer.close()


class Full:
    """A rasterizer on a device whose memory is full."""

    def render(self, *_):
        raise contexts.OutOfMemory("the device ran out of memory")

    def close(self):
        pass


def test_a_full_gpu_is_a_machine_error_except_for_enormous_shapes(monkeypatch):
    renderer = backends.make_renderer("egl")
    caster, camera = RayCaster(shapes.box()), SMALL.rig.cameras(32)
    renderer.close()
    renderer._rasterizer = Full()
    monkeypatch.setattr(backends, "_open", lambda *_: Full())
    with pytest.raises(PointcmtError) as raised:
        renderer.render(caster, camera, SMALL)
    assert "fewer --workers" in raised.value.fix
    monkeypatch.setattr(backends, "LARGE", 2)
    with pytest.raises(ShapeRefused) as refused:
        renderer.render(caster, camera, SMALL)
    assert refused.value.reason is Reason.TOO_LARGE


def test_images_and_textures_too_large_for_the_device_are_refused(drawer, monkeypatch):
    monkeypatch.setattr(drawer, "max_entries", 10)
    with pytest.raises(ShapeRefused) as refused:
        draw(drawer, shapes.box(), SMALL)
    assert refused.value.reason is Reason.TOO_LARGE
    monkeypatch.undo()
    monkeypatch.setattr(drawer, "max_side", 40)
    large = np.zeros((2048, 2048, 3), np.uint8)
    with pytest.raises(ShapeRefused) as refused:
        draw(drawer, shapes.wall(large), SMALL)
    assert refused.value.reason is Reason.TOO_LARGE
    monkeypatch.undo()
    draw(drawer, shapes.box(), SMALL)


def lose(renderer):
    """Make a renderer lose its context, as when a driver resets."""
    context = renderer._rasterizer.context
    context._egl.eglDestroyContext(context._display, context._context)


def test_a_lost_context_is_recreated_and_the_shape_is_drawn_again():
    renderer = backends.make_renderer("egl")
    caster, camera = RayCaster(shapes.box()), SMALL.rig.cameras(32)
    before = renderer.render(caster, camera, SMALL)
    lose(renderer)
    same(renderer.render(caster, camera, SMALL), before)
    renderer.close()


def test_a_context_lost_twice_is_blamed_on_the_shape(monkeypatch):
    renderer = backends.make_renderer("egl")
    caster, camera = RayCaster(shapes.box()), SMALL.rig.cameras(32)
    make = renderer._make

    def make_and_lose():
        made = make()
        made.context._egl.eglDestroyContext(made.context._display, made.context._context)
        return made

    monkeypatch.setattr(renderer, "_make", make_and_lose)
    lose(renderer)
    with pytest.raises(ShapeRefused) as refused:
        renderer.render(caster, camera, SMALL)
    assert refused.value.reason is Reason.CRASHED
    monkeypatch.undo()
    renderer.render(caster, camera, SMALL)  # the next shape gets a new one
    renderer.close()
