"""The rasterizer's objects on the device: programs, one shape, and the images to draw on."""

from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.errors import DependencyError
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw import shading
from pointcmt.render.draw.views import Views

SAMPLES = 4  # per pixel at edges
TEXEL_ROW = 8192  # texels per row of the texture that holds all others
LAYERS = ("albedo", "normal")  # in the order of the shader's outputs, after color and face


class Program:
    """A compiled shader pair and the locations of its uniforms."""

    def __init__(self, gl: Any, name: str, constants: dict[str, float]) -> None:
        self.gl = gl
        self.program = gl.glCreateProgram()
        folder = resources.files("pointcmt.render.draw.egl") / "shaders"
        defines = "".join(f"#define {key} {value}\n" for key, value in constants.items())
        shared = (folder / "srgb.glsl").read_text()
        for kind, suffix in ((gl.GL_VERTEX_SHADER, "vert"), (gl.GL_FRAGMENT_SHADER, "frag")):
            shader, own = gl.glCreateShader(kind), (folder / f"{name}.{suffix}").read_text()
            gl.glShaderSource(shader, f"#version 330 core\n{defines}{shared}#line 1\n{own}")
            gl.glCompileShader(shader)
            if not gl.glGetShaderiv(shader, gl.GL_COMPILE_STATUS):
                raise _shader_error(f"{name}.{suffix}", gl.glGetShaderInfoLog(shader))
            gl.glAttachShader(self.program, shader)
            gl.glDeleteShader(shader)  # deleted together with the program
        gl.glLinkProgram(self.program)
        if not gl.glGetProgramiv(self.program, gl.GL_LINK_STATUS):
            raise _shader_error(name, gl.glGetProgramInfoLog(self.program))
        self.uniforms: dict[str, int] = {}
        for index in range(gl.glGetProgramiv(self.program, gl.GL_ACTIVE_UNIFORMS)):
            uniform, _, _ = gl.glGetActiveUniform(self.program, index)
            key = uniform.decode() if isinstance(uniform, bytes) else bytes(uniform).decode()
            self.uniforms[key] = gl.glGetUniformLocation(self.program, uniform)
        self.use()
        for unit, sampler in enumerate(_SAMPLERS):
            if sampler in self.uniforms:
                gl.glUniform1i(self[sampler], unit)

    def __getitem__(self, uniform: str) -> int:
        return self.uniforms.get(uniform, -1)  # -1: the compiler removed it as unused

    def use(self) -> None:
        self.gl.glUseProgram(self.program)


_SAMPLERS = ("face_normal", "face_color", "face_index", "levels", "texels", "samples")


