"""The pages of results are what the result files give: no number without its run."""
import hashlib
import json
import re
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import picked_epochs
import pytest
import results_claims
import results_curves
import results_page
import results_tables
import synthetic as benchmark

from rdlib.reproduction import BENCHMARKS, TABLES, ResultStore, grid, load_results, published_numbers, write_report

ROOT = Path(__file__).parents[1]
ROWS = benchmark.records()


def test_every_run_has_the_protocol_of_the_benchmark():
    assert len(ROWS) and not ROWS.duplicated(["category", "teacher", "seed"]).any()
    for path in benchmark.RESULTS.glob("*.json"):
        benchmark.check_protocol(path)


def of(teacher, metric="image_auroc"):
    """The mean over seeds of every category, with the seeds counted: a frame of columns mean, count."""
    return ROWS[ROWS["teacher"] == teacher].groupby("category")[metric].agg(["mean", "count"])


@pytest.mark.parametrize("teacher", benchmark.TEACHERS)
def test_every_category_has_three_seeds(teacher):
    assert (of(teacher)["count"] == 3).all() and len(of(teacher)) == 9


@pytest.mark.parametrize("metric", benchmark.COLUMNS)
def test_the_embedded_teacher_beats_random_weights_everywhere(metric):
    assert (of("embedded", metric)["mean"] > of("random", metric)["mean"]).all()


def test_the_benchmark_leaves_room_for_ablations():
    assert (of("embedded")["mean"] > 0.99).sum() <= 4
    assert of("embedded", "aupro")["mean"].mean() >= 0.80


@pytest.mark.parametrize("path", [results_page.PAGE, results_page.README], ids=["page", "README"])
def test_the_pages_are_what_the_result_files_give(path):
    text = path.read_text(encoding="utf-8")
    wanted = results_page.page() if path == results_page.PAGE else results_page.put(text)
    assert text == wanted, "run python tests/results_page.py"
    assert (results_page.glance() if path == results_page.README else results_tables.main_table()) in text


def test_a_number_on_the_page_follows_its_result_file(monkeypatch, tmp_path):
    """A page that were a copy of itself would pass the test above."""
    before = results_tables.novelty("digits")
    source = load_results("novelty", "digits", ["0"], folder=results_tables.RESULTS / "runs")
    result = next(iter(source.stored))
    (tmp_path / "runs").mkdir()
    name = f"{source.configs[0].key}.json"
    (tmp_path / "runs" / name).write_text(json.dumps(result | {"metrics": result["metrics"] | {"image_auroc": 0.123}}))
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path)
    after = results_tables.novelty("digits")
    assert "0.123" not in before and "0.123" in after and "1 of 10 runs" in after


def cells(line):
    return [cell.strip() for cell in line.replace("\u00a0", " ").strip("|").split("|")]


def numbers(text):
    """The numbers of a cell: mean, and standard deviation if there is one."""
    return [float(number) for number in re.findall(r"[+-]?\d\.\d{3}", text)]


@pytest.mark.parametrize("line", results_tables.main_table().splitlines()[2:], ids=lambda line: cells(line)[0])
def test_every_number_of_the_main_table_is_in_its_result_files(line):
    """Read the linked files by plain JSON, and compute each cell again."""
    title, _, recipe, epochs, seeds, *values, published, links = cells(line)
    names = re.findall(r"\((runs/[^)]*)\)", links)
    files = [json.loads((results_tables.RESULTS / name).read_text()) for name in names]
    assert files or values[0] == "" and seeds == ""
    shown = ["image_auroc", None, "pixel_auroc", "aupro", "aupro_per_image"]
    scored = "123 averaged" if "averaged weights" in recipe else "123 max" if "maximum" in recipe else None
    for metric, text in zip(shown, values, strict=True):
        by = {}
        for run in files:
            if metric is None:
                curve = run["averaged_curve" if scored == "123 averaged" else "curve"]
                found = max((point["image_auroc"] for point in curve.values()), default=None)
            else:
                found = (run["scored_by"][scored] if scored else run["metrics"]).get(metric)
            by.setdefault(run["config"]["seed"], []).append(found)
            assert str(run["config"]["epochs"]) == epochs
        if not numbers(text):
            continue
        means = [statistics.fmean(found) for found in by.values()]
        assert ", ".join(map(str, by)) == seeds
        spread = [statistics.stdev(means)] if len(means) > 1 else []
        assert numbers(text) == pytest.approx([statistics.fmean(means), *spread], abs=6e-4), (title, recipe, metric)
    if numbers(published):
        frame = published_numbers()
        paper = frame["value"][frame["variant"].str.startswith("RD4AD (paper") & (frame["unit"] == "%")] / 100
        value, *difference = numbers(published)
        assert any(abs(paper - value) < 1e-9)
        assert difference == pytest.approx([numbers(values[0])[0] - value][:len(difference)], abs=1.1e-3)


