"""`render` ends with the number of shapes by kind of note."""

import json
import subprocess
import sys

import pytest

from pointcmt.datasets.store.documents import kind_of_note

OBJ = "mtllib {0}.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n"


@pytest.mark.parametrize(
    ("note", "kind"),
    [
        ("texture of material 'oak': images/oak.png is missing", "texture of material …"),
        ("texture ../images/oak.png is missing", "texture … is missing"),
        ("material file oak.mtl is missing", "material file … is missing"),
        (r"texture D:\work\oak.png is missing", "texture … is missing"),
        ("texture oak.1002.png is missing", "texture … is missing"),
        ("texture oak.<UDIM>.png: only UDIM tile 1001 is shown", "texture …"),
        ("texture t.exr cannot be decoded: OpenEXR …", "texture … cannot be decoded"),
        ("oak.png is not where its model says: ../oak.png is used",
         "… is not where its model says"),
        ("62% of what is seen is white", "… of what is seen is white"),
        ("1,234 faces with 2 corners skipped", "… faces with … corners skipped"),
        ("a note without particulars", "a note without particulars"),
    ],
)  # fmt: skip
def test_a_kind_of_note_has_no_names_and_no_numbers(note, kind):
    assert kind_of_note(note) == kind


def test_render_prints_and_returns_the_number_of_shapes_by_kind_of_note(tmp_path):
    (tmp_path / "M").mkdir()
    for name, more in (("a", ""), ("b", ""), ("c", "f 1 2\n"), ("d", "f 1 2\nf 2 3\n")):
        (tmp_path / f"M/{name}.obj").write_text(OBJ.format(name) + more)
        texture = "" if name == "d" else f"map_Kd {name}.png\n"
        (tmp_path / f"M/{name}.mtl").write_text(f"newmtl a\n{texture}")
    command = [sys.executable, "-m", "pointcmt", "render", "--dataset", "folder"]
    command += ["--root", "M", "--out", "S", "--rig", "ortho6", "--size", "16", "--points", "8"]
    for _ in range(2):  # the second time, all shapes are done already
        done = subprocess.run(
            [*command, "--workers", "1", "--json"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout.splitlines()[-1])
        kinds = {"texture … is missing": 3, "… faces with fewer than … corners skipped": 2}
        assert {kind: facts["notes"][kind] for kind in kinds} == kinds
        assert "3 shapes: texture … is missing\n" in done.stdout + done.stderr
