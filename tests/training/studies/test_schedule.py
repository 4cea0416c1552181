"""The order in which several processes perform jobs."""

import os
from dataclasses import replace
from functools import partial

import pytest

from pointcmt import plugins
from pointcmt.errors import PointcmtError, UsageError
from pointcmt.training.config.study import StudyConfig
from pointcmt.training.studies.plan import plan_jobs
from pointcmt.training.studies.schedule import perform_all
from tests.training.studies.slow_jobs import note, write_trusted
from tests.training.studies.test_plan import STUDY


@pytest.mark.parametrize("workers", [1, 2])
def test_each_job_begins_after_those_that_it_needs(workers, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = plan_jobs(StudyConfig.model_validate(STUDY), {"network": ("pointnet",)})
    perform_all(jobs, partial(note, out=tmp_path), workers)
    times = {job.key: (tmp_path / job.key).read_text().split() for job in jobs}
    for job in jobs:
        assert all(times[need][1] <= times[job.key][0] for need in job.needs)
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_error_in_another_process_ends_the_study(tmp_path):
    jobs = plan_jobs(StudyConfig.model_validate(STUDY), {"rows": ("plain",)})
    jobs[1] = replace(jobs[1], key="bad")
    with pytest.raises(UsageError, match="this job fails"):
        perform_all(jobs, partial(note, out=tmp_path), 2)
    assert len(list(tmp_path.rglob("seed-*"))) < len(jobs) - 1


def test_other_processes_may_import_what_the_user_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_trusted", set())
    plugins.trust("mine.networks:Net")
    jobs = plan_jobs(StudyConfig.model_validate(STUDY), {"rows": ("plain",)})[:1]
    perform_all(jobs, partial(write_trusted, out=tmp_path), 2)
    assert (tmp_path / "trusted").read_text() == "mine.networks:Net"


def test_a_killed_worker_is_an_error_with_advice(tmp_path):
    jobs = plan_jobs(StudyConfig.model_validate(STUDY), {"rows": ("plain",)})[:1]
    with pytest.raises(PointcmtError, match="was killed") as caught:
        perform_all([replace(jobs[0], key="killed")], partial(note, out=tmp_path), 2)
    assert "fewer --workers" in caught.value.fix
