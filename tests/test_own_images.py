"""Notebook 12 on folders as readers have them: it runs from top to bottom and speaks of their images only."""
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from rdlib import course

NOTEBOOK = nbformat.read(Path(__file__).parents[1] / "notebooks/12_your_own_images.ipynb", as_version=4)
COLOUR, GREY = ((64, 64, 3), "png"), ((80, 96), "jpg")  # (height, width) and kind of file


def fill(place, number, look=COLOUR, damaged=False):
    """Write so many noisy images, with a dark square where they are damaged."""
    shape, suffix = look
    place.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        pixels = np.random.default_rng(len(str(place)) + i).integers(90, 160, shape, dtype=np.uint8)
        pixels[20:30, 20:40] = 20 if damaged else pixels[20:30, 20:40]
        Image.fromarray(pixels).save(place / f"nº {i} $a$.{suffix}")


def masks(place, number):
    place.mkdir(parents=True)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:40] = 255
    for i in range(number):
        Image.fromarray(mask).save(place / f"nº {i} $a$_mask.png")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Execute the code cells on `folder`, small and short, up to the heading `until`; their output and their names."""
    place = tmp_path / "kit/notebooks"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setitem(course.PROFILES, "cpu", replace(course.PROFILES["cpu"], size=64, epochs=1))

    def execute(folder, incoming="", until=None):
        names = {"display": print}
        for cell in NOTEBOOK.cells:
            if until and until in cell.source:
                break
            if cell.cell_type == "code":
                source = cell.source.replace('FOLDER = r""', f"FOLDER = {str(folder)!r}")
                exec(source.replace('INCOMING = r""', f"INCOMING = {str(incoming)!r}"), names)
        assert (names["own"], names["example"]) == (folder.resolve(), False)
        assert not list((tmp_path / "kit").rglob("capsule*")), "the drawn images stay away from the reader's"
        return capsys.readouterr().out, names

    return execute


@pytest.mark.slow
def test_forty_good_images_in_a_flat_folder(run, tmp_path):
    folder = tmp_path / "Bob's Prüfteile, neu"
    fill(folder, 40, GREY)
    said, names = run(folder)
    assert "28 to train, 12 held out" in said and "accepted: 8% false alarms" in said
    assert said.count("Passed over") == 4 and "there are 0 and 0" in said
    assert len(names["table"]) == 40 and "as many alarms as above: True" in said
    assert "Held-out good images; outlined" in said and not re.search(r"\d test images", said)


@pytest.mark.slow
def test_forty_good_images_and_defective_ones(run, tmp_path):
    folder = tmp_path / "parts"
    fill(folder / "train/good", 40)
    for kind, number in (("good", 6), ("rust", 5), ("bent", 1)):  # one image of a kind cannot be halved
        fill(folder / "test" / kind, number, damaged=kind != "good")
        if kind != "good":
            masks(folder / "ground_truth" / kind, number)
    said, names = run(folder)
    assert "12 to test with: {'bent': 1, 'good': 6, 'rust': 5}" in said and "80 % found" in said
    assert sorted(names["test"].labels) == sorted(names["validation"].labels) == [0, 0, 0, 1, 1, 1]
    assert said.count("Passed over") == 1 and "INCOMING/good" in said
    assert len(names["table"]) == 12 and set(names["table"].error) == {""}, "the test images are scored, no masks"


def test_ninety_good_images_and_later_ones(run, tmp_path):
    fill(tmp_path / "parts/train/good", 90)
    fill(tmp_path / "later/good", 5, GREY)
    fill(tmp_path / "later/new", 3, damaged=True)
    said, names = run(tmp_path / "parts", tmp_path / "later")
    assert "63 to train, 27 held out" in said and "accepted: 5% false alarms" in said
    assert len(names["later"].scores) == 5 and "false alarms, 95 % interval" in said
    assert len(names["table"]) == 8


@pytest.mark.parametrize("train, held, rate, test", [
    (12, 4, "20%", {}), (2, 1, "50%", {}), (12, 4, "20%", {"good": 2}), (12, 4, "20%", {"rust": 2}),
    (12, 4, "20%", {"good": 1, "rust": 3}), (12, 4, "20%", {"good": 3, "rust": 2})])
def test_few_images_and_test_sets_that_lack_a_kind(run, tmp_path, train, held, rate, test):
    folder = tmp_path / "parts"
    fill(folder / "train/good", train)
    for kind, number in test.items():
        fill(folder / "test" / kind, number, damaged=kind != "good")
    said, names = run(folder, tmp_path / "unsorted", until="## 8.")
    assert f"{held} held out" in said and f"accepted: {rate} false alarms" in said
    assert names["both"] == (min(test.get("good", 0), test.get("rust", 0)) > 1)
    assert ("there are {good} and {rust}".format(**{"good": 0, "rust": 0} | test) in said) != names["both"]
    assert bool(names["final"]) == bool(test) and names["loaded"].threshold.good == held


def test_one_image_is_too_few(run, tmp_path):
    fill(tmp_path / "parts", 1)
    with pytest.raises(ValueError, match="One good image leaves none to hold out. Put more"):
        run(tmp_path / "parts")


def test_what_was_found_on_the_capsules_is_marked():
    """A paragraph that names them, their defects or their numbers says that it is about the drawn capsules."""
    text = "\n\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    told = re.compile(r"capsule|scratch|\bdents?\b|\bcracks?\b|misprint|two hundred|the hundred|twenty|\d+ of \d+")
    unmarked = [part for part in text.split("\n\n") if told.search(part) and "drawn\ncapsules" not in part
                and "drawn capsules" not in part]
    assert unmarked == []
