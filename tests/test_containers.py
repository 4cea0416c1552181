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
from distributed.security import Security

from pointcmt.datasets.store import ViewStore
from pointcmt.datasets.verify import verify
from tests.commands import unknown_options
from tests.render.test_pipeline import tree

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = [*DOCKER.glob("*.sh"), *DOCKER.glob("slurm/*.sbatch"), ROOT / "system-packages.sh"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
TLS = yaml.safe_load((DOCKER / "compose.tls.yaml").read_text())
JOB = yaml.safe_load((DOCKER / "kubernetes" / "render-job.yaml").read_text())
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


# Commands.


def commands():
    """Every pointcmt command in these files, its options included."""
    for path in DOCKERFILES:
        for name, argument in instructions(path):
            text = argument.partition("CMD")[2] if name == "HEALTHCHECK" else argument
            words = json.loads(text) if text.strip().startswith("[") else shlex.split(text)
            if words[0] == "pointcmt" and len(words) > 1:
                yield path.name, words
        for shown in re.findall(r"pointcmt-(?:render|train) ([a-z].*)", path.read_text()):
            yield path.name, ["pointcmt", *shlex.split(shown)]
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
        ({"SLURM_MEM_PER_NODE": 0}, (), "0"),
        ({}, (), "0"),
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
    assert limits[-1] == limit


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
