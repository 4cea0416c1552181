"""Teacher features: the network's outputs to 16 bits, also after interruptions."""

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcmt.datasets.store.features import (
    FRESH,
    MISSING,
    STALE,
    Features,
    list_features,
    open_features,
)
from pointcmt.datasets.store.schema import RENDER, array_specs, blank
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.images.features import teacher_key
from pointcmt.training.images.networks import NETWORKS
from pointcmt.training.loop import train
from pointcmt.training.networks.mvcnn import build_mvcnn
from pointcmt.training.recipes.teacher_features import teacher_features
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.folder import begin_run, open_run, plan_run
from pointcmt.training.runs.metrics import read_metrics
from pointcmt.training.runs.splits import split_train
from tests.training.conftest import SMALL_RESNET
from tests.training.equal_runs import assert_equal_runs
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")

CPU = torch.device("cpu")
FAILED = ("ball-train-1", "plate-train-9")


@pytest.fixture(scope="module")
def whole(make_store):
    """60 shapes in 4 shards, of which two failed."""
    return make_store(failed=FAILED)


@pytest.fixture
def store(whole, tmp_path):
    return ViewStore.open(shutil.copytree(whole.path, tmp_path / "S"))


@pytest.fixture(scope="module")
def run(whole, tmp_path_factory):
    return make_run(whole, tmp_path_factory.mktemp("run"))


def make_run(store, folder, *overrides, seed=0, head=0):
    """A teacher's run with a best checkpoint of random weights, for two seeds."""
    config = small_config("teacher", *overrides, epochs=1)
    with begin_run(plan_run(folder, config, store, split_train(store, config.data))):
        checkpoint.save(folder / "best", 1, {}, build(config, seed, head))
    return open_run(folder)


def build(config, seed=0, head=0):
    m = config.model
    torch.manual_seed(seed)
    model = build_mvcnn(m.backbone, "random", 3, config.data.image_size, m.pooling).eval()
    torch.manual_seed(1000 + head)
    for part in (model.pooling, model.projection, model.classifier):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def rendered(store):
    return np.flatnonzero(store.status() == 1)


def direct(store, model, shapes):
    """Feature, logits and view features computed from the images, one shape at a time."""
    found = []
    with torch.no_grad():
        for shape in shapes.tolist():
            images = torch.from_numpy(store.read("rgb", shape))[None]
            logits, feature = model(images)
            found.append((feature[0], logits[0], model.encode(images)[0]))
    return (torch.stack(parts) for parts in zip(*found, strict=True))


def rounding(x):
    """The largest rounding error of x in 16 bits, for normal and subnormal numbers."""
    return 2.0**-11 * x.abs() + 2.0**-25


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_features_equal_the_networks_to_16_bits(pooling, store, tmp_path):
    run = make_run(store, tmp_path / "run", f"model.pooling={pooling}")
    shapes = np.random.default_rng(0).permutation(rendered(store))
    shapes = np.append(shapes, shapes[:3])  # in any order, some repeated
    model = build(run.config)
    found = teacher_features(store, run, shapes, CPU)
    feature, logits, per_view = direct(store, model, shapes)
    assert (found.feature.shape, found.feature.dtype) == ((61, 512), torch.float32)
    assert (found.logits.shape, found.logits.dtype) == ((61, 3), torch.float32)
    # The pooling and the ReLU are 1-Lipschitz, the two linear layers are |W|; the rest is float32.
    linear, noise = model.projection[0], 1e-5
    pooled = (rounding(per_view) + noise * per_view.abs()).amax(dim=1)  # [n, D]
    bound = pooled @ linear.weight.abs().T + noise
    assert torch.all((found.feature - feature).abs() <= bound)
    assert torch.all((found.logits - logits).abs() <= bound @ model.classifier.weight.abs().T)
    assert bound.max() < 0.02 * feature.max()  # it is not constant


def test_features_of_a_512_wide_resnet_are_stored_without_projection(store, tmp_path, monkeypatch):
    """The paper's teacher: each value of its feature is one view's, rounded to 16 bits."""
    wide = {**SMALL_RESNET, "hidden_sizes": [16, 16, 32, 512]}
    monkeypatch.setitem(NETWORKS, "resnet-18", replace(NETWORKS["resnet-18"], config=wide))
    run = make_run(store, tmp_path / "run")
    shapes = rendered(store)[:20]
    found = teacher_features(store, run, shapes, CPU)
    feature, _, per_view = direct(store, build(run.config), shapes)
    bound = rounding(feature) + 1e-5 * per_view.abs().amax()
    assert torch.all((found.feature - feature).abs() <= bound)
    assert torch.equal(found.feature, found.feature.half().float())
    torch.testing.assert_close(found.logits, build(run.config).classifier(found.feature).detach())


