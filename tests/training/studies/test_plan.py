"""Studies as files and as lists of jobs: what is trained, in which order, from what."""

import re
from pathlib import Path

import pytest
import yaml

from pointcmt.errors import UsageError
from pointcmt.training.config.study import StudyConfig, change, load_study
from pointcmt.training.studies.plan import plan_jobs, quick
from pointcmt.training.studies.work import job_config

STUDY = {
    "about": "?",
    "baseline": "plain",
    "seeds": [3, 4],
    "axes": {
        "labels": {"all": {}, "half": {"set": {"data.fraction": 0.5}, "times": 2}},
        "network": {"pointnet": {}, "dgcnn": {"set": {"model.backbone": "dgcnn"}}},
    },
    "recipes": {"student": {"epochs": 10, "data.points": 64}},
    "runs": {
        "teacher": {"recipe": "teacher", "once": True, "over": ["labels"]},
        "plain": {"recipe": "student", "over": ["labels", "network"]},
        "taught": {
            "recipe": "student",
            "over": ["labels", "network"],
            "teacher": "teacher",
            "set": {"distillation.method": "logits"},
            "search": [{"distillation.weight": 1}, {"distillation.weight": 3}],
            "search_over": ["network"],
        },
    },
}


def changed(**runs):
    return {**STUDY, "runs": {**STUDY["runs"], **runs}}


def test_jobs_come_after_what_they_start_from():
    jobs = plan_jobs(StudyConfig.model_validate(STUDY), {})
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    for place, job in enumerate(jobs):
        assert set(job.needs) <= set(keys[:place])
    taught = next(job for job in jobs if job.key == "taught/half/dgcnn/seed-4")
    assert taught.links == {"teacher": "teacher/half/seed-0"}
    assert taught.candidates == tuple(
        tuple(f"search/{number}/taught/all/dgcnn/seed-{seed}" for seed in (1000, 1001))
        for number in range(2)
    )
    # 2 teachers; by seed, 4 plain and 4 taught; for 2 networks, 2 candidates with 2 seeds each.
    assert len(jobs) == 2 + 2 * (4 + 4) + 2 * 2 * 2


def test_settings_of_recipe_command_line_run_axis_and_search_come_in_this_order(tmp_path):
    overrides = ["student.data.points=32", "student.data.fraction=0.2", "student.epochs=20"]
    study = change(StudyConfig.model_validate(STUDY), overrides, "7")
    jobs = {job.key: job for job in plan_jobs(study, {})}
    config = job_config(jobs["search/1/taught/all/dgcnn/seed-1001"], tmp_path)
    assert (config.distillation.weight, config.model.backbone, config.seed) == (3, "dgcnn", 1001)
    assert (config.data.points, config.epochs, config.data.fraction) == (32, 20, 0.2)
    assert config.teacher == str(tmp_path / "runs/teacher/all/seed-0")
    plain = job_config(jobs["plain/half/pointnet/seed-7"], tmp_path)
    assert (plain.epochs, plain.data.fraction, plain.teacher) == (40, 0.5, "")


def test_a_setting_of_a_recipe_leaves_what_its_runs_compare(tmp_path):
    """The control row of random weights stays random, whatever network the others learn from."""
    study = change(load_study("pretraining"), ["mvnet.images.weights=FOLDER"], None)
    jobs = {job.name: job for job in plan_jobs(study, {})}
    assert job_config(jobs["pre-both"], tmp_path).image_network.weights == "FOLDER"
    assert job_config(jobs["pre-untrained"], tmp_path).image_network.weights == "random"
    study = StudyConfig.model_validate(
        changed(taught={"recipe": "teacher", "set": {"data.views": 3}})
    )
    assert change(study, ["teacher.data.views=2"], None).recipes["teacher"] == {"data.views": 2}
    alone = {**STUDY["axes"], "network": {"dgcnn": {"set": {"model.backbone": "dgcnn"}}}}
    study = StudyConfig.model_validate({**STUDY, "axes": alone})
    with pytest.raises(UsageError, match=r"all runs of student set model\.backbone themselves"):
        change(study, ["student.model.backbone=pointnet"], None)


