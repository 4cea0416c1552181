"""Reports of runs: their numbers are those of the runs, and nothing in the page can run."""

import csv
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from pointcmt.cli import app
from pointcmt.errors import StoreError, UsageError
from pointcmt.training.evaluation.evaluate import evaluate
from pointcmt.training.evaluation.scenes import measures_of, table_of
from pointcmt.training.loop import train
from pointcmt.training.ops.semantic import Confusion
from pointcmt.training.report.differences import OVERALL, differences
from pointcmt.training.report.page import write_report
from pointcmt.training.report.source import read_sources
from pointcmt.training.report.tables import Table
from tests.pages import Page
from tests.training.stores import small_config


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Two evaluated students with different settings, and one that was not evaluated."""
    root = tmp_path_factory.mktemp("report")
    for name, settings in (
        ("long", {"epochs": 4}),
        ("short", {"epochs": 1}),
        ("new", {"epochs": 1}),
    ):
        train(store, small_config("student", **settings), root / name, device="cpu")
    for name in ("long", "short"):
        evaluate(root / name, store, device="cpu")
    return root


def table(folder, name):
    return list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))


def test_a_report_of_one_run(runs, tmp_path):
    write_report([runs / "long"], tmp_path / "R")
    names = {path.name for path in (tmp_path / "R").iterdir()}
    for name in ("runs", "evaluation", "classes", "cost", "configuration", "provenance"):
        assert {f"{name}.csv", f"{name}.md", f"{name}.tex"} <= names
    assert {"index.html", "curves.svg", "curves.pdf"} <= names
    stored = json.loads((runs / "long/evaluation.json").read_text())
    (row,) = table(tmp_path / "R", "evaluation")
    accuracy, interval = stored["overall_accuracy"], stored["overall_accuracy_interval"]
    shown = f"{100 * accuracy:.2f} % [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    assert row["overall accuracy"] == shown
    (row,) = table(tmp_path / "R", "runs")
    assert (row["recipe"], row["epochs"]) == ("student", "4 of 4")
    settings = {row["setting"]: row for row in table(tmp_path / "R", "configuration")}
    assert settings["epochs"]["long"] == "4"
    assert settings["epochs"]["default"] != "4"
    (row,) = table(tmp_path / "R", "provenance")
    command = row["the command that trains it again"]
    assert command.startswith("pointcmt train student --data ")
    assert f"--config {runs / 'long/config.yaml'} --out NEW" in command
    assert "torch" in row["versions"]


def test_the_page_is_self_contained_and_shows_the_runs_pictures(runs, tmp_path):
    page = Page(write_report([runs / "long", runs / "short"], tmp_path / "R")[0])
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(image["src"].startswith("data:image/") for image in images)
    assert [image["alt"] for image in images].count("confusion.png") == 2
    assert page.policy["default-src"] == ["'none'"]
    assert not [tag for tag, _ in page.tags if tag in ("script", "link")]
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in page.tags
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all((tmp_path / "R" / link).is_file() for link in links)


def test_differences_are_those_of_the_predictions(runs):
    long, short = read_sources([runs / "long", runs / "short"])
    found = differences(long, short)
    a, b = (json.loads((runs / n / "predictions.json").read_text()) for n in ("long", "short"))
    assert a["ids"] == b["ids"]
    true = np.array(a["true"])
    gain = (np.array(a["predicted"]) == true) * 1.0 - (np.array(b["predicted"]) == true)
    assert found[OVERALL].value == pytest.approx(gain.mean(), abs=1e-12)
    for label, name in enumerate(a["classes"]):
        assert found[name].value == pytest.approx(gain[true == label].mean(), abs=1e-12)
        assert found[name].low <= found[name].value <= found[name].high
    # The standard error of a mean of paired differences, to within the noise of 2,000 draws.
    width = (found[OVERALL].high - found[OVERALL].low) / (2 * 1.96)
    assert width == pytest.approx(gain.std() / np.sqrt(len(gain)), rel=0.15)
    itself = differences(long, long)
    assert (itself[OVERALL].low, itself[OVERALL].high) == (0, 0)


def test_shapes_are_paired_by_id_whatever_their_order(runs, tmp_path):
    shutil.copytree(runs / "short", tmp_path / "mixed")
    path = tmp_path / "mixed/predictions.json"
    stored = json.loads(path.read_text())
    order = np.random.default_rng(0).permutation(len(stored["ids"]))
    for key in ("ids", "true", "predicted"):
        stored[key] = [stored[key][place] for place in order]
    path.write_text(json.dumps(stored))
    long, short, mixed = read_sources([runs / "long", runs / "short", tmp_path / "mixed"])
    assert differences(long, mixed) == differences(long, short)
    stored["ids"][0] = "another"
    path.write_text(json.dumps(stored))
    (other,) = read_sources([tmp_path / "mixed"])
    plain = differences(long, other)[OVERALL]
    assert plain.value == differences(long, short)[OVERALL].value
    assert plain.low is None


def test_a_run_that_is_not_finished_or_evaluated_is_shown(runs, tmp_path):
    shutil.copytree(runs / "new", tmp_path / "half")
    config = json.loads((tmp_path / "half/run.json").read_text())
    config["config"]["epochs"] = 7
    (tmp_path / "half/run.json").write_text(json.dumps(config))
    (tmp_path / "half/cost.json").unlink()
    with (tmp_path / "half/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss"')  # a killed process
    write_report([tmp_path / "half", runs / "long"], tmp_path / "R")
    half, long = table(tmp_path / "R", "runs")
    assert half["epochs"] == "1 of 7 (not finished)"
    assert half["test"] == "not evaluated"
    assert long["run"] == "long"
    (tmp_path / "half/metrics.jsonl").unlink()  # before its first epoch
    write_report([tmp_path / "half"], tmp_path / "R2")
    assert table(tmp_path / "R2", "runs")[0]["epochs"] == "0 of 7 (not finished)"
    assert not (tmp_path / "R2/curves.svg").exists()


def test_a_run_without_validation_has_an_epoch_and_no_score(runs, tmp_path):
    shutil.copytree(runs / "long", tmp_path / "all")
    path = tmp_path / "all/metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    plain = [{k: v for k, v in record.items() if not k.startswith("val_")} for record in records]
    path.write_text("".join(json.dumps(record) + "\n" for record in plain))
    write_report([tmp_path / "all"], tmp_path / "R")
    (row,) = table(tmp_path / "R", "runs")
    assert (row["best epoch"], row["validation"]) == ("4", "–")


def test_semantic_segmentation_is_reported_by_its_iou(runs, tmp_path):
    """Every number of the table of classes is an IoU, and each difference is that of two others."""
    names, expected = ["floor", "wall", "chair"], {}
    for seed, name in enumerate(("base", "other")):
        shutil.copytree(runs / "new", tmp_path / name)
        counts = np.random.default_rng(seed).integers(1, 50, (4, 3, 4))
        total, right = Confusion(counts.sum(axis=0)), counts.diagonal(axis1=1, axis2=2)
        union = counts.sum(axis=2) + counts[..., :3].sum(axis=1) - right
        stored = {**measures_of(total), "shapes": 4, "per_class": table_of(total, names)}
        of_each = {"right": right.tolist(), "union": union.tolist()}
        predictions = {"ids": list("abcd"), "classes": names, **of_each}
        (tmp_path / name / "evaluation.json").write_text(json.dumps(stored))
        (tmp_path / name / "predictions.json").write_text(json.dumps(predictions))
        expected[name] = dict(zip([*names, OVERALL], [*total.iou, total.miou], strict=True))
    write_report([tmp_path / "base", tmp_path / "other"], tmp_path / "R")
    rows = table(tmp_path / "R", "classes")
    assert [row["class"] for row in rows] == [*names, OVERALL]
    for row in rows:
        base, other = (100 * expected[name][row["class"]] for name in ("base", "other"))
        assert (row["base"], row["other"]) == (f"{base:.2f} %", f"{other:.2f} %")
        assert row["other − base"].split()[0] == f"{other - base:+.2f}"
    tests = [row["test"] for row in table(tmp_path / "R", "runs")]
    assert tests == [f"{rows[-1][name]} mIoU" for name in ("base", "other")]


def test_votes_and_data_of_each_evaluation_are_shown(runs, store, tmp_path):
    shutil.copytree(runs / "long", tmp_path / "voted")
    path = tmp_path / "voted/evaluation.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"votes": 10, "data": "/elsewhere"}))
    shutil.copytree(tmp_path / "voted", tmp_path / "scenes")  # whose numbers are without votes
    path = tmp_path / "scenes/evaluation.json"
    path.write_text(json.dumps(stored | {"votes": 10, "with_votes": {"votes": 10}}))
    folders = [runs / "long", tmp_path / "voted", tmp_path / "scenes"]
    write_report(folders, tmp_path / "R")
    rows = table(tmp_path / "R", "evaluation")
    found = [(row["run"], row["votes"], row["data"]) for row in rows]
    assert found == [
        ("long", "1", store.path), ("voted", "10", "/elsewhere"), ("scenes", "1", store.path)
    ]  # fmt: skip


def test_an_earlier_reports_files_are_replaced_or_removed_and_no_others(runs, tmp_path):
    out = tmp_path / "R"
    write_report([runs / "long", runs / "short"], out)
    assert (out / "differences-1.svg").exists()
    (out / "probes.csv").write_text("mine")
    files = write_report([runs / "new"], out)
    assert {path.name for path in out.iterdir()} == {"probes.csv", *(path.name for path in files)}
    assert not (out / "differences-1.svg").exists()
    assert (out / "probes.csv").read_text() == "mine"


def test_pictures_that_cannot_be_read_are_named(runs, tmp_path):
    shutil.copytree(runs / "new", tmp_path / "new")
    os.mkfifo(tmp_path / "new/pipe.png")
    (page, *_) = write_report([tmp_path / "new"], tmp_path / "R")
    assert "pipe.png is not shown: not a regular file" in page.read_text()


def test_the_baseline_is_chosen_by_name(runs, tmp_path):
    write_report([runs / "long", runs / "short"], tmp_path / "R", baseline="short")
    (first, *_) = table(tmp_path / "R", "classes")
    assert "long − short" in first
    assert re.fullmatch(r"[+-]\d+\.\d\d \[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]", first["long − short"])
    with pytest.raises(UsageError, match="no run of this report is called 'shorter'"):
        write_report([runs / "long", runs / "short"], tmp_path / "R", baseline="shorter")


def test_errors_and_foreign_files(runs, tmp_path):
    with pytest.raises(StoreError, match="there is no run here"):
        write_report([tmp_path], tmp_path / "R")
    with pytest.raises(StoreError, match="there is no run here"):
        write_report([runs / "long", tmp_path / "nowhere"], tmp_path / "R")
    (tmp_path / "link").symlink_to(runs / "long")
    for again in (runs / "long", tmp_path / "link"):
        with pytest.raises(UsageError, match="given twice"):
            write_report([runs / "long", again], tmp_path / "R")
    with pytest.raises(StoreError, match="File name too long"):
        write_report([runs / "long"], tmp_path / ("R" * 300))
    with pytest.raises(StoreError, match="cannot be written into the run"):
        write_report([runs / "long"], runs / "long")
    (tmp_path / "R").mkdir()
    (tmp_path / "R/runs.csv").write_text("mine")
    with pytest.raises(StoreError, match=r"not from a report: runs\.csv"):
        write_report([runs / "long"], tmp_path / "R")
    assert (tmp_path / "R/runs.csv").read_text() == "mine"
    write_report([runs / "long"], tmp_path / "R", overwrite=True)
    write_report([runs / "short"], tmp_path / "R")  # an earlier report is replaced
    damaged = shutil.copytree(runs / "long", tmp_path / "damaged")
    (damaged / "evaluation.json").write_text("{")
    with pytest.raises(StoreError, match="this file of the run is damaged"):
        write_report([damaged], tmp_path / "R3")


def test_tables_escape_what_names_may_hold():
    names = ("a|b", "<script>", "50 % & $x_1$ ~^\\{", "=1+2")
    made = Table("t", "T", ("name", "value"), tuple((name, "+1.00") for name in names))
    rows = list(csv.reader(io.StringIO(made.as_csv())))
    assert [row[0] for row in rows] == ["name", *names[:3], "'=1+2"]
    assert "<script>" not in made.as_html() + made.as_markdown()
    assert r"| a\|b | +1.00 |" in made.as_markdown()
    assert r"50 \% \& \$x\_1\$ \textasciitilde{}\textasciicircum{}\textbackslash{}\{" in (
        made.as_latex()
    )


def test_cells_are_never_cut():
    command = f"pointcmt train student {' '.join(f'--data /stores/{n:03d}' for n in range(99))}"
    made = Table("t", "T", ("run", "command"), (("r", command),))
    for text in (made.as_csv(), made.as_markdown(), made.as_latex(), made.as_html()):
        assert command in text


def test_the_command_says_what_it_wrote(runs, tmp_path):
    words = ["report", str(runs / "long"), "--out", str(tmp_path / "R")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(str(tmp_path / "R/index.html"))
