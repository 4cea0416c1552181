"""A folder of every format, material and kind of damage: each model is drawn right or refused.

`benchmarks/mixed_folder.py` renders all of them, this test about every fifth.
"""

from dataclasses import replace

import pytest

from tests.commands import pointcmt
from tests.render.job_commands import facts
from tests.render.mixed_files import GREEN, all_cases, few_cases, problems, write

RENDER = ("render", "--dataset", "folder", "--rig", "ortho6", "--size", "24", "--points", "16")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The store, the cases by path, and what the command said."""
    folder = tmp_path_factory.mktemp("mixed")
    written = write(folder / "M", few_cases(5))
    done = pointcmt(*RENDER, "--root", folder / "M", "--out", folder / "S", "--json")
    return folder / "S", written, done


def test_every_model_is_drawn_as_expected_or_refused_with_its_reason(rendered):
    store, written, done = rendered
    assert problems(store, written) == []
    failed = sum(bool(case.reason) for case in written.values())
    assert done.returncode == 3, done.stderr
    said = facts(done)
    assert (said["planned"], said["failed"]) == (len(written), failed)
    assert said["done"] == len(written) - failed
    assert "ignored" not in done.stderr


def test_other_expectations_are_found_wrong(rendered):
    """What compares the store with the cases does tell them apart."""
    store, written, _ = rendered
    other = {
        path: replace(case, reason="timeout") if case.reason else replace(case, color=GREEN)
        for path, case in written.items()
        if case.color != GREEN
    }
    assert len(problems(store, {**written, **other})) == len(other)


def test_there_are_hundreds_of_cases_of_every_family():
    cases = all_cases()
    assert len(cases) > 280
    assert {case.model.rpartition(".")[2].lower() for case in cases} >= {"off", "obj", "ply", "stl"}
    assert 40 <= len(few_cases(5)) <= 90
