"""Dockerfiles and the scripts that build images; `docker/check.sh` builds and uses the images."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pointcmt import __version__
from tests.docker.files import (
    BASE,
    COMPOSE,
    CONTAINER,
    DOCKER,
    DOCKERFILES,
    ROOT,
    final_stage,
    instructions,
    pinned,
    shown_runs,
)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_do_not_run_as_root_and_contain_no_build_tools(path):
    stage = final_stage(path)
    names = [name for name, _ in stage]
    (user,) = [argument for name, argument in stage if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a name could be an alias of root
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    assert dict(stage)["ENTRYPOINT"] == '["pointcmt"]'
    for name, argument in instructions(path):
        if name == "RUN" and "pip " in argument and " install " in argument:
            assert "--no-cache-dir" in argument
            assert "--constraint constraints.txt" in argument
        if name == "RUN" and ("apt-get install" in argument or "system-packages.sh" in argument):
            assert argument.endswith("apt-get clean && rm -rf /var/lib/apt/lists/*")
    assert not any("pip" in argument for _, argument in stage)
    assert "://" not in path.read_text()  # no registry, no index


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_copied_files_exist_and_are_not_ignored_by_docker(path):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    for name, argument in instructions(path):
        if name == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch(source, pattern) for pattern in allowed)


def test_the_render_image_takes_system_packages_from_one_list():
    found = dict(instructions(DOCKER / "render.Dockerfile"))
    assert not any("apt-get install" in argument for argument in found.values())
    assert "HEALTHCHECK" in found
    variables = " ".join(
        argument for name, argument in final_stage(DOCKER / "render.Dockerfile") if name == "ENV"
    )
    assert "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility" in variables
    assert "NVIDIA_VISIBLE_DEVICES" not in variables  # the user chooses the GPUs


def test_the_base_image_is_pinned_by_its_digest_in_one_place():
    assert BASE.fullmatch(pinned())
    for path in DOCKERFILES:
        own = {"${BASE_IMAGE} AS system", "system AS build", "system"}
        assert {argument for name, argument in instructions(path) if name == "FROM"} == own
        # There is no default, which would be a second place.
        assert instructions(path)[0] == ("ARG", "BASE_IMAGE")
    for service in COMPOSE["services"].values():
        assert service["build"]["args"]["BASE_IMAGE"].startswith("${BASE_IMAGE:?")
    texts = [path for path in DOCKER.rglob("*") if path.is_file() and path.name != ".env"]
    assert not [path for path in texts if "@sha256:" in path.read_text()]


def test_our_images_are_tagged_with_the_version():
    pages = [*DOCKER.rglob("*"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    found = []
    for path in (path for path in pages if path.is_file()):
        text = path.read_text()
        assert ":latest" not in text.replace("*:latest |", "") or path.name == "pin-base.sh", path
        found += re.findall(r"pointcmt-(?:render|train)(:[\w.]+)\b", text)
        untagged = r"(?:image: |docker run .*)pointcmt-(?:render|train)(?![\w.:-])"
        assert not re.search(untagged, text), path
    assert set(found) == {f":{__version__}"}
    assert CONTAINER["image"] == COMPOSE["services"]["worker"]["image"]


@pytest.mark.parametrize("name", ["render", "train"])
def test_build_script_uses_the_pinned_base_and_tags_the_version(tools, name):
    tools("docker", 'printf "%s\\n" "$PWD" "$@"')
    command = [DOCKER / "build.sh", name, "--no-cache"]
    done = subprocess.run(command, env=tools.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, *words = done.stdout.splitlines()
    assert Path(where) == ROOT
    assert words == [
        "build",
        *("--file", f"docker/{name}.Dockerfile"),
        *("--build-arg", f"BASE_IMAGE={pinned()}"),
        *("--tag", f"pointcmt-{name}:{__version__}"),
        *("--no-cache", "."),
    ]
    wrong = subprocess.run([DOCKER / "build.sh", "other"], capture_output=True, text=True)
    assert (wrong.returncode, "usage" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "answer", "code"),
    [
        ((), "Name: x\\nDigest:    sha256:" + "ab" * 32, 0),
        (("debian:trixie-20260918-slim",), "Digest: sha256:" + "cd" * 32, 0),
        (("debian:latest",), "Digest: sha256:" + "ab" * 32, 2),
        (("debian",), "Digest: sha256:" + "ab" * 32, 2),
        (("registry:5000/debian",), "Digest: sha256:" + "ab" * 32, 2),
        (("debian:1; rm",), "Digest: sha256:" + "ab" * 32, 2),
        ((), "Digest: sha256:abc", 1),
        ((), "", 1),
    ],
)
def test_pin_script_writes_the_digest_from_the_registry(tools, tmp_path, arguments, answer, code):
    copy = tmp_path / "docker"
    copy.mkdir()
    for name in ("pin-base.sh", ".env"):
        shutil.copy(DOCKER / name, copy / name)
    tools("docker", f'echo "$@" >"{tmp_path}/asked"\nprintf "{answer}\\n"')
    before = (copy / ".env").read_text()
    command = [copy / "pin-base.sh", *arguments]
    done = subprocess.run(command, env=tools.environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if code:
        assert (copy / ".env").read_text() == before
        assert done.stderr
        return
    image = arguments[0] if arguments else pinned().partition("@")[0]
    assert (tmp_path / "asked").read_text() == f"buildx imagetools inspect {image}\n"
    digest = answer.rpartition(" ")[2]
    assert (copy / ".env").read_text().splitlines()[-1] == f"BASE_IMAGE={image}@{digest}"
    assert {path.name for path in copy.iterdir()} == {"pin-base.sh", ".env"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_documented_docker_commands_write_to_a_users_folder(path):
    """The image's own user cannot write there, so the command sets the user's id."""
    runs = list(shown_runs(path))
    assert runs
    for options, image, _ in runs:
        user = options[options.index("--user") + 1]
        assert user == "$(id -u):$(id -g)"
        assert options[options.index("-v") + 1] == "$PWD:/data"
        assert image == f"pointcmt-{path.stem}:{__version__}"
    stage = final_stage(path)
    (workdir,) = [argument for name, argument in stage if name == "WORKDIR"]
    assert workdir == "/data"
    volumes = [options[i + 1] for options, *_ in runs for i, w in enumerate(options) if w == "-v"]
    made = " ".join(argument for name, argument in stage if name == "RUN")
    for volume in volumes:
        if not volume.startswith("$PWD"):  # a new volume gets the mode of its folder
            assert f"install -d -m 1777 {volume.partition(':')[2]}" in made


NO_WRITING = """
import os, sys

def refuse(event, arguments):
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    writes = event == "open" and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "socket.connect"):
        os.write(2, f"{event} {arguments}\\n".encode())
        os._exit(99)

sys.addaudithook(refuse)
"""


def test_the_health_check_loads_little_and_writes_nothing(tmp_path):
    (check,) = [a for n, a in instructions(DOCKER / "render.Dockerfile") if n == "HEALTHCHECK"]
    words = json.loads(check.partition("CMD")[2])
    (tmp_path / "sitecustomize.py").write_text(NO_WRITING)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    assert words[0] == "pointcmt"
    command = [sys.executable, "-X", "importtime", "-m", *words]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"numpy", "numba", "open3d", "OpenGL", "tensorstore", "torch", "dask"}
    wrong = [*command[:1], "-c", f"open({str(tmp_path / 'x')!r}, 'w')"]
    assert subprocess.run(wrong, env=environment, capture_output=True).returncode == 99