def file_runs(folder, table, dataset, value, **parts):
    """Store made-up results: `value` of a row's label, seed and epoch; None as epoch for the last."""
    store = ResultStore(folder / "runs")
    for row, _, config in grid(TABLES[table], BENCHMARKS[dataset]):
        epochs = range(config.curve_every, config.epochs + 1, config.curve_every) if config.curve_every else ()
        point = {"pixel_auroc": 0.993, "aupro": 0.96}
        curve = {str(epoch): {"image_auroc": value(row.label, config.seed, epoch), **point} for epoch in epochs}
        last = {"image_auroc": value(row.label, config.seed, config.epochs), **point}
        metrics = {name: 0.5 for name in ("image_ap", "image_f1_max", "pixel_ap", "pixel_f1_max")}
        store.write(config, {
            "config": asdict(config), "metrics": metrics | last | {"aupro_per_image": 0.97}, "per_defect": {},
            "scored_by": {"123": last, "123 averaged": last}, "curve": curve, "averaged_curve": curve, "losses": [],
            "bootstrap": {name: {"image_auroc": [9000] * 200} for name in ("123", "123 averaged")},
            "versions": {"torch": "2"}, "hardware": "CPU", "seconds": 60.0, "peak_memory_mb": 9, "date": "2026-01-01",
            "revision": "abc"} | parts)


@pytest.fixture
def screw(monkeypatch, tmp_path):
    """Runs on screw that peak early and end at 0.90, 0.91 and 0.92; the printed loss is lower by 0.1."""
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path)
    file_runs(tmp_path, "loss", "screw", lambda label, seed, epoch:
              0.90 + 0.01 * seed + 0.05 * (epoch == 10) - 0.1 * ("position" in label))


def test_the_main_table_of_runs_on_screw(screw):
    plain, averaged, printed, _ = [cells(line) for line in results_tables.main_table().splitlines() if "screw" in line]
    assert plain[2:7] == ["flattened loss, bfloat16", "50", "0, 1, 2", "0.910 ± 0.010", "0.960 ± 0.010"]
    assert plain[8:11] == ["0.960 ± 0.000", "0.970 ± 0.000", "0.970 (-0.060), Wide-ResNet-50-2"]
    assert averaged[2] == "flattened loss, bfloat16, averaged weights" and averaged[9] == "–"
    assert printed[2] == "loss by position, bfloat16" and printed[5] == "0.810 ± 0.010"
    beside = results_tables.beside("screw").replace("\u00a0", " ")
    assert "0.970 (-0.060) | 0.996 (-0.003) | 0.982 (-0.012) |" in beside, "the paper's AUPRO is the one per image"
    assert "| ResNet-18 | unknown | unknown | early stop | 0.778 (+0.132) |" in beside
    assert "| 256 | 111 | last | 0.989 (-0.079) |" in beside


def test_agreement_with_the_official_modules_is_computed(screw, monkeypatch, tmp_path):
    text = results_curves.agreement()
    assert "**It holds.**" in text and "| 50 | 0.910\u00a0±\u00a00.010 | 0.926 |" in text
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path / "lower")
    file_runs(tmp_path / "lower", "loss", "screw", lambda label, seed, epoch: 0.87 if epoch >= 30 else 0.95)
    assert "**It does not hold.**" in results_curves.agreement()
    next((tmp_path / "lower/runs").glob("*seed1*")).unlink()
    results_tables.loaded.cache_clear()
    assert "It cannot be judged yet." in results_curves.agreement()
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path / "none")
    assert "It cannot be judged yet." in results_curves.agreement()


def test_the_best_epochs_by_hand():
    curve = [("a", 1, 0.9, 0.6), ("a", 2, 0.8, 0.9), ("a", 3, 0.7, 0.5)]  # means 0.75, 0.85, 0.6
    frame = pd.DataFrame([(log, 0, epoch, name, value) for log, epoch, *values in curve
                          for name, value in zip("xy", values, strict=True)],
                         columns=["log", "seed", "epoch", "category", "image_auroc"])
    assert picked_epochs.picked(frame).loc["a"].tolist() == [pytest.approx(0.6), pytest.approx(0.85),
                                                             pytest.approx(0.9), "2", "y 0.500"]


