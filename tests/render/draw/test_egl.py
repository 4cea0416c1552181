"""EGL devices and errors: devices are chosen as requested, failures have a cause and a fix."""

import ctypes
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import UsageError
from pointcmt.extras import install
from pointcmt.render.draw.egl import contexts
from pointcmt.render.draw.egl.contexts import Device
from tests.commands import pointcmt
from tests.stores import tree

TOY = ("render", "--dataset", "toy", "--rig", "ortho6", "--size", "48", "--points", "64")


def device(index, software=False, cuda=None):
    return Device(index, None, software, cuda)


def test_gpus_with_cuda_numbers_are_shared_evenly():
    gpus = [device(0, cuda=0), device(1, cuda=1), device(2), device(3, software=True)]
    assert [contexts.share(gpus, worker).index for worker in range(5)] == [0, 1, 0, 1, 0]
    assert contexts.share(gpus[2:], 0) is None
    assert contexts.choose(gpus, "3").software
    assert [contexts.choose(gpus, "0, 2", worker).index for worker in range(4)] == [0, 2, 0, 2]


@pytest.mark.parametrize("name", ["9", "-1", "gpu", "", "0,", "0,9"])
def test_a_missing_device_is_refused_with_a_list_of_devices(name):
    with pytest.raises(UsageError) as raised:
        contexts.choose([device(0, cuda=0), device(1, software=True)], name)
    assert "0: GPU (CUDA 0); 1: software" in raised.value.fix
    assert raised.value.where == "--device"


def test_devices_are_listed_in_cuda_order():
    """EGL lists them in another order, and one GPU twice: through its own driver and Mesa's."""
    listed = [
        ("s", True, None, ""),
        ("b", False, 1, "/dev/dri/card1"),
        ("a", False, 0, ""),
        ("b again", False, 1, "/dev/dri/card1"),
        ("mesa's b", False, None, "/dev/dri/card1"),
        ("c", False, None, "/dev/dri/card2"),
    ]
    assert [name for name, *_ in contexts._in_order(listed)] == ["a", "b", "c", "s"]


@pytest.mark.parametrize(
    ("answers", "number", "expected"), [(1, 3, 3), (1, 0, 0), (0, 5, None), (1, -1, None)]
)
def test_the_cuda_number_of_a_device_is_read(answers, number, expected):
    def query(handle, attribute, value):
        assert (handle, attribute) == (0xAB, contexts.EGL_CUDA_DEVICE_NV)
        value[0] = number
        return answers

    kind = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
    )
    assert contexts._cuda_number(kind(query), 0xAB) == expected


@pytest.mark.gpu
def test_every_gpu_opens_and_nvidia_gpus_have_cuda_numbers():
    gpus = [device for device in contexts.list_devices() if not device.software]
    assert gpus
    for gpu in gpus:
        context = contexts.Context(gpu)
        assert not context.software
        assert ("nvidia" not in context.renderer.lower()) or gpu.cuda is not None
        context.close()


