"""Probes of frozen features, against plain torch, standardization and scikit-learn's SVM."""

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation import probe as probing
from pointcmt.training.evaluation.probe import parse_episodes, probe
from pointcmt.training.loop import train
from pointcmt.training.networks.backbones import BACKBONES
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.checkpoint import load_weights
from pointcmt.training.runs.splits import split_train
from tests.training.stores import small_config

TEST = (22, 20, 25)


@pytest.fixture(scope="module")
def store(make_store):
    return make_store(test=TEST)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A student of two epochs with a third of the labels."""
    folder = tmp_path_factory.mktemp("student")
    train(store, small_config("student", "data.fraction=0.34", epochs=2), folder, device="cpu")
    return folder


def features(store, model):
    """The 512-d features of every shape, in plain torch."""
    clouds = torch.from_numpy(np.stack([store.read("points", i) for i in range(len(store.labels))]))
    with torch.no_grad():
        return model.eval()(clouds).feature.double().numpy()


def predict(x, y, learned, asked, C):
    """Predictions of scikit-learn's SVM on features standardized with numpy."""
    mean, std = x[learned].mean(axis=0), x[learned].std(axis=0)
    x = (x - mean) / np.where(std == 0, 1, std)
    return SVC(C=C, kernel="linear").fit(x[learned], y[learned]).predict(x[asked])


@pytest.fixture(scope="module")
def plain(run, store):
    """Features of the trained network and of its initial weights."""
    trained = BACKBONES["pointnet"](3)
    load_weights(run / "best", trained)
    torch.manual_seed(0)
    return {
        "trained": features(store, trained),
        "random": features(store, BACKBONES["pointnet"](3)),
    }


def test_the_svm_equals_a_plain_one(run, store, plain):
    (found,) = probe(run, store, device="cpu")
    labels, test = store.labels, np.flatnonzero(store.splits == 1)
    split = split_train(store, small_config("student").data)
    everything = np.flatnonzero(store.splits == 0)
    assert len(everything) == found.train == 42  # all labels, for any fraction of the run
    for name, x in plain.items():
        shares = {
            C: np.mean(predict(x, labels, split.train, split.validation, C)
                       == labels[split.validation])
            for C in (0.001, 0.01, 0.1, 1.0, 10.0)
        }  # fmt: skip
        C = min(C for C in shares if shares[C] == max(shares.values()))
        assert found.costs[name] == C
        expected = predict(x, labels, everything, test, C)
        assert np.array_equal(found.reports[name].predicted, expected)
    right = [found.reports[name].overall_accuracy for name in ("trained", "random")]
    assert found.gain.mean == pytest.approx(right[0] - right[1])
    written = json.loads((run / "probe.json").read_text())
    assert written == json.loads(json.dumps(found.as_json()))
    assert written["random"]["overall_accuracy"] == right[1]
    assert (written["feature"], written["width"]) == ("512-d feature", 512)


def test_c_is_chosen_on_the_stores_own_val_split(make_store, run, tmp_path):
    """As for ShapeNetPart. The SVM that is evaluated is fit only to the train split."""
    own = make_store(test=TEST, val=(6, 5, 4))
    folder = shutil.copytree(run, tmp_path / "run")
    (found,) = probe(folder, own, device="cpu")
    train_, test, val = (np.flatnonzero(own.splits == i) for i in range(3))
    assert (found.train, len(val)) == (42, 15)
    model = BACKBONES["pointnet"](3)
    load_weights(folder / "best", model)
    x, y = features(own, model), own.labels
    shares = {
        C: np.mean(predict(x, y, train_, val, C) == y[val]) for C in (0.001, 0.01, 0.1, 1.0, 10.0)
    }
    C = min(C for C in shares if shares[C] == max(shares.values()))
    assert found.costs["trained"] == C
    assert np.array_equal(found.reports["trained"].predicted, predict(x, y, train_, test, C))


