"""Recorded runs are compared with today's code, once, and the summary counts them right."""
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import first_epochs

from rdlib.reproduction import Machine, load_results

LATER = "9999-12-31"


@pytest.fixture
def stored(tmp_path):
    """A folder of results with the runs of two digits, and their settings."""
    runs = load_results("novelty", "digits", ["0", "1"], folder=first_epochs.RESULTS / "runs")
    (tmp_path / "runs").mkdir()
    for config in runs.configs:
        shutil.copy(first_epochs.RESULTS / "runs" / f"{config.key}.json", tmp_path / "runs")
    return tmp_path, runs.configs


def test_an_epoch_is_compared_with_the_record_once(stored, monkeypatch):
    folder, (config, _) = stored
    first_epochs.compare(LATER, Machine(), 1, [config.key], folder)
    text = (folder / "first_epochs.json").read_text()
    found = json.loads(text)["runs"]
    assert set(found) == {config.key}
    run = found[config.key]
    assert run["again"] == pytest.approx(run["recorded"], rel=0.02)  # another processor rounds otherwise
    assert run["equal"] == (run["again"] == run["recorded"]) and {"hardware", "revision", "date"} <= set(run)
    monkeypatch.setattr(first_epochs, "again", None)  # a second call trains nothing
    first_epochs.compare(LATER, Machine(), 1, [config.key], folder)
    assert (folder / "first_epochs.json").read_text() == text
    assert "1 of 2 recorded runs" in first_epochs.summary(folder)


def test_the_summary_counts_what_is_still_on_record(stored):
    folder, (config, other) = stored
    recorded = {run.key: value for run, value in first_epochs.recorded(LATER, folder).items()}
    runs = {config.key: {"recorded": recorded[config.key], "equal": True, "difference": 0.0, "hardware": "CPU"},
            other.key: {"recorded": recorded[other.key], "equal": False, "difference": 2e-4, "hardware": "CPU"}}

    def summary():
        (folder / "first_epochs.json").write_text(json.dumps({"before": LATER, "runs": runs}))
        return first_epochs.summary(folder)

    assert "2 of 2 recorded" in summary() and "1 gave the same loss" in summary() and "0.0002 at most" in summary()
    runs[other.key]["recorded"] = 0.0  # the run was executed again since
    assert "1 of 2 recorded" in summary() and "differ" not in summary()
    assert not first_epochs.recorded("2000-01-01", folder)


def test_runs_share_a_first_epoch_if_only_their_evaluation_differs(stored):
    config = stored[1][0]
    shared = replace(config, sigma=1.0, score="max", curve_every=1, ema=0.99, epochs=7)
    assert first_epochs.training(shared) == first_epochs.training(config)
    other = [{"seed": 1}, {"lr": 0.1}, {"train_scales": (1,)}, {"schedule": "cosine"}, {"method": "memory"}]
    others = [first_epochs.training(replace(config, **change)) for change in other]
    assert len({*others, first_epochs.training(config)}) == 6
    assert first_epochs.training(replace(others[3], epochs=7)) != others[3], "the first rates depend on the epochs"


def test_what_is_missing_is_named(stored, tmp_path):
    config = replace(stored[1][0], weights="imagenet", weights_id="0123456789ab")
    assert "--weights imagenet=FILE" in first_epochs.again(config, Machine())[1]
    elsewhere = replace(stored[1][0], dataset="mvtec/screw")
    assert "needs its data" in first_epochs.again(elsewhere, Machine(roots={"mvtec": str(tmp_path)}))[1]