def test_a_part_of_a_study_has_what_it_starts_from():
    study = StudyConfig.model_validate(STUDY)
    jobs = plan_jobs(study, {"rows": ("taught",), "labels": ("half",), "network": ("pointnet",)})
    assert {job.key.split("/seed")[0] for job in jobs} == {
        "teacher/all",  # of the search
        "teacher/half",
        "search/0/taught/all/pointnet",
        "search/1/taught/all/pointnet",
        "taught/half/pointnet",
    }
    whole = {job.key: job for job in plan_jobs(study, {})}
    assert all(whole[job.key] == job for job in jobs)
    for only, said in (({"size": ("1",)}, "no axis 'size'"), ({"labels": ("1",)}, "'1' is not")):
        with pytest.raises(UsageError, match=said):
            plan_jobs(study, only)


def test_a_search_trains_what_its_candidates_start_from_with_its_own_seeds():
    table = changed(teacher={"recipe": "teacher", "over": ["labels"]})
    jobs = plan_jobs(StudyConfig.model_validate(table), {"rows": ("taught",)})
    teachers = {job.key: job.searching for job in jobs if job.name == "teacher"}
    searched = {f"teacher/all/seed-{seed}" for seed in (1000, 1001)}
    assert {key for key, searching in teachers.items() if searching} == searched
    assert len(teachers) == 2 + 2 * 2


def test_a_search_of_a_run_that_is_trained_once_has_seeds_of_its_own():
    table = changed(teacher={**STUDY["runs"]["teacher"], "search": [{"data.views": 2}, {}]})
    jobs = {job.key: job for job in plan_jobs(StudyConfig.model_validate(table), {})}
    teacher = jobs["teacher/half/seed-0"]
    assert teacher.candidates == tuple(
        tuple(f"search/{number}/teacher/all/seed-{seed}" for seed in (1000, 1001))
        for number in range(2)
    )
    assert all(jobs[key].seed >= 1000 for keys in teacher.candidates for key in keys)
    taught = jobs["search/0/taught/all/dgcnn/seed-1000"]
    assert taught.links == {"teacher": "teacher/all/seed-0"}


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ({"taught": {"recipe": "student", "teacher": "nobody"}}, "'nobody' is not a run above"),
        ({"taught": {"recipe": "student", "teacher": "teacher"}}, "varies over more axes"),
        ({"x/y": {"recipe": "student"}}, "names a folder"),
        ({"x": {"recipe": "student", "row": "a/b"}}, "'a/b' names a folder"),
        ({"x": {"recipe": "student", "task": "../up"}}, "'../up' names a folder"),
        ({"x": {"recipe": "pointcmt"}}, "'pointcmt' trains three runs"),
        ({"x": {"recipe": "student", "over": ["size"]}}, "unknown axis 'size'"),
        ({"x": {"recipe": "student", "search_over": ["labels"]}}, "axes of over"),
        ({"x": {"recipe": "student", "once": True, "init": "plain"}}, "varies over more axes"),
        ({"x": {"recipe": "student", "epoch": 3}}, r"runs\.x\.epoch"),
    ],
)
def test_studies_that_are_not_valid_are_refused_with_the_key(runs, said, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(**runs), sort_keys=False))
    with pytest.raises(UsageError, match=said) as caught:
        load_study(str(path))
    assert caught.value.where == str(path)


def test_unknown_studies_files_and_settings_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown study 'distilation'") as caught:
        load_study("distilation")
    assert "distillation" in caught.value.fix
    with pytest.raises(UsageError, match="no such study"):
        load_study(str(tmp_path / "mine.yaml"))
    (tmp_path / "odd.yaml").write_text("runs: [")
    with pytest.raises(UsageError, match="cannot be read"):
        load_study(str(tmp_path / "odd.yaml"))
    study = StudyConfig.model_validate(STUDY)
    with pytest.raises(UsageError, match="does not set a key of a recipe"):
        change(study, ["mvnet.epochs=3"], None)
    with pytest.raises(UsageError, match="not a list of seeds"):
        change(study, [], "1,1")


@pytest.mark.parametrize("name", ["distillation", "pretraining"])
def test_the_studies_of_the_package_are_valid(name):
    study = load_study(name)
    for one in (study, quick(study)):
        jobs = plan_jobs(one, {})
        for job in jobs:
            if not job.candidates and job.seed in (0, 1000):
                config = job_config(job, Path("out"))
                if one is not study:
                    assert config.epochs == 2
    assert len(study.seeds) >= 5


def test_the_study_in_the_docs_is_valid(tmp_path):
    page = (Path(__file__).parents[3] / "docs/studies.md").read_text()
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    jobs = plan_jobs(load_study(str(tmp_path / "mine.yaml")), {})
    assert {job_config(job, tmp_path).data.points for job in jobs} == {128, 1024}
    assert len(jobs) == 2 * 2 * 3
