"""Images, compose files, batch scripts and the Kubernetes job: what can be told without running
them in a cluster. `docker/check.sh` builds the images and works in them.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import dask
import pytest
import yaml
from distributed import Security

from pointcmt import __version__
from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.commands import unknown_options
from tests.stores import tree

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = [*DOCKER.glob("*.sh"), *DOCKER.glob("slurm/*.sbatch"), ROOT / "system-packages.sh"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
TLS = yaml.safe_load((DOCKER / "compose.tls.yaml").read_text())
JOB_FILE = DOCKER / "kubernetes" / "render-job.yaml"
JOB = yaml.safe_load(JOB_FILE.read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def instructions(path):
    """(instruction, argument) of a Dockerfile, in order."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def final_stage(path):
    found = instructions(path)
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def shown_runs(path):
    """Each `docker run` of a header: (its options, the image, the image's arguments)."""
    text = path.read_text().replace("\\\n#", " ")
    for line in re.findall(r"^# +docker run (.*)$", text, re.MULTILINE):
        words = shlex.split(line)
        images = ("pointcmt-render", "pointcmt-train")
        image = next(i for i, word in enumerate(words) if word.partition(":")[0] in images)
        yield words[:image], words[image], words[image + 1 :]


# Commands.


def commands():
    """Every pointcmt command in these files, its options included."""
    for path in DOCKERFILES:
        for name, argument in instructions(path):
            text = argument.partition("CMD")[2] if name == "HEALTHCHECK" else argument
            words = json.loads(text) if text.strip().startswith("[") else shlex.split(text)
            if words[0] == "pointcmt" and len(words) > 1:
                yield path.name, words
        for shown in shown_runs(path):
            yield path.name, ["pointcmt", *shown[2]]
    for name, service in COMPOSE["services"].items():
        words = [*service["entrypoint"], *service.get("command", [])]
        if words[0] == "pointcmt":
            yield name, words
    yield "render-job.yaml", ["pointcmt", *CONTAINER["args"]]
    for path in DOCKER.rglob("*"):
        if path.suffix in (".sh", ".sbatch", ".yaml"):
            text = path.read_text().replace("\\\n", " ")
            for shown in re.findall(r"pointcmt ((?:render|train|info|doctor|verify) .*)", text):
                yield path.name, ["pointcmt", *shown.split("`")[0].split()]


@pytest.mark.parametrize(
    "words", [pytest.param(w, id=f"{name}: {shlex.join(w)[:80]}") for name, w in commands()]
)
def test_commands_have_the_options_they_are_given(words):
    assert unknown_options(words) == []


# Images.


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_drop_root_and_carry_no_tools(path):
    stage = final_stage(path)
    names = [name for name, _ in stage]
    (user,) = [argument for name, argument in stage if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a name could be root's, for all one knows
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
def test_images_copy_what_is_there_and_not_ignored(path):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    for name, argument in instructions(path):
        if name == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch(source, pattern) for pattern in allowed)


def test_the_render_image_has_its_system_packages_from_one_list():
    found = dict(instructions(DOCKER / "render.Dockerfile"))
    assert not any("apt-get install" in argument for argument in found.values())
    assert "HEALTHCHECK" in found
    variables = " ".join(
        argument for name, argument in final_stage(DOCKER / "render.Dockerfile") if name == "ENV"
    )
    assert "NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility" in variables
    assert "NVIDIA_VISIBLE_DEVICES" not in variables  # GPUs are for the user to give


BASE = re.compile(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}")


def pinned():
    (line,) = re.findall(r"^BASE_IMAGE=(.*)$", (DOCKER / ".env").read_text(), re.MULTILINE)
    return line


def test_the_base_image_is_pinned_by_its_digest_in_one_place():
    assert BASE.fullmatch(pinned())
    for path in DOCKERFILES:
        own = {"${BASE_IMAGE} AS system", "system AS build", "system"}
        assert {argument for name, argument in instructions(path) if name == "FROM"} == own
        assert instructions(path)[0] == ("ARG", "BASE_IMAGE")  # no default: that were another place
    for service in COMPOSE["services"].values():
        assert service["build"]["args"]["BASE_IMAGE"].startswith("${BASE_IMAGE:?")
    texts = [path for path in DOCKER.rglob("*") if path.is_file() and path.name != ".env"]
    assert not [path for path in texts if "@sha256:" in path.read_text()]


def test_every_image_of_ours_is_named_by_the_version():
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


