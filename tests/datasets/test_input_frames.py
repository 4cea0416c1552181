"""Stores of benchmark clouds state the frame of their networks, and streams read points in it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointcmt.datasets.store.creation import create
from pointcmt.datasets.store.storage import Storage
from pointcmt.datasets.store.streaming import StreamConfig, ViewStream
from pointcmt.datasets.summary import describe, summarize
from pointcmt.errors import UsageError
from pointcmt.geometry import normalize, normalize_cloud, sample_surface, shape_seed
from pointcmt.input_frame import InputFrame, place
from pointcmt.render.load.meshes import load_mesh
from pointcmt.shapes import Cloud
from tests.test_input_frame import pc_normalize

BENCHMARK = InputFrame("y", "centroid")


def read(store, **settings):
    """The points of all shapes, as a network gets them."""
    config = StreamConfig(
        ("points",), batch_size=4, shuffle=False, drop_last=False, **{"points": 64, **settings}
    )
    stream = ViewStream(store, np.arange(store.schema.shapes), config)
    return np.concatenate([batch["points"].numpy() for batch in stream])


def test_networks_get_the_points_that_the_authors_loader_gives_them(modelnet_clouds):
    clouds, store = modelnet_clouds
    found = read(store, frame=BENCHMARK)
    for shape, cloud in enumerate(found):
        rows = store.read("point_face", shape)[:64]
        source = clouds[store.shapes[shape].id][rows]
        np.testing.assert_allclose(cloud, pc_normalize(source), atol=2e-6)


def test_a_stream_gives_the_coordinates_of_the_files(modelnet_clouds):
    clouds, store = modelnet_clouds
    for shape, cloud in enumerate(read(store, frame=InputFrame("y", "none", "none"))):
        source = clouds[store.shapes[shape].id][store.read("point_face", shape)[:64]]
        np.testing.assert_allclose(cloud, source, rtol=1e-5, atol=1e-5)


def test_batches_only_hold_what_was_asked_for(modelnet_clouds):
    _, store = modelnet_clouds
    config = StreamConfig(("points",), 4, points=64, frame=InputFrame("y", "none"))
    batch = next(iter(ViewStream(store, np.arange(4), config)))
    assert batch.keys() == {"points", "label", "shape", "view"}
    assert np.array_equal(read(store), store.read("points", slice(None))[:, :64])


def test_another_frame_is_another_stream(modelnet_clouds):
    _, store = modelnet_clouds
    config = StreamConfig(("points",), 4, points=64)
    turned = ViewStream(store, np.arange(4), replace(config, frame=BENCHMARK))
    with pytest.raises(UsageError, match="started with other data"):
        turned.load_state_dict(ViewStream(store, np.arange(4), config).state_dict())


def test_a_store_says_what_it_holds_and_what_its_networks_take(modelnet_clouds):
    _, store = modelnet_clouds
    facts = summarize(store.path)
    assert facts["frame"] == {"up": "z", "center": "bounds", "scale": "farthest"}
    assert facts["input"] == {"up": "y", "center": "centroid", "scale": "farthest"}
    lines = [line.strip() for line in describe(facts).splitlines()]
    assert f"frame    {InputFrame().describe()}" in lines
    assert f"networks take the points {BENCHMARK.describe()}" in lines


def test_a_store_of_an_earlier_version_is_continued_as_it_is(modelnet_clouds, tmp_path):
    """It states no frame; rendering again neither refuses nor changes it."""
    _, store = modelnet_clouds
    earlier = {key: value for key, value in store.attributes.items() if key != "input"}
    create(Storage(tmp_path / "S"), earlier, store.shapes)
    before = (tmp_path / "S/zarr.json").read_bytes()
    again = create(Storage(tmp_path / "S"), store.attributes, store.shapes)
    assert "input" not in again.attributes
    assert (tmp_path / "S/zarr.json").read_bytes() == before
    assert again.attributes.items() >= earlier.items()
    assert summarize(tmp_path / "S")["input"] is None


def test_clouds_of_modelnet_are_mirror_images_of_its_meshes(real_data):
    """y and z are exchanged: the store's own turn, a rotation, leaves them far from the surface."""
    name = "airplane/airplane_0001"
    (off,) = (real_data / "ModelNet40/airplane").rglob("airplane_0001.off")
    surface, _ = sample_surface(normalize(load_mesh(off), "z")[0], 4000, shape_seed(0, name))
    file = real_data / f"modelnet40_normal_resampled/{name}.txt"
    cloud, _ = normalize_cloud(Cloud(np.loadtxt(file, delimiter=",")[::10, :3]), "z")
    turned = place(surface[None].astype(np.float32), InputFrame("y"))[0]
    placed = {"swapped": surface[:, [0, 2, 1]], "turned": turned, "as it is": surface}
    away = {name: cKDTree(points).query(cloud.points)[0].mean() for name, points in placed.items()}
    assert away["swapped"] < 0.02
    assert min(away["turned"], away["as it is"]) > 5 * away["swapped"]