def probe(**environment):
    """The output of `doctor` in a process with these variables."""
    done = subprocess.run(
        [sys.executable, "-m", "pointcmt.render.draw.egl.probe"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def has_gpu():
    return not contexts.list_devices()[0].software


def test_doctor_names_a_working_device():
    found = probe()
    assert found["works"]
    assert found["devices"][0].startswith("device 0: ")


@pytest.mark.parametrize(
    ("environment", "cause", "remedy"),
    [
        ({"__EGL_VENDOR_LIBRARY_DIRS": "/nowhere"}, "EGL", "__EGL_VENDOR_LIBRARY_DIRS=/nowhere"),
        ({"__EGL_VENDOR_LIBRARY_FILENAMES": "/no.json"}, "EGL", "unset it"),
        ({"LIBGL_DRIVERS_PATH": "/nowhere"}, "does not work", "libgl1-mesa-dri"),
        ({"MESA_GL_VERSION_OVERRIDE": "2.1"}, "3.3", "apt-get install"),
        ({"MESA_EXTENSION_OVERRIDE": "-GL_ARB_clip_control"}, "GL_ARB_clip_control", "driver"),
        ({"PYOPENGL_PLATFORM": "glx"}, "'glx' instead of EGL", "unset it"),
    ],
)
def test_doctor_explains_a_broken_egl(environment, cause, remedy):
    """Broken on purpose with variables of Mesa and libEGL."""
    if any("MESA" in name or "LIBGL" in name for name in environment) and has_gpu():
        pytest.skip("a GPU's own driver does not heed Mesa's switches")
    found = probe(**environment)
    assert not found["works"]
    assert cause in " ".join(found["devices"])
    assert remedy in found["remedy"]


def test_without_pyopengl_the_fix_is_to_install_it(tmp_path):
    (tmp_path / "OpenGL.py").write_text("raise ImportError('no OpenGL here')")
    found = probe(PYTHONPATH=str(tmp_path))
    assert not found["works"]
    assert found["remedy"].startswith(install("render"))


@pytest.mark.parametrize(
    ("backend", "remedy"), [("egl", "__EGL_VENDOR_LIBRARY_DIRS"), ("pyrender", "pointcmt doctor")]
)
def test_without_egl_rendering_fails_with_a_fix_and_blames_no_shape(tmp_path, backend, remedy):
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_DIRS": "/nowhere"}
    command = (*TOY, "--limit", "2", "--out", tmp_path / "S", "--backend", backend)
    done = pointcmt(*command, env=environment)
    assert done.returncode == 1
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert not ViewStore.open(tmp_path / "S").committed("render")
    again = pointcmt(*command)
    assert again.returncode == 0, again.stderr  # and resumes once that is fixed


def test_an_unknown_device_is_refused_with_a_list_of_devices(tmp_path):
    command = (*TOY, "--limit", "2", "--out", tmp_path / "S", "--backend", "egl")
    done = pointcmt(*command, "--device", "9")
    assert done.returncode == 2
    assert "unknown EGL device '9'" in done.stderr
    assert "0: " in done.stderr


FORKED = """
import os, sys
import numpy as np
from pointcmt.cameras import find_rig
from pointcmt.errors import PointcmtError
from pointcmt.render.draw.egl import contexts
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.egl.rasterizer import Rasterizer
from pointcmt.render.draw.raycaster import RayCaster
from tests.render import shapes

device = contexts.list_devices()[0]
rasterizer = Rasterizer(device)
caster, config = RayCaster(shapes.box()), RenderConfig(find_rig("ortho6"), size=16)
sys.stdout.flush()
child = os.fork()
if child == 0:
    for attempt in (
        lambda: Rasterizer(device),
        lambda: rasterizer.render(caster.surface, caster.faces, config.rig.cameras(16), config),
    ):
        try:
            attempt()
        except PointcmtError as error:
            print(error.what, "|", error.fix, flush=True)
    os._exit(0)
os.waitpid(child, 0)
rasterizer.render(caster.surface, caster.faces, config.rig.cameras(16), config)
print("the parent draws on")
"""


def test_rendering_in_a_forked_child_is_refused():
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("fork" in line and "spawn" in line for line in lines[:2])
    assert lines[2] == "the parent draws on"


THEN_TRAINED = """
from pointcmt.render.draw.egl import contexts
contexts.Context(contexts.list_devices()[-1])
import torch
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
print("trained")
"""


def test_a_process_that_has_rendered_can_train():
    """Mesa and triton each contain a copy of LLVM."""
    command = [sys.executable, "-W", "ignore", "-c", THEN_TRAINED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "trained\n", done.stderr


def test_a_store_rendered_with_egl_verifies(tmp_path):
    for workers in (1, 2):
        done = pointcmt(
            *TOY, "--limit", 10, "--out", tmp_path / f"S{workers}",
            "--backend", "egl", "--workers", workers,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "rendering with egl (requested: " in done.stderr
    assert tree(tmp_path / "S1") == tree(tmp_path / "S2")
    assert verify(str(tmp_path / "S1")).ok
    outcome = ViewStore.open(tmp_path / "S1").outcomes()[0]
    assert outcome.backend == "egl"
    assert outcome.backend_reason.startswith("requested: ")


def test_auto_reports_its_choice_and_the_reason(tmp_path):
    done = pointcmt(*TOY, "--limit", 2, "--out", tmp_path / "S")
    outcome = ViewStore.open(tmp_path / "S").outcomes()[0]
    assert f"rendering with {outcome.backend} ({outcome.backend_reason})" in done.stderr
    assert outcome.backend in ("egl", "embree")
    assert "GPU" in outcome.backend_reason


@pytest.mark.slow
@pytest.mark.parametrize("background", ["#ff00ff"])
def test_pyrender_draws_the_same_silhouettes_with_the_same_cameras(tmp_path, background):
    """An independent renderer: color other than the background where, and only where, we cover."""
    shared = (*TOY, "--limit", 10, "--background", background, "--size", 96)
    for backend in ("egl", "pyrender"):
        done = pointcmt(*shared, "--out", tmp_path / backend, "--backend", backend)
        assert done.returncode == 0, done.stderr
    ours, theirs = (ViewStore.open(tmp_path / backend) for backend in ("egl", "pyrender"))
    assert theirs.outcomes()[0].backend == "pyrender"
    assert verify(str(tmp_path / "pyrender")).ok
    np.testing.assert_array_equal(ours.read("depth", 0) > 0, ours.read("face_index", 0) >= 0)
    for shape in range(10):
        mask = ours.read("face_index", shape) >= 0
        empty = np.all(theirs.read("rgb", shape) == (255, 0, 255), axis=-1)
        wide = np.pad(mask, ((0, 0), (1, 1), (1, 1)), mode="edge")
        near = [wide[:, i : i + 96, j : j + 96] for i in range(3) for j in range(3)]
        inside, outside = np.all(near, axis=0), ~np.any(near, axis=0)
        assert np.mean(~empty[inside]) >= 0.999
        assert np.mean(empty[outside]) >= 0.999
