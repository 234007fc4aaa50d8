"""The README's tables of results are what the result files say: no number without its run."""
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import readme_tables  # noqa: E402
import synthetic as benchmark  # noqa: E402

from rdlib.encoder import TeacherEncoder
from rdlib.reproduction import GROUNDS, TABLES, cells, measured, write_report  # noqa: E402
from rdlib.reproduction.cost import costs  # noqa: E402
from rdlib.reproduction.recorded import recorded  # noqa: E402
from rdlib.training.checkpoint import fingerprint

ROWS = benchmark.records()


def test_every_run_has_the_protocol_of_the_benchmark():
    assert len(ROWS) and not ROWS.duplicated(["category", "teacher", "seed"]).any()
    for path in benchmark.RESULTS.glob("*.json"):
        benchmark.check_protocol(path)


def test_the_tiles_were_measured_with_the_teacher_that_ships():
    for seed in range(3):
        run = json.loads((ROOT / f"data/results/magnetic_tile_embedded_seed{seed}.json").read_text())
        assert run["config"]["teacher_crc"] == fingerprint(TeacherEncoder()) and run["config"]["epochs"] == 6


def test_the_embedded_teacher_reaches_what_was_asked_of_it_on_the_tiles():
    """And random weights, as they are or with BatchNorm calibrated, do not."""
    found = {name: pd.DataFrame(readme_tables.tiles_of(name)["6"]).mean() for name in benchmark.TEACHERS}
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


@pytest.mark.parametrize("ground, title", [("mnist", "MNIST"), ("digits", "digits")])
def test_novelty_in_the_readme_is_what_the_runs_gave(ground, title):
    frame = measured(readme_tables.on_record("novelty", ground), readme_tables.STORE)
    for row in TABLES["novelty"].rows:
        values = frame[(frame["row"] == row.label) & (frame["metric"] == "image_auroc")].set_index("category")["mean"]
        line = " | ".join(f"{values[category]:.3f}" for category in (*map(str, range(10)), "mean"))
        assert f"| {title}, {row.label} | {line} |" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_in_the_readme_are_those_on_record():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(mark in readme for marks in readme_tables.PLACES.values() for mark in marks)
    assert readme_tables.put(readme) == readme, "run python tests/readme_tables.py"


@pytest.mark.parametrize("path", [path for path in sorted((ROOT / "data/results/tables").glob("*-*.csv"))
                                  if not path.stem.endswith("-epochs")], ids=lambda path: path.stem)
def test_the_tables_on_record_are_those_of_the_runs(path, tmp_path):
    name, _, family = path.stem.partition("-")
    categories = [c for c in pd.read_csv(path, dtype={"category": str})["category"].dropna().unique() if c != "mean"]
    wanted = recorded(cells(TABLES[name], GROUNDS[family], categories or None), readme_tables.STORE)
    write_report(TABLES[name], GROUNDS[family], wanted, readme_tables.STORE, tmp_path)
    for file in path.parent.glob(f"{path.stem}*"):
        if file.suffix != ".html":  # the pages are not kept
            assert (tmp_path / file.name).read_text() == file.read_text()


def test_the_speeds_in_the_readme_are_those_on_record():
    speeds = costs(ROOT / "data/results/costs").set_index("backbone")["images_per_second"]
    said = f"ResNet-18 passes {speeds['resnet18']} images/s, Wide-ResNet-50-2 {speeds['wide_resnet50_2']}"
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")
