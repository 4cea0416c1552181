"""The GPU renderer: draws all views of a shape stacked vertically, reads each target back once.

A single-sample pass gives faces and color at pixel centers, with the formulas of the CPU renderer
(shaders/surface.frag, shading.py). Depth is computed from the faces in float64, as on the CPU.
Drivers snap corners to a grid of 1/256 pixel: where a pixel's center does not lie on the face
drawn there, the CPU renderer determines the face. Smooth edges take a second, multisampled pass
for color only; face ids never come from it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.errors import DependencyError, Reason, ShapeRefused
from pointcmt.geometry import is_wide
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.cpu import BLANK, paint
from pointcmt.render.draw.egl.contexts import Context, Device
from pointcmt.render.draw.egl.objects import SAMPLES, MeshBuffers, Program, Targets, texel_rows
from pointcmt.render.draw.rays import CENTER, PackedCameras, locate, make_rays, pack_cameras
from pointcmt.render.draw.scanline import BEHIND, NEAR, close_views, nearest_faces_at
from pointcmt.render.draw.scene import PLAIN, Sides
from pointcmt.render.draw.views import Views

EDGE_ON = 1e-2  # sine of the angle between ray and face: below it, the plane cannot give the depth
FLAT = 1e-6  # world units: faces this narrow, or with the camera this near their plane, are skipped
Cast = Callable[[NDArray[np.float32]], tuple[NDArray[np.int32], NDArray[np.float32]]]
PIXELS_AT_ONCE = 1 << 22  # bounds the targets' memory: 60 bytes per pixel, and 4 more per layer


class Rasterizer:
    """Draw shapes on one EGL device with programs, buffers and targets shared by all shapes.

    Close it, or use it in a `with` statement. Raises DependencyError if the device lacks a required
    feature.
    """

    def __init__(self, device: Device) -> None:
        self.context = Context(device)
        try:
            with self.context.drawing("setting up"):
                self._set_up()
        except BaseException:
            self.close()
            raise

    def render(
        self,
        surface: shading.Surface,
        faces: NDArray[np.int32],
        camera: Camera,
        config: RenderConfig,
        cast: Cast | None = None,
        sides: Sides = PLAIN,
    ) -> Views:
        """Draw the surface's `faces` (indices) from cameras [V].

        cast: `Scene.cast` of the same faces, which speeds this up. sides: `Scene.sides`.

        Raises ShapeRefused for a shape that never fits on the device, OutOfMemory, and ContextLost
        when the driver dropped the context.
        """
        # Drivers that snap corners to 1/256 pixel may draw faces without area; no ray hits them.
        drawn = faces[is_wide(surface.vertices, surface.faces, faces, FLAT)]
        self._refuse_too_large(surface, drawn)
        size, count = config.size, len(camera)
        cameras, views = pack_cameras(camera, config.light), _blank(count, config)
        at_once = max(1, min(count, self.max_side // size, PIXELS_AT_ONCE // size**2))
        with self.context.drawing(f"rendering {len(drawn)} faces"):
            targets = self._targets_for(config, at_once)
            self.mesh.upload(surface, drawn)
            for first in range(0, count, at_once):
                some = slice(first, min(first + at_once, count))
                self._draw(targets, camera[some], _slice(cameras, some), config, sides)
                targets.read(views, some)
        pixels = np.flatnonzero(views.face_index >= 0)
        hits = views.face_index.reshape(-1)[pixels]
        depth, *_, met = locate(pixels, CENTER, hits, size, cameras, surface)
        views.depth.reshape(-1)[pixels] = depth
        missed = pixels[~met]
        hits = _faces_at(missed, surface, faces, camera, cameras, cast, sides.cull)
        _correct(missed, hits, views, surface, camera, cameras, config)
        return views

    def close(self) -> None:
        """Free everything on the device."""
        self.context.close()  # which also frees all objects made in it

    def __enter__(self) -> "Rasterizer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_up(self) -> None:
        from OpenGL import GL as gl

        self.gl = gl
        extensions = {
            gl.glGetStringi(gl.GL_EXTENSIONS, i).decode()
            for i in range(gl.glGetIntegerv(gl.GL_NUM_EXTENSIONS))
        }
        if "GL_ARB_clip_control" not in extensions:
            raise DependencyError(
                f"{self.context.renderer} (OpenGL {self.context.version}) lacks "
                "GL_ARB_clip_control",
                where="the EGL renderer",
                fix="use a driver with OpenGL 4.5, another --device, or --backend embree",
            )
        sides = (gl.GL_MAX_TEXTURE_SIZE, gl.GL_MAX_RENDERBUFFER_SIZE)
        viewport = gl.glGetIntegerv(gl.GL_MAX_VIEWPORT_DIMS)
        self.max_side = int(min(*viewport, *(gl.glGetIntegerv(side) for side in sides)))
        self.max_entries = int(gl.glGetIntegerv(gl.GL_MAX_TEXTURE_BUFFER_SIZE))
        self._constants = {
            "AMBIENT": shading.AMBIENT,
            "HEADLIGHT": shading.HEADLIGHT,
            "KEY": shading.KEY,
            "LEAST_REFLECTED": float(shading.LEAST_REFLECTED),
            "MIP_LEVELS": shading.MIP_LEVELS,
            "REPEAT": shading.REPEAT,
            "CLAMP": shading.CLAMP,
            "MIRROR": shading.MIRROR,
            "TINTED": shading.TINTED,
            "SAMPLES": SAMPLES,
            "NEAR": NEAR,
            "EDGE_ON": EDGE_ON,
            "FLAT": FLAT,
            "BEHIND": BEHIND,
            "SHORT_NORMAL": shading.SHORT_NORMAL,
        }
        self._programs: dict[tuple[str, ...], Program] = {}
        self._program("surface")
        self._program("surface", "COLOR_ONLY")
        self._program("resolve")
        self.mesh = MeshBuffers(gl)
        self.targets: Targets | None = None
        gl.glClipControl(gl.GL_LOWER_LEFT, gl.GL_ZERO_TO_ONE)
        gl.glDepthFunc(gl.GL_GREATER)  # depth is NEAR / z: float's precision at every distance
        gl.glClearDepth(0.0)
        gl.glEnable(gl.GL_MULTISAMPLE)
        gl.glMinSampleShading(1.0)  # where sample shading is enabled
        gl.glDisable(gl.GL_DITHER)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)

    def _program(self, name: str, *variant: str) -> Program:
        """Return a program, compiled on first use. variant: further macros to define."""
        key = (name, *variant)
        if key not in self._programs:
            constants = self._constants | dict.fromkeys(variant, 1)
            self._programs[key] = Program(self.gl, name, constants)
        return self._programs[key]

    def _refuse_too_large(self, surface: shading.Surface, faces: NDArray[np.int32]) -> None:
        if max(len(faces), len(surface.levels) * shading.MIP_LEVELS) > self.max_entries:
            what = f"{len(faces)} faces, more than the device's maximum of {self.max_entries}"
            raise ShapeRefused(Reason.TOO_LARGE, what)
        if texel_rows(surface.texels) > self.max_side:
            raise ShapeRefused(Reason.TOO_LARGE, "the textures exceed the device's maximum")

    def _targets_for(self, config: RenderConfig, views: int) -> Targets:
        """Return the last shape's targets, or new ones if the configuration has changed."""
        if self.targets is None or not self.targets.fit(config, views):
            if self.targets is not None:
                self.targets.delete()
                self.targets = None
            self.targets = Targets(self.gl, config, views)
        return self.targets

    def _draw(
        self,
        targets: Targets,
        camera: Camera,
        cameras: PackedCameras,
        config: RenderConfig,
        sides: Sides,
    ) -> None:
        gl, variant = self.gl, ["SMOOTH"] if self.mesh.smooth else []
        gl.glEnable(gl.GL_DEPTH_TEST)
        targets.begin_surface(config.background)
        self._draw_views(self._program("surface", *variant), camera, cameras, sides.cull)
        if config.antialias:
            targets.begin_color(config.background)
            if sides.opposed:  # a depth per sample: a pixel's center may lie beside the face
                gl.glEnable(gl.GL_SAMPLE_SHADING)
            colors = self._program("surface", "COLOR_ONLY", *variant)
            self._draw_views(colors, camera, cameras, sides.cull)
            gl.glDisable(gl.GL_SAMPLE_SHADING)
            gl.glDisable(gl.GL_DEPTH_TEST)
            targets.begin_resolve(len(camera))
            self._program("resolve").use()
            gl.glDrawArrays(gl.GL_TRIANGLES, 0, 3)

    def _draw_views(
        self, program: Program, camera: Camera, cameras: PackedCameras, cull: bool
    ) -> None:
        gl, size = self.gl, camera.width
        program.use()
        self.mesh.bind(program)
        gl.glUniform1i(program["cull"], cull)
        clip = _clip_matrices(camera)
        to_ray = cameras.pixel_to_ray.astype(np.float32)
        turn = camera.world_to_camera[:, :3, :3].astype(np.float32)
        for view in range(len(camera)):
            gl.glViewport(0, view * size, size, size)
            gl.glUniformMatrix4fv(program["clip"], 1, gl.GL_TRUE, clip[view])
            gl.glUniform3f(program["origin"], *cameras.origin[view])
            gl.glUniform3f(program["key"], *cameras.light[view])
            gl.glUniform3f(program["axis"], *cameras.axis[view])
            gl.glUniform1f(program["focal"], cameras.focal[view])
            gl.glUniform1f(program["first_row"], view * size)
            gl.glUniformMatrix3fv(program["pixel_to_ray"], 1, gl.GL_TRUE, to_ray[view])
            if "world_to_camera" in program.uniforms:
                gl.glUniformMatrix3fv(program["world_to_camera"], 1, gl.GL_TRUE, turn[view])
            gl.glDrawElements(gl.GL_TRIANGLES, self.mesh.corners, gl.GL_UNSIGNED_INT, None)


