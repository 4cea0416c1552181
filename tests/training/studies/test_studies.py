"""A small study from end to end: what its tables say, what it reads, and that it resumes."""

import csv
import json
import shutil

import numpy as np
import pytest

from pointcmt.errors import StoreError, UsageError
from pointcmt.training.config.study import StudyConfig
from pointcmt.training.ops.statistics import paired_difference
from pointcmt.training.studies.diagnostics import agreement
from pointcmt.training.studies.plan import plan_jobs
from pointcmt.training.studies.run import run_study
from pointcmt.training.studies.scores import cells_of, random_row
from tests.training.stores import SMALL

pytestmark = pytest.mark.usefixtures("small_resnet")


def settings(recipe, **more):
    pairs = (text.split("=") for text in SMALL[recipe])
    table = {key: json.loads(value) if value[0].isdigit() else value for key, value in pairs}
    return {**table, "epochs": 2, **more}


STUDY = StudyConfig.model_validate(
    {
        "about": "Does it work?",
        "baseline": "plain",
        "seeds": [0, 1],
        "axes": {"labels": {"all": {}, "half": {"set": {"data.fraction": 0.5}}}},
        "recipes": {
            "teacher": settings("teacher"),
            "student": settings("student", **{"distillation.gradients": True}),
        },
        "runs": {
            "teacher": {"recipe": "teacher", "once": True},
            "plain": {"recipe": "student", "over": ["labels"], "svm": True},
            "taught": {
                "recipe": "student",
                "over": ["labels"],
                "teacher": "teacher",
                "set": {"distillation.method": "logits"},
                "search": [{"distillation.weight": 1}, {"distillation.weight": 3}],
                "search_seeds": 1,
            },
        },
    }
)
ONLY = {"labels": ("half",)}


