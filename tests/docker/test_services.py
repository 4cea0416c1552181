"""Compose files, the Kubernetes job, and the commands that all files in docker/ give."""

import json
import re
import shlex

import dask
import pytest
from distributed import Security

from tests.commands import unknown_options
from tests.docker.files import (
    COMPOSE,
    CONTAINER,
    DOCKER,
    DOCKERFILES,
    JOB,
    POD,
    TLS,
    final_stage,
    instructions,
    kubernetes_job,
    shown_runs,
)


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
def test_commands_in_docker_files_use_existing_options(words):
    assert unknown_options(words) == []


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_services_have_no_capabilities_and_no_open_ports(name):
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
def test_every_service_uses_tls_with_the_scripts_certificates(name):
    """The variables are interpreted by dask itself."""
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


@pytest.mark.parametrize("pods", [1, 16, 250])
def test_one_number_sets_how_many_pods_share_a_store(pods):
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