def _faces_at(
    pixels: NDArray[np.int64],
    surface: shading.Surface,
    faces: NDArray[np.int32],
    camera: Camera,
    cameras: PackedCameras,
    cast: Cast | None,
    cull: bool,
) -> NDArray[np.int32]:
    """Return the nearest of the `faces` at the centers of pixels [n], -1 = none.

    pixels: ascending flat indices. Scan conversion tests every face again, so rays are used where
    they are unambiguous: they are faster.
    """
    if cast is None:
        return nearest_faces_at(pixels, surface.vertices, surface.faces, faces, camera, cull)
    hits, _ = cast(make_rays(pixels, CENTER, camera.width, cameras))
    *_, met = locate(pixels, CENTER, hits, camera.width, cameras, surface)
    doubt = ~met | close_views(surface.vertices, camera)[pixels // camera.width**2]
    hits[doubt] = _faces_at(pixels[doubt], surface, faces, camera, cameras, None, cull)
    return hits


def _correct(
    pixels: NDArray[np.int64],
    hits: NDArray[np.int32],
    views: Views,
    surface: shading.Surface,
    camera: Camera,
    cameras: PackedCameras,
    config: RenderConfig,
) -> None:
    """Make pixels [n], flat indices, show other faces [n] (-1 = none), as on the CPU.

    Smooth colors are left unchanged: they are the mean of samples all over the pixel.
    """
    views.face_index.reshape(-1)[pixels] = hits
    views.depth.reshape(-1)[pixels] = 0
    images = {name: layer.reshape(-1, 3) for name, layer in views.layers.items()}
    blank: dict[str, int | tuple[int, int, int]] = {**BLANK, "rgb": config.background}
    if not config.antialias:
        images["rgb"] = views.rgb.reshape(-1, 3)
    for name, image in images.items():
        image[pixels] = blank[name]
    shown = hits >= 0
    some = pixels[shown]
    views.depth.reshape(-1)[some] = paint(images, some, hits[shown], camera, cameras, surface)


def _clip_matrices(camera: Camera) -> NDArray[np.float32]:
    """Return world → clip matrices [V,4,4]: x and y from -1 to 1 over the image, depth NEAR / z."""
    rows = camera.K @ camera.world_to_camera[:, :3]  # (u z, v z, z)
    clip = np.zeros((len(camera), 4, 4))
    clip[:, 0] = 2 * rows[:, 0] / camera.width - rows[:, 2]
    clip[:, 1] = 2 * rows[:, 1] / camera.height - rows[:, 2]
    clip[:, 2, 3] = NEAR
    clip[:, 3] = rows[:, 2]
    return clip.astype(np.float32)


def _slice(cameras: PackedCameras, some: slice) -> PackedCameras:
    return PackedCameras(*(field[some] for field in cameras))


def _blank(count: int, config: RenderConfig) -> Views:
    shape = (count, config.size, config.size)
    return Views(
        np.empty((*shape, 3), np.uint8),
        np.zeros(shape, np.float32),
        np.empty(shape, np.int32),
        {name: np.empty((*shape, 3), np.uint8) for name in config.layers},
    )