@pytest.fixture(scope="module")
def done(small_resnet, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return out, run_study(STUDY, (store.path,), out, only=ONLY, device="cpu")


def table(out, name):
    with (out / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def scores(out, key):
    found = json.loads((out / "runs" / key / "predictions.json").read_text())
    return np.array(found["true"]) == np.array(found["predicted"])


def test_the_table_has_means_and_paired_differences(done):
    out, files = done
    assert {path.suffix for path in files} == {".md", ".csv", ".tex", ".svg", ".pdf"}
    rows = {row["row"]: row for row in table(out, "scores-test")}
    assert list(rows) == ["teacher", "plain", "taught"]
    found = {
        name: np.array([scores(out, f"{name}/half/seed-{seed}") for seed in (0, 1)], float)
        for name in ("plain", "taught")
    }
    for name, each in found.items():
        values = 100 * each.mean(axis=1)
        expected = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        assert rows[name]["overall accuracy (%)"] == expected
    d = paired_difference(found["taught"], found["plain"])
    expected = f"{100 * d.mean:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}]"
    assert rows["taught"]["minus plain"] == expected
    assert (rows["teacher"]["seeds"], rows["teacher"]["minus plain"]) == ("1", "–")
    assert (rows["teacher"]["labels"], rows["plain"]["labels"]) == ("–", "half")


def test_random_weights_have_a_row_of_their_own_beside_a_probed_baseline(done):
    out, _ = done
    assert [row["row"] for row in table(out, "scores-svm")] == ["random weights", "plain"]
    networks = {
        name: {"measures": {"accuracy": score}, "scores": [score]}
        for name, score in (("trained", 0.75), ("random", 0.25))
    }
    jobs = [job for job in plan_jobs(STUDY, ONLY) if job.key.endswith("half/seed-0")]
    finished = {job.key: (job, {"probes": {"svm": networks}}) for job in jobs}
    found = {
        cell.row: cell.measures[0]["accuracy"]
        for cell in cells_of(finished, random_row(STUDY))["svm"]
    }
    assert found == {"random weights": 0.25, "plain": 0.75, "taught": 0.75}
    unprobed = {"plain": STUDY.runs["plain"].model_copy(update={"svm": False})}
    other = STUDY.model_copy(update={"runs": {**STUDY.runs, **unprobed}})
    assert random_row(other) == "plain"


def test_a_search_reads_validation_alone_and_its_best_settings_are_used(done):
    out, _ = done
    candidates = [out / "runs" / "search" / f"{n}/taught/all/seed-1000" for n in range(2)]
    best = []
    for folder in candidates:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        best.append(max(json.loads(line)["val_accuracy"] for line in lines))
        assert not list(folder.glob("evaluation*")) + list(folder.glob("predictions*"))
    rows = table(out, "searches")
    chosen = best.index(max(best))
    assert [row[""] for row in rows] == ["chosen" if n == chosen else "" for n in range(2)]
    config = json.loads((out / "results/taught/half/seed-0.json").read_text())["config"]
    assert config["distillation"]["weight"] == (1, 3)[chosen]


def test_a_search_without_validation_shapes_is_refused_before_training(store, tmp_path):
    student = {**STUDY.recipes["student"], "data.validation": 0}
    study = STUDY.model_copy(update={"recipes": {**STUDY.recipes, "student": student}})
    with pytest.raises(UsageError, match=r"data\.validation is 0"):
        run_study(study, (store.path,), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_study_that_was_moved_is_finished(done, store, tmp_path):
    out, _ = done
    shutil.copytree(out, tmp_path / "moved")
    results = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results/**/*.json")}
    run_study(STUDY, (store.path,), tmp_path / "moved", only=ONLY, device="cpu")
    assert len(results) > 4
    assert all(path.stat().st_mtime_ns == time for path, time in results.items())


def test_results_of_another_store_are_refused(done, make_store):
    out, _ = done
    before = (out / "report/RESULTS.md").read_bytes()
    other = make_store(train=(4, 4, 4), test=(2, 2, 2))
    with pytest.raises(StoreError, match="are of other stores"):
        run_study(STUDY, (other.path,), out, only=ONLY, device="cpu")
    assert (out / "report/RESULTS.md").read_bytes() == before


def test_diagnostics_compare_students_with_their_teacher(done):
    out, _ = done
    found = {
        key: json.loads((out / "results" / f"{key}.json").read_text())["test"]
        for key in ("teacher/seed-0", "taught/half/seed-0", "taught/half/seed-1")
    }
    teacher = found.pop("teacher/seed-0")
    mean = 100 * np.nanmean([agreement(each, teacher) for each in found.values()], axis=0)
    (row,) = [row for row in table(out, "agreement") if row["row"] == "taught"]
    assert list(row.values())[3:] == [f"{value:.1f}" for value in mean]
    (row,) = table(out, "gradients")
    lines = [
        json.loads(line)
        for seed in (0, 1)
        for line in (out / f"runs/taught/half/seed-{seed}/metrics.jsonl").read_text().splitlines()
    ]
    first = np.mean([line["logits_cosine"] for line in lines[::2]])
    last = np.mean([line["logits_ratio"] for line in lines[1::2]])
    assert (row["cosine, first"], row["ratio, last"]) == (f"{first:.3f}", f"{last:.3f}")


def test_agreement_counts_shapes_by_name():
    teacher = {"ids": ["d", "c", "b", "a"], "true": [1, 1, 0, 0], "predicted": [2, 2, 0, 0]}
    student = {"ids": ["a", "b", "c", "d"], "true": [0, 0, 1, 1], "predicted": [0, 1, 2, 0]}
    assert agreement(student, teacher).tolist() == [0.25, 0.25, 0, 0.5, 0.5]


def test_a_finished_study_does_not_train_again_and_a_damaged_result_is_reported(done, store):
    out, _ = done
    report = {path.name: path.read_bytes() for path in (out / "report").iterdir()}
    runs = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    lost = out / "results/plain/half/seed-1.json"
    before = json.loads(lost.read_text())
    lost.unlink()  # as if killed before it was written
    run_study(STUDY, (store.path,), out, only=ONLY, device="cpu")
    assert json.loads(lost.read_text()) == before
    assert report == {path.name: path.read_bytes() for path in (out / "report").iterdir()}
    changed = {path for path in runs if path.stat().st_mtime_ns != runs[path]}
    again = out / "runs/plain/half/seed-1"  # evaluated and probed again, with the same results
    assert all(again in path.parents for path in changed if path.is_file())
    lost.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        run_study(STUDY, (store.path,), out, only=ONLY, device="cpu")
    lost.write_text(json.dumps(before))


def test_a_study_with_other_settings_is_refused(done, store):
    out, _ = done
    recipes = {**STUDY.recipes, "student": {**STUDY.recipes["student"], "data.points": 32}}
    with pytest.raises(StoreError, match=r"data\.points"):
        run_study(STUDY.model_copy(update={"recipes": recipes}), (store.path,), out, only=ONLY)