def test_only_shards_of_the_requested_shapes_are_computed(store, run, messages):
    teacher_features(store, run, np.array([17, 40]), CPU)
    key = list_features(store)[0]
    states = open_features(store, key).states()
    assert states == {0: MISSING, 1: FRESH, 2: FRESH, 3: MISSING}
    assert "encoding views: 32/32 shapes" in messages()
    teacher_features(store, run, np.array([17, 40]), CPU)
    assert messages() == ""


def test_another_head_of_the_same_encoder_needs_no_images(store, run, tmp_path):
    shapes = rendered(store)
    teacher_features(store, run, shapes, CPU)
    other = make_run(store, tmp_path / "other", "model.pooling=attention", head=1)
    expected, *_ = direct(store, build(other.config, head=1), shapes)
    shutil.rmtree(Path(store.path) / "rgb")
    found = teacher_features(store, other, shapes, CPU)
    torch.testing.assert_close(found.feature, expected, rtol=5e-3, atol=5e-3)
    assert len(list_features(store)) == 1


def test_another_encoder_or_image_size_has_another_key(store, run, tmp_path):
    teacher_features(store, run, np.array([0]), CPU)
    for i, (seed, overrides) in enumerate([(1, ()), (0, ("data.image_size=16",))]):
        other = make_run(store, tmp_path / str(i), *overrides, seed=seed)
        teacher_features(store, other, np.array([0]), CPU)
    assert len(list_features(store)) == 3


def test_the_key_depends_on_every_bit_of_the_weights_and_nothing_else():
    torch.manual_seed(0)
    encoder = build_mvcnn("resnet-18", "random", 3, 0).encoder
    key = teacher_key(encoder, "resnet-18", 0)
    assert len(key) == 16
    assert int(key, 16) >= 0
    assert teacher_key(encoder.to(memory_format=torch.channels_last), "resnet-18", 0) == key
    encoder.to(memory_format=torch.contiguous_format)
    others = {teacher_key(encoder, "resnet-18", 16), teacher_key(encoder, "resnet-34", 0)}
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            flat, before = tensor.view(-1), tensor.clone()
            flat[-1] = torch.nextafter(flat[-1], flat[-1] + 1) if tensor.is_floating_point() else 9
            others.add(teacher_key(encoder, "resnet-18", 0))
            tensor.copy_(before)
    assert len(others) == 2 + len(encoder.state_dict())
    assert key not in others
    assert teacher_key(encoder, "resnet-18", 0) == key


def files_of(store):
    root = Path(store.path)
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_computation_resumes_with_the_next_shard(
    written, whole, run, tmp_path, monkeypatch
):
    alone, stopped = (ViewStore.open(shutil.copytree(whole.path, tmp_path / name)) for name in "AB")
    shapes = rendered(alone)
    expected = teacher_features(alone, run, shapes, CPU)
    calls, limit, write = [], [written], Features.write

    def write_or_stop(features, images, array):
        if len(calls) == limit[0]:
            raise KeyboardInterrupt
        calls.append(images.shard)
        write(features, images, array)

    with monkeypatch.context() as patch:
        patch.setattr(Features, "write", write_or_stop)
        with pytest.raises(KeyboardInterrupt):
            teacher_features(stopped, run, shapes, CPU)
        limit[0] = 4
        found = teacher_features(stopped, run, shapes, CPU)
    assert calls == [0, 1, 2, 3]  # each once
    assert torch.equal(found.feature, expected.feature)
    assert torch.equal(found.logits, expected.logits)
    assert files_of(stopped) == files_of(alone)


def use(path, folder):
    torch.set_num_threads(1)
    NETWORKS["resnet-18"] = replace(NETWORKS["resnet-18"], config=SMALL_RESNET)
    store = ViewStore.open(path)
    teacher_features(store, open_run(folder), rendered(store), CPU)


