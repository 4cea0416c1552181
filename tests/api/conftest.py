"""Fixtures of the public API's tests."""

import numpy as np
import pytest

import pointcmt as pc

TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 2\n3 0 1 2\n3 0 1 3\n3 1 2 3\n3 0 2 3\n"


@pytest.fixture(scope="session")
def trained(toy_store, tmp_path_factory):
    """A student of one epoch, trained on the toy store."""
    out = tmp_path_factory.mktemp("trained") / "RUN"
    settings = {"data__points": 64, "data__batch_size": 4}
    return pc.train("student", data=toy_store.path, out=out, epochs=1, device="cpu", **settings)


@pytest.fixture
def workplace(toy_store, trained, tmp_path, monkeypatch):
    """The current directory: a store S, a run RUN, and files of shapes, as the examples have it."""
    (tmp_path / "S").symlink_to(toy_store.path)
    (tmp_path / "RUN").symlink_to(trained.folder)
    (tmp_path / "chair.off").write_text(TETRAHEDRON)
    np.savetxt(tmp_path / "chair.xyz", np.eye(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path
