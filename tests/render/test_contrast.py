"""White shapes on the white background are seen, with every back end."""

from dataclasses import replace

import numpy as np
import pytest

from pointcmt.cameras import find_rig
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.jobs.backends import make_renderer
from pointcmt.shapes import Material
from tests.render import shapes


@pytest.mark.parametrize("rig", ["dodeca20", "ortho6"])
@pytest.mark.parametrize("backend", ["embree", "egl", "pyrender"])
def test_a_white_shape_stands_out_from_the_white_background(backend, rig):
    for mesh in (shapes.box(), shapes.sphere(24)):
        white = replace(
            mesh,
            materials=(Material("white", (1.0, 1.0, 1.0)),),
            face_material=np.zeros(len(mesh.faces), np.int32),
        )
        config = RenderConfig(find_rig(rig), size=96, backend=backend, antialias=False)
        views = make_renderer(backend).render(
            RayCaster(white), config.rig.cameras(config.size), config
        )
        assert (views.face_index >= 0).any(axis=(1, 2)).all()
        assert views.faint_share((255, 255, 255)) <= 0.01