def test_a_category_that_broke_in_a_public_log_is_named():
    frame = picked_epochs.picked(picked_epochs.public())
    assert frame.loc["RD, MVTec AD, 100 epochs", "broken"] == "bottle 0.406"
    assert frame.loc["RD, MVTec AD, 300 epochs", ["last", "best", "own"]].tolist() == pytest.approx(
        [0.905, 0.969, 0.983], abs=5e-4)
    assert len(frame) == 30 and (frame["own"] >= frame["best"]).all() and (frame["best"] >= frame["last"]).all()


def test_the_figure_shows_what_the_table_says(tmp_path):
    record = json.loads(picked_epochs.FIGURE.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(picked_epochs.FIGURE.read_bytes()).hexdigest() == record["sha256"]
    frame = picked_epochs.rows(results_tables.RESULTS / "runs")
    pd.testing.assert_frame_equal(pd.DataFrame(record["shown"]).set_index("log"), frame, check_dtype=False, atol=1e-5)
    picked_epochs.draw(frame.head(3), tmp_path / "a.png")
    first = (tmp_path / "a.png").stat().st_mtime_ns
    picked_epochs.draw(frame.head(3), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mtime_ns == first, "it is drawn again only for other lines"


@pytest.mark.parametrize("verdicts, words", [
    (["worse", "worse"], "shown, 2 of 2"), (["worse", "no difference shown"], "shown in part, 1 of 2"),
    (["no difference shown"] * 2, "not shown, 0 of 2"), (["better", "worse"], "mixed, 1 of 2"),
    (["better", "not run here"], "contradicted, 0 of 2"), (["not run here"] * 2, "not run here"),
    (["shown, no verdict", "not run here"], "no verdict yet"),
    (["worse", "3 of 12 runs so far"], "shown in part, 1 of 2")])
def test_a_verdict_on_a_claim_follows_from_its_rows(verdicts, words):
    assert results_claims.judged(verdicts).startswith(words)


def test_a_claim_beside_its_reference(screw):
    claim = results_claims.CLAIMS["loss"]
    table = results_claims.claim_table(claim).replace("\u00a0", " ")
    assert "| by position (eq. 2) | 3 | 0.810 ± 0.010 | -0.100 ± 0.000 |" in table
    assert "magnetic tiles, 30 epochs: not run here" in results_claims.verdict(claim)


@pytest.mark.parametrize("claim", results_claims.CLAIMS.values(), ids=results_claims.CLAIMS)
def test_every_claim_names_rows_of_its_table(claim):
    labels = [row.label for row in TABLES[claim.table].rows]
    assert claim.reference in labels and any(label.startswith(claim.rows) for label in labels)


def test_measures_are_averaged_over_categories_and_seeds(monkeypatch, tmp_path):
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path)
    assert results_claims.measures("direction", "magnetic_tile_5") == "No run has recorded these measures yet."
    monkeypatch.setattr(results_tables, "RESULTS", tmp_path / "runs_of_tiles")
    file_runs(tmp_path / "runs_of_tiles", "direction", "magnetic_tile_5", lambda *_: 0.9, measures={"imitation": 0.25})
    assert "| reverse, flattened | 0.250\u00a0±\u00a00.000 |" in results_claims.measures("direction", "magnetic_tile_5")


def test_the_promises_of_held_out_images():
    """The largest of n scores is exceeded by 1 in n + 1 on average; with 95 % confidence by 1 - 0.05^(1/n) at most."""
    rows = [cells(line) for line in results_claims.images().splitlines()[2:] if line.startswith("|")]
    assert [row[0] for row in rows] == ["10", "25", "50", "100", "250", "761"]
    for n, *_, average, bound in rows:
        assert average == f"1 in {int(n) + 1}" and bound == f"{100 * (1 - 0.05 ** (1 / int(n))):.1f} %"


def test_nothing_is_guessed_about_a_published_number():
    frame = published_numbers()
    text = frame["table"] + "; " + frame["variant"]
    assert set(frame["epoch"]) == {"last", "best on test", "early stop", "unknown"}
    for column, words in (("resolution", "{}px"), ("seeds", "seed {}")):
        known = frame[column] != "unknown"
        assert known.any() and all(words.format(value) in line for value, line in zip(
            frame.loc[known, column], text[known], strict=True))
    assert text[frame["epoch"] == "best on test"].str.contains("on test").all()
    assert text[frame["epoch"] == "last"].str.contains("last").all()


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
