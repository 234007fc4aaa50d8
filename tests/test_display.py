"""What an object shows of itself: a few lines of text, a table in a notebook, without markup from outside."""
import numpy as np
import pytest
import torch
from PIL import Image
from test_figures import report_of

from rdlib import ReverseDistillation, Run, load_dataset
from rdlib.deploy.page import write_page
from rdlib.threshold import Threshold
from rdlib.utils.display import Shown
from rdlib.widgets import defect_explorer

HOSTILE = "<img src=x onerror=alert(1)>"


class Part(Shown):
    def summary(self):
        return {"name": "<b>&", "size": 0, "missing": None, "empty": ""}


def test_text_has_a_line_for_each_entry_that_has_a_value():
    assert repr(Part()) == "Part\n  name: <b>&\n  size: 0"


def test_html_is_escaped_and_leaves_out_the_same_entries():
    html = Part()._repr_html_()
    assert "&lt;b&gt;&amp;" in html and "<b>" not in html
    assert html.count("<tr>") == 2 and "missing" not in html


@pytest.fixture
def data(tmp_path):
    """A data set whose name and defect type are markup."""
    root = tmp_path / HOSTILE
    for number, place in enumerate(("train/good", "test/good", f"test/{HOSTILE}")):
        (root / place).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(root / place / f"{i}{HOSTILE}.png")
    return load_dataset(f"folder:{root}", size=64)


def test_names_from_outside_are_text_on_the_report_page(data, tmp_path):
    report = report_of([("good", 0.2), (HOSTILE, 0.9)])
    model = ReverseDistillation("resnet18", weights=None)
    model.threshold = Threshold(score=0.5, pixel=0.5, size=(64, 64), rule=HOSTILE, good=1, alarms=0)
    write_page(tmp_path / "page.html", data, HOSTILE, Run(model, 1, 1, 2, {"data": HOSTILE}, losses=[1.0]), report)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<img src=x" not in page and page.count("&lt;img src=x") >= 6
    assert "<img" not in data._repr_html_() and "&lt;img" in data._repr_html_()


def test_names_from_outside_are_text_in_the_explorer(data):
    torch.manual_seed(0)
    words = defect_explorer(ReverseDistillation("resnet18", weights=None), data).panels.words.value
    assert "<img" not in words and f"Image 0, {HOSTILE}".replace("<", "&lt;").replace(">", "&gt;") in words
