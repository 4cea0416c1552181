"""`--backend pyrender`: color by pyrender's lights and materials, the rest by the CPU renderer.

Faces and depth come from the CPU renderer (pyrender's depth is multisampled, and it gives no face
ids), so a store keeps every guarantee. One renderer is kept for the whole job.
"""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointcmt.cameras import Camera
from pointcmt.errors import DependencyError
from pointcmt.extras import install
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.scene import Scene
from pointcmt.render.draw.views import Views
from pointcmt.shapes import Material, Mesh

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
NO_OPENGL = "run `pointcmt doctor`: its advice on EGL also applies to pyrender"
LIGHT = 2.0  # intensity of the light at the camera: white surfaces stay below 245
AMBIENT = 0.2
# World units along its normal that each face is moved: of coincident faces, the one turned to the
# camera is then nearer by more than a depth buffer's steps.
LIFT = 1e-4


class Pyrender:
    """Draw with pyrender. Raises DependencyError if it is missing or finds no OpenGL."""

    backend = "pyrender"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        try:
            import pyrender
        except Exception as error:  # AttributeError: pyglet without its libraries
            raise DependencyError(
                f"pyrender cannot be loaded: {error}",
                where="--backend pyrender",
                fix=f"{install('pyrender')}; then run `apt-get install libegl1 libgl1 libxrender1`",
            ) from error
        self._pyrender = pyrender
        self._size = 0
        self._renderer: Any = None

    def render(self, scene: Scene, camera: Camera, config: RenderConfig) -> Views:
        """Draw the scene from cameras [V]."""
        exact = draw_views(scene, camera, replace(config, antialias=False))
        theirs = self._scene(scene, config)
        lens = self._pyrender.IntrinsicsCamera(1, 1, 0, 0, znear=1e-2, zfar=1e3)
        eye = theirs.add(lens)
        light = theirs.add(self._pyrender.DirectionalLight(intensity=LIGHT))
        rgb = np.empty_like(exact.rgb)
        every = self._pyrender.RenderFlags
        flags = every.NONE if config.cull == "back" else every.SKIP_CULL_FACES
        for view in range(len(camera)):
            K = camera.K[view]
            lens.fx, lens.fy, lens.cx, lens.cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
            pose = np.linalg.inv(camera.world_to_camera[view]) @ OPENCV_TO_OPENGL
            theirs.set_pose(eye, pose)
            theirs.set_pose(light, pose)
            rgb[view] = self._draw(theirs, config.size, flags)
        return replace(exact, rgb=rgb)

    def _draw(self, scene: Any, size: int, flags: Any) -> NDArray[np.uint8]:
        if size != self._size:
            try:
                self._renderer = self._pyrender.OffscreenRenderer(size, size)
            except Exception as error:  # its platforms raise whatever their libraries raise
                raise DependencyError(
                    f"pyrender cannot use OpenGL: {error}",
                    where="--backend pyrender",
                    fix=NO_OPENGL,
                ) from error
            self._size = size
        image, _ = self._renderer.render(scene, flags=flags)
        return image[..., :3]

    def _scene(self, ours: Scene, config: RenderConfig) -> Any:
        background = np.array([*config.background, 255]) / 255
        scene = self._pyrender.Scene(bg_color=background, ambient_light=[AMBIENT] * 3)
        mesh, material_of = ours.mesh, ours.mesh.face_material
        if material_of is None:
            material_of = np.full(len(mesh.faces), -1)
        for index in np.unique(material_of):
            material = (*mesh.materials, Material())[index]
            faces = np.flatnonzero(material_of == index)
            scene.add(self._part(mesh, ours.surface.corner_normals, faces, material))
        return scene

    def _part(
        self,
        mesh: Mesh,
        corner_normals: NDArray[np.float32],
        faces: NDArray[np.intp],
        material: Material,
    ) -> Any:
        """Return the faces of one material as a pyrender mesh. corner_normals: of a `Surface`."""
        corners = mesh.vertices[mesh.faces[faces]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
        corners += LIFT * normals[:, None]
        normals = np.repeat(normals, 3, axis=0)
        if len(corner_normals):
            own = corner_normals[faces].reshape(-1, 3)
            normals = np.where(own.any(axis=1, keepdims=True), own, normals)
        colors = texture = None
        if mesh.face_colors is not None:
            colors = np.repeat(mesh.face_colors[faces], 3, axis=0)
        if mesh.vertex_colors is not None:
            colors = mesh.vertex_colors[mesh.faces[faces]].reshape(-1, 3)
        if material.texture is not None and mesh.uv is not None:
            texture = self._texture(material)
            colors = colors if material.tinted else None  # they multiply the texture
        plain = colors is not None or texture is not None
        primitive = self._pyrender.Primitive(
            positions=corners.reshape(-1, 3),
            normals=normals,
            texcoord_0=None if texture is None else mesh.uv[faces].reshape(-1, 2),  # type: ignore[index]
            color_0=colors,
            material=self._pyrender.MetallicRoughnessMaterial(
                baseColorFactor=[1.0] * 4 if plain else [*material.color, 1.0],
                baseColorTexture=texture,
                metallicFactor=0.0,
                roughnessFactor=0.9,
                doubleSided=False,
            ),
        )
        return self._pyrender.Mesh([primitive])

    def _texture(self, material: Material) -> Any:
        """Return a material's texture; modes outside of 0..1 are numbered as in OpenGL."""
        modes = {"repeat": 10497, "clamp": 33071, "mirror": 33648}
        u, v = (modes[mode] for mode in material.wrap)
        sampler = self._pyrender.Sampler(wrapS=u, wrapT=v)
        return self._pyrender.Texture(
            sampler=sampler, source=material.texture, source_channels="RGB"
        )
