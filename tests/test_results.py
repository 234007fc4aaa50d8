"""The pages of results are what the result files give: no number without its run."""
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import results_page
import synthetic as benchmark
from magnetic_tile import teacher_crc

from rdlib.encoder import TeacherEncoder
from rdlib.reproduction import load_results, write_report

ROOT = Path(__file__).parents[1]
ROWS = benchmark.records()


def test_every_run_has_the_protocol_of_the_benchmark():
    assert len(ROWS) and not ROWS.duplicated(["category", "teacher", "seed"]).any()
    for path in benchmark.RESULTS.glob("*.json"):
        benchmark.check_protocol(path)


def test_the_tiles_were_measured_with_the_teacher_that_ships():
    for seed in range(3):
        run = json.loads((ROOT / f"data/results/magnetic_tile_embedded_seed{seed}.json").read_text())
        assert run["config"]["teacher_crc"] == teacher_crc(TeacherEncoder()) and run["config"]["epochs"] == 6


def test_the_embedded_teacher_reaches_what_was_asked_of_it_on_the_tiles():
    """And random weights, as they are or with BatchNorm calibrated, do not."""
    found = {name: pd.DataFrame(results_page.tiles_of(name)["6"]).mean() for name in benchmark.TEACHERS}
    assert found["embedded"]["image_auroc"] >= 0.78 and found["embedded"]["aupro"] >= 0.40
    assert all(found[name]["image_auroc"] < 0.70 for name in ("random", "random_calibrated"))


def of(teacher, metric="image_auroc"):
    """The mean over seeds of every category, with the seeds counted: a frame of columns mean, count."""
    return ROWS[ROWS["teacher"] == teacher].groupby("category")[metric].agg(["mean", "count"])


@pytest.mark.parametrize("teacher", [*benchmark.TEACHERS, "embedded_averaged", "embedded_averaged_batch2",
                                     "random_averaged_batch2"])
def test_every_category_has_three_seeds(teacher):
    assert (of(teacher)["count"] == 3).all() and len(of(teacher)) == 9


@pytest.mark.parametrize("way", ["", "_averaged_batch2"])
@pytest.mark.parametrize("metric", benchmark.COLUMNS)
def test_the_embedded_teacher_beats_random_weights_everywhere(metric, way):
    assert (of(f"embedded{way}", metric)["mean"] > of(f"random{way}", metric)["mean"]).all()


@pytest.mark.parametrize("teacher", ["embedded", "embedded_averaged_batch2"])
def test_the_benchmark_leaves_room_for_ablations(teacher):
    assert (of(teacher)["mean"] > 0.99).sum() <= 4
    assert of(teacher, "aupro")["mean"].mean() >= 0.80


def test_the_embedded_teacher_is_good_enough_to_teach_with():
    assert of("embedded_averaged_batch2")["mean"].mean() >= 0.95


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