def test_weights_that_are_not_finite_are_reported(run, store, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    model = BACKBONES["pointnet"](3)
    load_weights(folder / "best", model)
    with torch.no_grad():
        model.head[0].weight[3, 2] = torch.nan
    checkpoint.save(folder / "best", 99, {"epoch": 1}, model)
    with pytest.raises(StoreError, match=r"not finite in 1 of \d+ tensors, such as head.0.weight"):
        probe(folder, store, device="cpu")


def test_few_shot_episodes_have_their_classes_shots_and_queries(run, store, plain, monkeypatch):
    """Ten episodes each; test shapes are never used for fitting."""
    seen = []

    def watching(x, labels, learned, asked, C):
        found = accuracy(x, labels, learned, asked, C)
        seen.append((learned, asked, found))
        return found

    accuracy = probing._accuracy
    monkeypatch.setattr(probing, "_accuracy", watching)
    (found,) = probe(run, store, svm=False, episodes=((2, 5),), device="cpu")
    assert len(seen) == 20
    for i, (learned, asked, share) in enumerate(seen):
        classes, counts = np.unique(store.labels[learned], return_counts=True)
        assert (len(classes), set(counts)) == (2, {5})
        assert np.array_equal(np.unique(store.labels[asked]), classes)
        assert set(np.unique(store.labels[asked], return_counts=True)[1]) == {20}
        assert len(set(learned)) == 10
        assert len(set(asked)) == 40
        assert set(store.splits[learned]) == {0}
        assert set(store.splits[asked]) == {1}
        x = plain[("trained", "random")[i % 2]]
        expected = predict(x, store.labels, learned, asked, 1.0)
        assert share == np.mean(expected == store.labels[asked])
    assert all(np.array_equal(seen[i][0], seen[i + 1][0]) for i in range(0, 20, 2))  # paired
    assert len({tuple(learned) for learned, _, _ in seen}) == 10
    for i, name in enumerate(("trained", "random")):
        values = [share for _, _, share in seen[i::2]]
        assert found.accuracies[name] == values
        mean, std = found.as_json()[name]["mean_std"]
        assert (mean, std) == (
            pytest.approx(np.mean(values)),
            pytest.approx(np.std(values, ddof=1)),
        )
    written = json.loads((run / "few-shot-2w5s.json").read_text())
    assert written == json.loads(json.dumps(found.as_json()))
    (again,) = probe(run, store, svm=False, episodes=((2, 5),), device="cpu")
    assert again.accuracies == found.accuracies


def test_a_store_of_other_classes_can_be_probed(run, make_store):
    """This is the purpose of pre-training."""
    names = ("ball", "cone", "plate", "rod")
    other = make_store(class_names=names, train=(9,) * 4, test=(3,) * 4, val=(0,) * 4)
    (found,) = probe(run, other, which="last", device="cpu")
    assert found.reports["trained"].class_names == list(names)
    assert found.reports["trained"].overall_accuracy > 0.5
    assert (run / "probe-last.json").exists()


def test_probes_run_on_the_command_line(run, store):
    arguments = ["evaluate", str(run), "--data", store.path, "--device", "cpu"]
    said = CliRunner().invoke(
        app, [*arguments, "--probe", "svm", "--few-shot", "2w5s,3w5s", "--json"]
    )
    assert said.exit_code == 0, said.output
    facts = json.loads(said.stdout.splitlines()[-1])
    assert facts["svm"] == json.loads((run / "probe.json").read_text())
    assert facts["few_shot"].keys() == {"2w5s", "3w5s"}
    assert "linear SVM on frozen features: student pointnet, best checkpoint" in said.stdout
    assert "3-way 5-shot" in said.stdout


@pytest.mark.parametrize("text", ["5w", "w5s", "5w10", "5w10s;5w20s", "1w5s", "5w0s", "-5w5s", ""])
def test_invalid_episodes_are_refused(text):
    with pytest.raises(UsageError, match="is not a few-shot task"):
        parse_episodes(text)


def test_few_shot_tasks_larger_than_the_data_are_refused(run, store, make_store):
    for episode in ((4, 5), (3, 15), (2, 10**9)):
        with pytest.raises(UsageError, match="classes with") as caught:
            probe(run, store, episodes=(episode,), device="cpu")
        assert caught.value.where == "--few-shot {}w{}s".format(*episode)
    with pytest.raises(UsageError, match="0 of the store's 3"):
        probe(run, make_store(), episodes=((2, 5),), device="cpu")  # too few test shapes


@pytest.mark.usefixtures("small_resnet")
def test_a_run_without_a_point_network_is_refused(store, tmp_path):
    train(store, small_config("teacher", epochs=1), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="recipe 'teacher' has no point network"):
        probe(tmp_path, store, device="cpu")
    with pytest.raises(StoreError, match="a checkpoint of a run"):
        probe(tmp_path / "best", store, device="cpu")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--probe", "knn"], "unknown probe 'knn'"),
        (["--probe", "svm", "--votes", "3"], "without votes"),
        (["--few-shot", "5w10s", "--split", "val"], "evaluated on the test split"),
        (["--few-shot", "five"], "is not a few-shot task"),
    ],
)
def test_options_that_contradict_probing_are_refused(options, says, run, store):
    said = CliRunner().invoke(app, ["evaluate", str(run), "--data", store.path, *options])
    assert isinstance(said.exception, UsageError)
    assert says in str(said.exception)
