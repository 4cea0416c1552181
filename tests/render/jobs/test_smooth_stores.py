"""Stores with smooth shading: only the colors differ; `render` says what was drawn flat."""

import numpy as np
import trimesh

from pointcmt.datasets.store.verify import verify
from pointcmt.datasets.store.view_store import ViewStore
from tests.commands import pointcmt
from tests.render.job_commands import facts, render

BALL = trimesh.creation.icosphere(1)


def write_meshes(folder):
    """A mesh with normals, one without, and one that has some of them."""
    folder.mkdir()
    BALL.export(folder / "bare.off")
    lines = [f"v {x} {y} {z}\nvn {x} {y} {z}" for x, y, z in BALL.vertices.tolist()]
    corners = [[f"{k + 1}//{k + 1}" for k in face] for face in BALL.faces.tolist()]
    for name, without in (("full", 0), ("half", len(corners) // 2)):
        faces = [[c.split("/")[0] for c in face] for face in corners[:without]] + corners[without:]
        text = [*lines, *("f " + " ".join(face) for face in faces)]
        (folder / f"{name}.obj").write_text("\n".join(text) + "\n")


def test_everything_but_color_is_stored_as_with_flat_shading(tmp_path):
    write_meshes(tmp_path / "M")
    layers = ("--layers", "normal,albedo", "--workers", 1, "--json")
    made = {
        "flat": (),
        "smooth": ("--shading", "smooth"),
        "creased": ("--shading", "smooth", "--crease-angle", "60"),
    }
    stores, notes = {}, {}
    for name, options in made.items():
        done = render(tmp_path / "M", tmp_path / name, *layers, *options)
        assert done.returncode == 0, done.stderr
        stores[name], notes[name] = ViewStore.open(tmp_path / name), facts(done)["notes"]
        assert verify(str(tmp_path / name)).ok
    flat = stores["flat"]
    ids = [shape.id for shape in flat.shapes]
    bare, full, half = (ids.index(name) for name in ("bare", "full", "half"))
    for store in stores.values():
        for array in flat.specs:
            for shape in range(3):
                if array != "rgb":
                    left, right = flat.read(array, shape), store.read(array, shape)
                    np.testing.assert_array_equal(left, right, err_msg=array)
    rgb = {name: [store.read("rgb", shape) for shape in range(3)] for name, store in stores.items()}
    np.testing.assert_array_equal(rgb["smooth"][bare], rgb["flat"][bare])
    np.testing.assert_array_equal(rgb["smooth"][full], rgb["creased"][full])
    for name, shape in (("smooth", full), ("smooth", half), ("creased", bare)):
        assert (rgb[name][shape] != rgb["flat"][shape]).mean() > 0.1
    # The exact normals of a ball are nearly those by angle.
    assert np.abs(rgb["creased"][bare].astype(int) - rgb["smooth"][full]).max() <= 4
    assert notes["flat"] == {}
    assert sorted(notes["smooth"].values()) == [1, 1]
    assert any("--crease-angle" in note for note in notes["smooth"])
    assert list(notes["creased"].values()) == [1]


def test_a_store_goes_on_with_its_own_shading_and_refuses_another(tmp_path):
    write_meshes(tmp_path / "M")
    options = ("--shading", "smooth", "--crease-angle", "60", "--workers", 1)
    done = render(tmp_path / "M", tmp_path / "S", *options, "--no-correspondences")
    assert done.returncode == 0, done.stderr
    done = pointcmt("build-correspondences", tmp_path / "S", "--workers", 1)
    assert done.returncode == 0, done.stderr
    whole = render(tmp_path / "M", tmp_path / "T", *options)
    assert whole.returncode == 0, whole.stderr
    left, right = (ViewStore.open(tmp_path / name) for name in "ST")
    for shape in range(3):
        np.testing.assert_array_equal(left.visible(shape), right.visible(shape))
    again = render(tmp_path / "M", tmp_path / "S", "--workers", 1)
    assert again.returncode != 0
    assert "shading" in again.stderr
    assert "Traceback" not in again.stderr
    refused = render(tmp_path / "M", tmp_path / "U", "--crease-angle", "60")
    assert refused.returncode == 2
    assert "--shading smooth" in refused.stderr
