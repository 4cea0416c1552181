"""The frame of a run's points: given, that of the run it starts from, or the benchmark's."""

import json
from types import SimpleNamespace

from pointcmt.input_frame import InputFrame
from pointcmt.training.config.files import load_config
from pointcmt.training.loop import train
from pointcmt.training.runs.frames import resolve_frame, stated_frame

SMALL = ("data.points=64", "data.batch_size=2", "data.validation=0.3")


def test_several_stores_state_a_frame_if_they_agree():
    one, other = ({"input": InputFrame(up).as_json()} for up in "xy")
    for attributes, stated in (
        ([one, one], InputFrame("x")),
        ([one, other], None),
        ([one, {}], None),
    ):
        members = tuple(SimpleNamespace(attributes=each) for each in attributes)
        assert stated_frame(SimpleNamespace(members=members)) == stated


def frame_in(config):
    return config.data.up, config.data.center, config.data.scale


def test_training_takes_the_frame_of_the_run_it_starts_from_or_of_the_benchmark(
    modelnet_clouds, store, tmp_path
):
    _, clouds = modelnet_clouds
    student = load_config("student", None, SMALL)
    assert frame_in(resolve_frame(student, clouds)) == ("y", "centroid", "farthest")
    assert resolve_frame(student, store) == student  # nothing stated: as stored
    given = load_config("student", None, [*SMALL, "data.up=x", "data.scale=none"])
    assert frame_in(resolve_frame(given, clouds)) == ("x", "centroid", "none")

    train(clouds, load_config("student", None, SMALL, epochs=1), tmp_path / "run", "cpu")
    told = json.loads((tmp_path / "run/run.json").read_text())["config"]["data"]
    assert (told["up"], told["center"], told["scale"]) == ("y", "centroid", "farthest")
    later = load_config("finetune", None, [f"init={tmp_path / 'run'}"])
    assert frame_in(resolve_frame(later, store)) == ("y", "centroid", "farthest")
    plain = later.model_copy(update={"load": "none"})
    assert resolve_frame(plain, store) == plain

    train(store, load_config("student", None, SMALL, epochs=1), tmp_path / "stored", "cpu")
    from_stored = load_config("finetune", None, [f"init={tmp_path / 'stored'}"])
    assert frame_in(resolve_frame(from_stored, clouds)) == ("z", "bounds", "farthest")
