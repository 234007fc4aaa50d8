"""The curves that notebook 06 draws are those of their script, made with the teacher that ships."""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import lesson_curves
from recording import teacher_crc

from rdlib.encoder import TeacherEncoder

ROWS = {"image AUROC": {"constant rate", "constant rate, weights averaged", "cosine"},
        "distance": {"images trained on", "good images never seen"}}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_record_has_the_protocol_of_the_script(seed):
    found = json.loads((lesson_curves.RESULTS / f"gear_seed{seed}.json").read_text(encoding="utf-8"))
    config = found["config"]
    assert config["teacher_crc"] == teacher_crc(TeacherEncoder()) and config["seed"] == seed
    assert (config["epochs"], config["images"][0], config["size"], config["sigma"], config["ema"]) == (
        lesson_curves.EPOCHS, lesson_curves.IMAGES, lesson_curves.SIZE, lesson_curves.SIGMA, lesson_curves.DECAY)
    assert {"command", "date", "hardware", "versions", "revision"} <= set(found)
    for metric, rows in ROWS.items():
        assert set(found[metric]) == rows
        assert all(len(values) == lesson_curves.EPOCHS for values in found[metric].values())


def test_the_script_makes_such_a_record_once(tmp_path, monkeypatch, capsys):
    for name, value in {"EPOCHS": 1, "IMAGES": 4, "SIZE": 64, "SEEN": range(4), "UNSEEN": range(100, 104)}.items():
        monkeypatch.setattr(lesson_curves, name, value)
    monkeypatch.setattr(sys, "argv", ["lesson_curves.py", "--seeds", "3", "--threads", "1", "--out", str(tmp_path)])
    lesson_curves.main()
    lesson_curves.main()
    assert capsys.readouterr().out.count("seed 3") == 1
    found = json.loads((tmp_path / "gear_seed3.json").read_text(encoding="utf-8"))
    assert {metric: set(found[metric]) for metric in ROWS} == ROWS
    assert all(0 <= value <= 3 for metric in ROWS for (value,) in found[metric].values())
    assert found["metrics"]["image_auroc"] == found["image AUROC"]["constant rate"][-1]