def test_two_processes_at_once_end_with_the_same_bytes(whole, run, tmp_path):
    alone, together = (
        ViewStore.open(shutil.copytree(whole.path, tmp_path / name)) for name in "AB"
    )
    teacher_features(alone, run, rendered(alone), CPU)
    context = multiprocessing.get_context("spawn")
    arguments = (together.path, run.folder)
    processes = [context.Process(target=use, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert files_of(together) == files_of(alone)


def test_images_rendered_again_are_encoded_again(store, run):
    shapes = rendered(store)
    before = teacher_features(store, run, shapes, CPU)
    marker = store.markers(RENDER, [2])[2]
    store.forget(2)
    rgb = blank(array_specs(store.schema)["rgb"], 16) + np.uint8(90)
    marker["files"] |= store.write_shard(2, {"rgb": rgb})
    store.commit(RENDER, 2, {key: marker[key] for key in ("files", "outcomes")})
    assert open_features(store, list_features(store)[0]).states()[2] == STALE
    after = teacher_features(store, run, shapes, CPU)
    changed = (before.feature != after.feature).any(dim=1).numpy()
    np.testing.assert_array_equal(changed, shapes // 16 == 2)
    expected, *_ = direct(store, build(run.config), shapes[changed])
    torch.testing.assert_close(after.feature[changed], expected, rtol=5e-3, atol=5e-3)


def test_invalid_teachers_are_reported(store, run, make_store, tmp_path):
    student = small_config("student", epochs=1)
    split = split_train(store, student.data)
    with begin_run(plan_run(tmp_path / "student", student, store, split)):
        pass
    with pytest.raises(UsageError, match="this run is not a teacher; its recipe is student"):
        teacher_features(store, open_run(tmp_path / "student"), np.array([0]), CPU)
    other = make_store(class_names=("ball", "plate", "rot"))
    with pytest.raises(StoreError, match="was trained on: 1 missing"):
        teacher_features(other, run, np.array([0]), CPU)
    with pytest.raises(StoreError, match="have not been rendered"):
        teacher_features(store, run, np.arange(16), CPU)
    shutil.copytree(run.folder, tmp_path / "run", ignore=lambda *_: ["best"])
    with pytest.raises(StoreError, match="there is no checkpoint here"):
        teacher_features(store, open_run(tmp_path / "run"), np.array([0]), CPU)
    assert list_features(store) == []


def test_a_teacher_on_cached_features_is_that_of_the_images_to_16_bits(store, tmp_path):
    """The same steps, on features that were rounded; a student finds them in the store."""
    frozen = ("model.encoder=frozen", "model.weights=random", "data.views=0")
    for name, cache in (("images", "false"), ("cached", "true")):
        config = small_config("teacher", *frozen, f"model.cache={cache}", epochs=3)
        train(store, config, tmp_path / name, "cpu")
    images, cached = (read_metrics(tmp_path / name, 3) for name in ("images", "cached"))
    for one, other in zip(images, cached, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)
    train_shapes, commits = split_train(store, config.data).train, Path(store.path, "commits")
    before = {path: path.stat().st_mtime_ns for path in commits.rglob("*.json")}
    teacher_features(store, open_run(tmp_path / "cached"), train_shapes, CPU)
    assert before == {path: path.stat().st_mtime_ns for path in commits.rglob("*.json")}
    costs = [json.loads((tmp_path / n / "cost.json").read_text()) for n in ("images", "cached")]
    assert costs[0]["flops"] == costs[1]["flops"]


def test_a_network_from_a_folder_has_one_cache_in_training_and_for_students(
    store, folder_of, tmp_path
):
    network = ("model.backbone=auto", f"model.weights={folder_of('regnet')}")
    config = small_config("teacher", *network, "model.encoder=frozen", "model.cache=true", epochs=1)
    train(store, config, tmp_path / "T", "cpu")
    teacher_features(store, open_run(tmp_path / "T"), split_train(store, config.data).train, CPU)
    assert len(list(list_features(store))) == 1


def test_a_resumed_teacher_reads_the_features_of_its_own_encoder(store, folder_of, tmp_path):
    """Not of the random one that it is built with: the weights' folder is not read again."""
    network = ("model.backbone=auto", f"model.weights={folder_of('regnet')}")
    config = small_config("teacher", *network, "model.encoder=frozen", "model.cache=true", epochs=2)
    train(store, config, tmp_path / "whole", "cpu")
    train(store, config, tmp_path / "resumed", "cpu", until=1)
    train(store, config, tmp_path / "resumed", "cpu")
    assert len(list_features(store)) == 1
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")


def test_a_cache_of_features_that_change_is_refused():
    with pytest.raises(UsageError, match=r"needs model\.encoder=frozen"):
        small_config("teacher", "model.cache=true")