def texel_rows(texels: NDArray[np.uint8]) -> int:
    """Return the number of rows of the texture that holds all texels (3 bytes each), at least 1."""
    return max(1, -(-len(texels) // (3 * TEXEL_ROW)))


class MeshBuffers:
    """One shape on the device: corners for the rasterizer, tables per face for the shader."""

    def __init__(self, gl: Any) -> None:
        self.gl = gl
        self.corners = 0
        self.smooth = self._vertex_colors = False
        self._array = gl.glGenVertexArrays(1)
        names = ("position", "color", "uv", "normal", "index")
        self._buffers = dict(zip(names, gl.glGenBuffers(5), strict=True))
        pairs = zip(gl.glGenBuffers(4), gl.glGenTextures(4), strict=True)
        self._tables: dict[str, tuple[int, int]] = dict(zip(_SAMPLERS[:4], pairs, strict=True))
        self._texels = gl.glGenTextures(1)
        gl.glBindVertexArray(self._array)
        gl.glBindBuffer(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers["index"])
        for location, (name, width) in enumerate(zip(names, (3, 3, 2, 3), strict=False)):
            gl.glBindBuffer(gl.GL_ARRAY_BUFFER, self._buffers[name])
            gl.glVertexAttribPointer(location, width, gl.GL_FLOAT, gl.GL_FALSE, 0, None)

    def upload(self, surface: shading.Surface, faces: NDArray[np.int32]) -> None:
        """Replace the shape on the device with these faces of a surface."""
        gl, count = self.gl, len(faces)
        corners = surface.faces[faces].reshape(-1)
        positions, colors = surface.vertices, surface.vertex_colors
        self.smooth = len(surface.corner_normals) > 0
        if self.smooth or len(surface.uv):  # they belong to corners: faces cannot share vertices
            positions = positions[corners]
            colors = colors[corners] if len(colors) else colors
            corners = np.arange(3 * count, dtype=np.int32)
        self.corners, self._vertex_colors = 3 * count, len(colors) > 0
        gl.glBindVertexArray(self._array)
        self._fill(gl.GL_ELEMENT_ARRAY_BUFFER, self._buffers["index"], corners, np.uint32)
        self._attribute(0, "position", positions)
        self._attribute(1, "color", colors)
        self._attribute(2, "uv", surface.uv[faces] if len(surface.uv) else surface.uv)
        smooth = surface.corner_normals
        self._attribute(3, "normal", smooth[faces] if self.smooth else smooth)
        normals = np.zeros((count, 4), np.float32)
        normals[:, :3] = surface.normals[faces]
        first = surface.vertices[surface.faces[faces, 0]]
        normals[:, 3] = np.einsum("fi,fi->f", surface.normals[faces], first)
        face_color = np.zeros((count, 4), np.float32)
        face_color[:, :3] = surface.colors[faces]
        index = np.full((count, 2), -1, np.int32)
        index[:, 0] = faces
        if len(surface.face_texture):
            face_color[:, 3] = surface.texel_density[faces]
            index[:, 1] = surface.face_texture[faces]
        levels = np.zeros((max(1, len(surface.levels)) * shading.MIP_LEVELS, 4), np.int32)
        levels[: surface.levels.size // 4] = surface.levels.reshape(-1, 4)
        levels[:, 0] //= 3  # from bytes to texels
        self._table("face_normal", normals, gl.GL_RGBA32F)
        self._table("face_color", face_color, gl.GL_RGBA32F)
        self._table("face_index", index, gl.GL_RG32I)
        self._table("levels", levels, gl.GL_RGBA32I)
        self._upload_texels(surface.texels)

    def bind(self, program: Program) -> None:
        """Bind this shape's buffers for drawing with the program."""
        gl = self.gl
        gl.glBindVertexArray(self._array)
        gl.glUniform1i(program["vertex_colors"], self._vertex_colors)
        for unit, sampler in enumerate(_SAMPLERS[:5]):
            gl.glActiveTexture(gl.GL_TEXTURE0 + unit)
            if sampler == "texels":
                gl.glBindTexture(gl.GL_TEXTURE_2D, self._texels)
            else:
                gl.glBindTexture(gl.GL_TEXTURE_BUFFER, self._tables[sampler][1])

    def _fill(self, target: int, buffer: int, data: NDArray[Any], dtype: type) -> None:
        data = np.ascontiguousarray(data, dtype)
        self.gl.glBindBuffer(target, buffer)
        self.gl.glBufferData(target, data.nbytes, data, self.gl.GL_STREAM_DRAW)

    def _attribute(self, location: int, name: str, data: NDArray[Any]) -> None:
        if len(data):
            self._fill(self.gl.GL_ARRAY_BUFFER, self._buffers[name], data, np.float32)
            self.gl.glEnableVertexAttribArray(location)
        else:
            self.gl.glDisableVertexAttribArray(location)

    def _table(self, name: str, data: NDArray[Any], layout: int) -> None:
        buffer, texture = self._tables[name]
        self._fill(self.gl.GL_TEXTURE_BUFFER, buffer, data, data.dtype.type)
        self.gl.glActiveTexture(self.gl.GL_TEXTURE0)
        self.gl.glBindTexture(self.gl.GL_TEXTURE_BUFFER, texture)
        self.gl.glTexBuffer(self.gl.GL_TEXTURE_BUFFER, layout, buffer)

    def _upload_texels(self, texels: NDArray[np.uint8]) -> None:
        gl = self.gl
        rows = texel_rows(texels)
        padded = np.zeros(rows * TEXEL_ROW * 3, np.uint8)
        padded[: len(texels)] = texels
        gl.glActiveTexture(gl.GL_TEXTURE0)
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texels)
        gl.glTexParameteri(gl.GL_TEXTURE_2D, gl.GL_TEXTURE_MIN_FILTER, gl.GL_NEAREST)
        gl.glTexParameteri(gl.GL_TEXTURE_2D, gl.GL_TEXTURE_MAG_FILTER, gl.GL_NEAREST)
        shape = (0, gl.GL_SRGB8, TEXEL_ROW, rows, 0, gl.GL_RGB, gl.GL_UNSIGNED_BYTE)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, *shape, padded)


class Targets:
    """Images to draw on, for `views` views at once, stacked vertically."""

    def __init__(self, gl: Any, config: RenderConfig, views: int) -> None:
        self.gl = gl
        self.size, self.views, self.layers = config.size, views, config.layers
        self.antialias = config.antialias
        self._objects: list[tuple[Callable[..., None], int]] = []
        outputs = [(gl.GL_RGBA8, 0), (gl.GL_R32I, 1)]
        outputs += [(gl.GL_RGBA8, 2 + LAYERS.index(name)) for name in config.layers]
        self._outputs = [at for _, at in outputs]
        self.surface = self._framebuffer()
        for layout, at in outputs:
            self._attach(gl.GL_COLOR_ATTACHMENT0 + at, layout, 0)
        self._attach(gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT32F, 0)
        self._expect_complete()
        if self.antialias:
            self.color = self._framebuffer()
            self.samples = gl.glGenTextures(1)
            self._objects.append((gl.glDeleteTextures, self.samples))
            target = gl.GL_TEXTURE_2D_MULTISAMPLE
            gl.glActiveTexture(gl.GL_TEXTURE0 + _SAMPLERS.index("samples"))
            gl.glBindTexture(target, self.samples)
            shape = (gl.GL_RGBA16F, self.size, self.size * views, gl.GL_TRUE)
            gl.glTexImage2DMultisample(target, SAMPLES, *shape)
            gl.glFramebufferTexture2D(
                gl.GL_FRAMEBUFFER, gl.GL_COLOR_ATTACHMENT0, target, self.samples, 0
            )
            self._attach(gl.GL_DEPTH_ATTACHMENT, gl.GL_DEPTH_COMPONENT32F, SAMPLES)
            self._expect_complete()

    def fit(self, config: RenderConfig, views: int) -> bool:
        """Return whether these targets suit `views` views of a configuration."""
        wanted = (config.size, config.layers, config.antialias, views)
        return wanted == (self.size, self.layers, self.antialias, self.views)

    def delete(self) -> None:
        """Free the images."""
        for delete, name in self._objects:
            delete(1, [name])

    def begin_surface(self, background: tuple[int, int, int]) -> None:
        """Clear color, faces and layers, and make them the draw target."""
        gl = self.gl
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.surface)
        buffers = [gl.GL_NONE] * (max(self._outputs) + 1)
        for at in self._outputs:
            buffers[at] = gl.GL_COLOR_ATTACHMENT0 + at
        gl.glDrawBuffers(len(buffers), buffers)
        gl.glClear(gl.GL_DEPTH_BUFFER_BIT)
        gray = 128 / 255
        clear = {0: [*(c / 255 for c in background), 1], 2: [0, 0, 0, 1], 3: [gray, gray, gray, 1]}
        for at in self._outputs:
            if at == 1:
                gl.glClearBufferiv(gl.GL_COLOR, at, np.full(4, -1, np.int32))
            else:
                gl.glClearBufferfv(gl.GL_COLOR, at, np.array(clear[at], np.float32))

    def begin_color(self, background: tuple[int, int, int]) -> None:
        """Clear the samples, and make them the draw target."""
        gl = self.gl
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.color)
        gl.glClear(gl.GL_DEPTH_BUFFER_BIT)
        linear = [*shading.LINEAR_OF_BYTE[list(background)], 1.0]
        gl.glClearBufferfv(gl.GL_COLOR, 0, np.array(linear, np.float32))

    def begin_resolve(self, views: int) -> None:
        """Make the color image the draw target, with the samples as input."""
        gl = self.gl
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.surface)
        gl.glDrawBuffers(1, [gl.GL_COLOR_ATTACHMENT0])
        gl.glViewport(0, 0, self.size, self.size * views)
        gl.glActiveTexture(gl.GL_TEXTURE0 + _SAMPLERS.index("samples"))
        gl.glBindTexture(gl.GL_TEXTURE_2D_MULTISAMPLE, self.samples)

    def read(self, views: Views, some: slice) -> None:
        """Copy the drawn images to views[some]."""
        gl, height = self.gl, self.size * (some.stop - some.start)
        gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, self.surface)

        def pixels(at: int, layout: int, kind: int, out: NDArray[Any]) -> None:
            gl.glReadBuffer(gl.GL_COLOR_ATTACHMENT0 + at)
            gl.glReadPixels(0, 0, self.size, height, layout, kind, out)

        pixels(0, gl.GL_RGB, gl.GL_UNSIGNED_BYTE, views.rgb[some])
        pixels(1, gl.GL_RED_INTEGER, gl.GL_INT, views.face_index[some])
        for name, layer in views.layers.items():
            pixels(2 + LAYERS.index(name), gl.GL_RGB, gl.GL_UNSIGNED_BYTE, layer[some])

    def _framebuffer(self) -> int:
        name: int = self.gl.glGenFramebuffers(1)
        self._objects.append((self.gl.glDeleteFramebuffers, name))
        self.gl.glBindFramebuffer(self.gl.GL_FRAMEBUFFER, name)
        return name

    def _attach(self, at: int, layout: int, samples: int) -> None:
        gl, name = self.gl, self.gl.glGenRenderbuffers(1)
        self._objects.append((gl.glDeleteRenderbuffers, name))
        gl.glBindRenderbuffer(gl.GL_RENDERBUFFER, name)
        shape = (samples, layout, self.size, self.size * self.views)
        gl.glRenderbufferStorageMultisample(gl.GL_RENDERBUFFER, *shape)
        gl.glFramebufferRenderbuffer(gl.GL_FRAMEBUFFER, at, gl.GL_RENDERBUFFER, name)

    def _expect_complete(self) -> None:
        status = self.gl.glCheckFramebufferStatus(self.gl.GL_FRAMEBUFFER)
        if status != self.gl.GL_FRAMEBUFFER_COMPLETE:
            raise DependencyError(
                "the device does not support a render target of "
                f"{self.size}×{self.size * self.views} pixels (status 0x{int(status):04x})",
                where="the EGL renderer",
                fix="use a smaller --size, another --device, or --backend embree",
            )


def _shader_error(name: str, log: str | bytes) -> DependencyError:
    text = log.decode(errors="replace") if isinstance(log, bytes) else log
    return DependencyError(
        f"the driver failed to compile {name}:\n{text.strip()}",
        where="the EGL renderer",
        fix="update the driver, choose another --device, or --backend embree",
    )
