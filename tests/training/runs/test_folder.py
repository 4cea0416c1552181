"""A run's folder: one trainer at a time, nothing else in it, and not inside a store."""

import os
import shutil
from pathlib import Path

import pytest

from pointcmt.errors import StoreError, UsageError
from pointcmt.training import loop
from pointcmt.training.config.files import load_config
from pointcmt.training.loop import train
from pointcmt.training.runs import checkpoint
from pointcmt.training.runs.folder import begin_run, plan_run
from pointcmt.training.runs.splits import split_train
from tests.training.equal_runs import tensors
from tests.training.stores import small_config

pytestmark = pytest.mark.usefixtures("small_resnet")


def test_a_folder_with_other_files_is_refused(store, tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(StoreError, match=r"it contains thesis\.tex"):
        train(store, small_config("student"), tmp_path, device="cpu")
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(StoreError, match="cannot write here"):
        train(store, small_config("student"), tmp_path / "thesis.tex", device="cpu")


@pytest.mark.parametrize("made", ["config.yaml", "run.json", "metrics.jsonl", "best/notes.txt"])
def test_a_folder_with_file_names_of_a_run_but_no_run_is_refused(store, tmp_path, made):
    """For example with a `config.yaml` written by hand."""
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).write_text("{}")
    with pytest.raises(StoreError, match="this folder is not empty"):
        train(store, small_config("student"), tmp_path, device="cpu")
    assert len(list(tmp_path.iterdir())) == 1
    assert (tmp_path / made).read_text() == "{}"


@pytest.mark.parametrize("inside", [".", "run", "a/b/run", "commits"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_run_inside_a_store_is_refused(store, make_store, tmp_path, inside, linked):
    """For the store that is trained on and for others, directly or through links."""
    other = Path(make_store(train=(2, 2, 2), test=(4, 4, 4)).path)
    for folder in (Path(store.path), other):
        out = folder / inside
        if linked:
            link = tmp_path / folder.name / "link"
            link.parent.mkdir()
            link.symlink_to(folder / inside.partition("/")[0])
            out = link / inside.partition("/")[2] / "run"
        before = sorted(folder.rglob("*"))
        with pytest.raises(UsageError, match="cannot be inside a view store") as caught:
            train(store, small_config("student", epochs=1), out, device="cpu")
        assert str(folder) in caught.value.what
        assert str(out) in caught.value.where
        assert sorted(folder.rglob("*")) == before


def test_a_run_inside_a_store_can_be_moved_out(store, tmp_path):
    inside = tmp_path / "S" / "run"
    config = small_config("student", epochs=2)
    train(store, config, inside, device="cpu", until=1)
    shutil.copy(Path(store.path) / "zarr.json", tmp_path / "S")
    with pytest.raises(UsageError, match="view store") as caught:
        train(store, config, inside, device="cpu")
    assert "move the run out of the store" in caught.value.fix
    inside.rename(tmp_path / "run")
    assert train(store, config, tmp_path / "run", device="cpu").epochs == 2


def test_only_one_process_can_train_a_run(store, tmp_path):
    config = small_config("student", epochs=1)
    train(store, config, tmp_path, device="cpu")
    run = plan_run(tmp_path, config, store, split_train(store, config.data))
    seen = checkpoint.read_scalars(tmp_path / "last")
    with begin_run(run, seen), pytest.raises(StoreError, match="another process is training"):
        train(store, config, tmp_path, device="cpu")


def test_a_run_that_another_process_trained_meanwhile_is_not_overwritten(store, tmp_path):
    """It was planned before the other process started, and locked after it had ended."""
    config = small_config("student", epochs=1)
    planned = plan_run(tmp_path, config, store, split_train(store, config.data))
    train(store, config, tmp_path, device="cpu")
    before = tensors(tmp_path)
    with pytest.raises(StoreError, match="in the meantime"), begin_run(planned):
        pass
    assert before.keys() == tensors(tmp_path).keys()


def test_settings_may_change_until_an_epoch_is_finished(store, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(store, small_config("student", epochs=2), tmp_path, device="cpu")
    other = small_config("student", epochs=1)
    assert train(store, other, tmp_path, device="cpu").epochs == 1
    assert load_config("student", tmp_path / "config.yaml") == other


def test_lost_metrics_are_reported(store, tmp_path):
    config = small_config("student", epochs=2)
    train(store, config, tmp_path, device="cpu", until=1)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(StoreError, match=r"metrics\.jsonl does not contain the 1 finished"):
        train(store, config, tmp_path, device="cpu")