@pytest.fixture
def tools(tmp_path):
    """Make stand-ins for commands, to be found before the real ones: `tools(name, body)`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, body):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    make.environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return make


@pytest.mark.parametrize("name", ["render", "train"])
def test_an_image_is_built_on_the_pinned_base_and_named_by_the_version(tools, name):
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
def test_another_base_is_pinned_by_what_the_registry_answers(
    tools, tmp_path, arguments, answer, code
):
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
def test_the_command_that_a_header_shows_works_for_an_ordinary_user_s_folder(path):
    """The image's own user may not write there; whoever owns the folder may."""
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
        if not volume.startswith("$PWD"):  # a new volume takes over the mode of its folder
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


def test_the_health_check_is_light_and_writes_nowhere(tmp_path):
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


# Services and jobs.


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_services_have_no_rights_and_no_open_ports(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == "${USER_ID:-10001:10001}"
    assert not {"ports", "network_mode", "privileged", "cap_add", "pid", "ipc"} & set(service)
    for volume in service["volumes"]:
        assert volume.endswith((":/meshes:ro", ":/stores"))
    build = service["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() in DOCKERFILES


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_speaks_tls_with_what_the_script_writes(name):
    """As dask itself understands the variables."""
    service = TLS["services"][name]
    given = dask.config.collect_env(service["environment"])
    with dask.config.set(dask.config.merge(dask.config.config, given)):
        assert dask.config.get("distributed.comm.default-scheme") == "tls"
        security = Security()
    assert security.require_encryption is True
    assert "://" not in " ".join(COMPOSE["services"][name]["entrypoint"])
    (folder,) = service["volumes"]
    assert folder.endswith(":/certificates:ro")
    assert security.tls_ca_file == "/certificates/ca.pem"
    for role in ("scheduler", "worker", "client"):
        arguments = security.get_tls_config_for_role(role)
        assert arguments["cert"] == "/certificates/cluster.pem"
        assert arguments["key"] == "/certificates/cluster.key"


def kubernetes_job(pods):
    """The job as the command in its header makes it, for a number of pods."""
    shown = re.search(r"#   (sed .*) \| kubectl apply -f -", JOB_FILE.read_text())[1]
    command = shown.replace("16", str(pods))
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("pods", [1, 16, 250])
def test_one_number_decides_how_many_pods_share_a_store(pods):
    spec = kubernetes_job(pods)["spec"]
    assert (spec["completions"], spec["parallelism"]) == (pods, pods)
    (container,) = spec["template"]["spec"]["containers"]
    assert [a for a in container["args"] if "num-shards" in a] == [f"--num-shards={pods}"]
    assert not isinstance(JOB["spec"]["completions"], int), "a forgotten number must not work"


def test_the_kubernetes_job_is_confined_and_covers_all_shards():
    spec = JOB["spec"]
    assert spec["completionMode"] == "Indexed"
    assert f"--num-shards={spec['completions']}" in CONTAINER["args"]
    assert "--shard-index=$(SHARD_INDEX)" in CONTAINER["args"]
    (index,) = CONTAINER["env"]
    assert index["name"] == "SHARD_INDEX"
    path = index["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert (POD["restartPolicy"], POD["automountServiceAccountToken"]) == ("Never", False)
    assert POD["securityContext"]["runAsNonRoot"] is True
    user = dict(final_stage(DOCKER / "render.Dockerfile"))["USER"]
    assert f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" == user
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert CONTAINER["resources"]["requests"] == CONTAINER["resources"]["limits"]
    mounted = {mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert mounted == {volume["name"] for volume in POD["volumes"]}


# Scripts.


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(path):
    shell = path.read_text().splitlines()[0].removeprefix("#!")
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(path, os.X_OK) == (path.suffix == ".sh")


@pytest.fixture
def submit(tmp_path):
    """Begin one task of a batch script's array, with stand-ins for SLURM's own commands."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"',
        "pointcmt": f'exec "{sys.executable}" -m pointcmt "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)

    begun = []

    def begin(script, indices, index, *arguments, **more):
        task = {
            "SLURM_ARRAY_TASK_ID": index,
            "SLURM_ARRAY_TASK_MIN": indices[0],
            "SLURM_ARRAY_TASK_MAX": indices[-1],
            "SLURM_ARRAY_TASK_COUNT": len(indices),
            "SLURM_CPUS_PER_TASK": 1,
            **more,
        }
        process = subprocess.Popen(
            ["bash", DOCKER / "slurm" / script, *map(str, arguments)],
            env={
                **os.environ,
                **{name: str(value) for name, value in task.items()},
                "PATH": f"{tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


SMALL = (
    "--dataset", "toy", "--limit", "7", "--rig", "ortho6", "--size", "32", "--points", "64",
    "--shard-size", "2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "more", "limit"),
    [
        ({"SLURM_MEM_PER_NODE": 16384}, (), "1.75"),
        ({"SLURM_MEM_PER_CPU": 4096}, (), "3.5"),
        ({"SLURM_MEM_PER_NODE": 0}, (), None),  # all that the node has: pointcmt shares it out
        ({}, (), None),
        ({}, ("--memory-limit", "3"), "3"),
        ({"SLURM_MEM_PER_NODE": 16384}, ("--memory-limit", "3"), "3"),
    ],
)
def test_each_worker_of_an_array_may_take_its_part_of_the_memory(
    submit, tmp_path, memory, more, limit
):
    """As Click has it, the last of a repeated option counts."""
    (tmp_path / "bin/pointcmt").write_text('#!/bin/sh\necho "$@" >&2\n')
    task = submit("render-array.sbatch", (0,), 0, *more, SLURM_CPUS_PER_TASK=8, **memory)
    words = task.communicate(timeout=60)[1].split()
    limits = [words[i + 1] for i, word in enumerate(words) if word == "--memory-limit"]
    assert (limits or [None])[-1] == limit


def test_an_array_of_two_renders_a_whole_store(submit, tmp_path):
    """Both at once; the same bytes as one job's."""
    arguments = (*SMALL, "--out", tmp_path / "S")
    running = [submit("render-array.sbatch", (0, 1), i, *arguments) for i in (0, 1)]
    for task in running:
        _, said = task.communicate(timeout=300)
        assert task.returncode == 0, said
    assert verify(str(tmp_path / "S")).ok
    assert not ViewStore.open(tmp_path / "S").pending("render")
    alone = [sys.executable, "-m", "pointcmt", "render", *SMALL, "--out", tmp_path / "T"]
    subprocess.run([*alone, "--workers", "1"], check=True, capture_output=True)
    assert tree(tmp_path / "S") == tree(tmp_path / "T")


@pytest.mark.parametrize("indices", [(1, 2), (0, 2)], ids=["from 1", "a gap"])
def test_an_array_that_leaves_shards_to_nobody_is_refused(submit, indices, tmp_path):
    arguments = (*SMALL, "--out", tmp_path / "S")
    task = submit("render-array.sbatch", indices, indices[-1], *arguments)
    _, said = task.communicate(timeout=60)
    assert task.returncode == 2
    assert "some shards are nobody's" in said
    assert not (tmp_path / "S").exists()


@pytest.mark.parametrize(
    ("given", "processes", "threads"),
    [
        ({"SLURM_GPUS_ON_NODE": 4}, "4", "8"),
        ({"SLURM_GPUS_ON_NODE": 0}, "1", "32"),  # sbatch --gpus-per-node=0
        ({}, "1", "32"),
        ({"SLURM_GPUS_ON_NODE": 8, "SLURM_CPUS_PER_TASK": 4}, "8", "1"),
    ],
)
def test_training_starts_a_process_for_each_gpu_or_one_without(
    tools, tmp_path, given, processes, threads
):
    tools("scontrol", "echo node0")
    tools("srun", 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"')
    tools("torchrun", 'echo "$OMP_NUM_THREADS" "$@"')
    job = {"SLURM_JOB_ID": 7, "SLURM_JOB_NODELIST": "node0", "SLURM_NNODES": 1, "SLURM_NODEID": 0}
    job |= {"SLURM_CPUS_PER_TASK": 32, **given}
    environment = {**tools.environment, **{name: str(value) for name, value in job.items()}}
    command = ["bash", DOCKER / "slurm/train.sbatch", "student", "--data", "S", "--out", "RUN"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == threads
    assert words[words.index("--nproc-per-node") + 1] == processes
    assert words[words.index("-m") + 1 :] == [
        "pointcmt",
        "train",
        "student",
        "--data",
        "S",
        "--out",
        "RUN",
    ]


def test_certificates_are_the_owners_alone(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    script = [DOCKER / "make-certificates.sh", tmp_path / "tls", "2"]
    assert subprocess.run(script, capture_output=True).returncode == 0
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {
        "ca.pem", "cluster.pem", "cluster.key",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "tls").iterdir())
    key = (tmp_path / "tls" / "cluster.key").read_bytes()
    again = subprocess.run(script, capture_output=True, text=True)
    assert again.returncode == 1
    assert "choose another folder" in again.stderr
    assert (tmp_path / "tls" / "cluster.key").read_bytes() == key
