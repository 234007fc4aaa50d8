"""The pages of results are what the result files give: no number without its run."""
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import results_page
import synthetic as benchmark

from rdlib.reproduction import TABLES, load_results, write_report

ROOT = Path(__file__).parents[1]
ROWS = benchmark.records()


def test_every_run_has_the_protocol_of_the_benchmark():
    assert len(ROWS) and not ROWS.duplicated(["category", "teacher", "seed"]).any()
    for path in benchmark.RESULTS.glob("*.json"):
        benchmark.check_protocol(path)


def test_the_embedded_teacher_reaches_what_was_asked_of_it_on_the_tiles():
    """And random weights, as they are or with BatchNorm calibrated, do not."""
    frame = load_results("teacher", "magnetic_tile", folder=ROOT / "data/results/runs").measured()
    if not frame["seeds"].all():
        pytest.skip("rdlib reproduce teacher --on magnetic_tile has not been run")
    random, calibrated, embedded, _ = frame.pivot(index="row", columns="metric", values="mean").loc[
        [row.label for row in TABLES["teacher"].rows]].to_dict(orient="records")
    assert embedded["image_auroc"] >= 0.78 and embedded["aupro"] >= 0.40
    assert random["image_auroc"] < 0.70 and calibrated["image_auroc"] < 0.70


def of(teacher, metric="image_auroc"):
    """The mean over seeds of every category, with the seeds counted: a frame of columns mean, count."""
    return ROWS[ROWS["teacher"] == teacher].groupby("category")[metric].agg(["mean", "count"])


@pytest.mark.parametrize("teacher", benchmark.TEACHERS)
def test_every_category_has_three_seeds(teacher):
    assert (of(teacher)["count"] == 3).all() and len(of(teacher)) == 9


@pytest.mark.parametrize("metric", benchmark.COLUMNS)
def test_the_embedded_teacher_beats_random_weights_everywhere(metric):
    assert (of("embedded", metric)["mean"] > of("random", metric)["mean"]).all()


def test_the_embedded_teacher_is_good_enough_to_teach_with_and_leaves_room_for_ablations():
    image = of("embedded")["mean"]
    assert image.mean() >= 0.93 and (image > 0.99).sum() <= 4
    assert of("embedded", "aupro")["mean"].mean() >= 0.80


def test_smaller_batches_have_a_column_of_their_own():
    head, *lines = benchmark.table(ROWS, "image_auroc").splitlines()
    assert head.count("embedded, batches of 2") == 1 and "EMA" not in head
    assert (of("embedded_batch2")["count"] == 1).all() and len(of("embedded_batch2")) == len(lines) - 2


@pytest.mark.parametrize("path", [results_page.PAGE, results_page.README], ids=["page", "README"])
def test_the_pages_are_what_the_result_files_give(path):
    text = path.read_text(encoding="utf-8")
    wanted = results_page.page() if path == results_page.PAGE else results_page.put(text)
    assert text == wanted, "run python tests/results_page.py"
    assert results_page.glance() in text


def test_a_number_on_the_page_follows_its_result_file(monkeypatch, tmp_path):
    """A page that were a copy of itself would pass the test above."""
    before = results_page.novelty("digits")
    source = load_results("novelty", "digits", ["0"], folder=results_page.RESULTS / "runs")
    result = next(iter(source.stored))
    (tmp_path / "runs").mkdir()
    name = f"{source.configs[0].key}.json"
    (tmp_path / "runs" / name).write_text(json.dumps(result | {"metrics": result["metrics"] | {"image_auroc": 0.123}}))
    monkeypatch.setattr(results_page, "RESULTS", tmp_path)
    after = results_page.novelty("digits")
    assert "0.123" not in before and "0.123" in after and "1 of 10 runs" in after


def test_the_command_tells_a_stale_page(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(results_page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(sys, "argv", ["results_page.py", "--check"])
    assert results_page.main() == 1 and "page.md" in capsys.readouterr().err
    assert results_page.put("no markers") == "no markers"


@pytest.mark.parametrize("path", [path for path in sorted((ROOT / "data/results/tables").glob("*-*.csv"))
                                  if not path.stem.endswith("-epochs")], ids=lambda path: path.stem)
def test_the_stored_tables_are_those_of_the_runs(path, tmp_path):
    name, _, dataset = path.stem.partition("-")
    categories = [c for c in pd.read_csv(path, dtype={"category": str})["category"].dropna().unique() if c != "mean"]
    write_report(load_results(name, dataset, categories or None, folder=ROOT / "data/results/runs"), tmp_path)
    for file in path.parent.glob(f"{path.stem}*"):
        assert (tmp_path / file.name).read_text(encoding="utf-8") == file.read_text(encoding="utf-8")
