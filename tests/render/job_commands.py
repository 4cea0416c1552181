"""Run whole jobs through the command line, and write meshes for them."""

import json

from tests.commands import pointcmt

SMALL = ("--rig", "ortho6", "--size", "48", "--points", "100", "--shard-size", "2")


def render(meshes, out, *more):
    return pointcmt("render", "--dataset", "folder", "--root", meshes, "--out", out, *SMALL, *more)


def facts(done):
    """The JSON that a command printed with --json."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_off(path, mesh):
    lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
    lines += [" ".join(map(repr, v)) for v in mesh.vertices.tolist()]
    lines += [" ".join(map(str, [3, *face])) for face in mesh.faces.tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
