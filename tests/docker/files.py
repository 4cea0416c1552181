"""The files in docker/, read for the tests."""

import re
import shlex
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
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


BASE = re.compile(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}")


def pinned():
    (line,) = re.findall(r"^BASE_IMAGE=(.*)$", (DOCKER / ".env").read_text(), re.MULTILINE)
    return line


def kubernetes_job(pods):
    """Return the job for a number of pods, as made by the command in its header."""
    shown = re.search(r"#   (sed .*) \| kubectl apply -f -", JOB_FILE.read_text())[1]
    command = shown.replace("16", str(pods))
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    return yaml.safe_load(done.stdout)
