"""The lessons' figures say what the data say, on data small enough to work out by hand."""
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from test_metrics import TENSORS

from rdlib import figures
from rdlib.datasets.samples import AnomalyDataset

SIZE = 16


class Square:
    """A gray image whose defect, if any, is a square of 4 x 4 pixels."""

    def __init__(self, defect):
        self.defect, self.label, self.name = defect, int(defect != "good"), defect

    def load(self, size):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[4:8, 4:8] = self.label == 1
        return torch.where(mask, 200, 90).to(torch.uint8).expand(3, *size).contiguous(), mask


@pytest.fixture
def dataset():
    return AnomalyDataset([Square(kind) for kind in ("good", "hole", "cut")], (SIZE, SIZE))


@pytest.fixture(autouse=True)
def nothing_stays():
    before = dict(plt.rcParams)
    yield
    assert not plt.get_fignums() and dict(plt.rcParams) == before


def test_pictures_outline_defects_only_and_keep_their_summary(dataset):
    items = [dataset[i] for i in range(3)]
    figure = figures.pictures(items, ["a", "b", "c"], 2, "three")
    assert figure.summary == "three" and [a.get_title() for a in figure.axes] == ["a", "b", "c", ""]
    assert [len(a.collections) for a in figure.axes] == [0, 1, 1, 0]
    assert not any(a.collections for a in figures.pictures(items, ["a", "b", "c"], 3, "three", outlines=False).axes)
    for titles in (["a", "b"], []):
        with pytest.raises(ValueError):
            figures.pictures(items[:len(titles) and 3], titles, 2, "three")


@pytest.mark.parametrize("made", TENSORS)
def test_tensors_of_any_device_and_dtype(made):
    maps = np.zeros((3, SIZE, SIZE))
    maps[1, 5, 5] = 0.5

    def draw(values):
        return figures.panels([[figures.Panel(values[1], region=values[1] > 0)]], "distance")

    assert draw(made(maps)).summary == draw(maps).summary
