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


def text_of(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts] + [a.get_title() for a in figure.axes]


def test_pictures_outline_defects_only_and_keep_their_summary(dataset):
    items = [dataset[i] for i in range(3)]
    figure = figures.pictures(items, ["a", "b", "c"], 2, "three")
    assert figure.summary == "three" and [a.get_title() for a in figure.axes] == ["a", "b", "c", ""]
    assert [len(a.collections) for a in figure.axes] == [0, 1, 1, 0]
    assert not any(a.collections for a in figures.pictures(items, ["a", "b", "c"], 3, "three", outlines=False).axes)
    with pytest.raises(ValueError, match="3 images, 2 titles"):
        figures.pictures(items, ["a", "b"], 2, "three")


@pytest.mark.parametrize("shared", [True, False])
def test_methods_side_by_side_share_a_scale_or_have_their_own(dataset, shared):
    low, high = np.zeros((3, SIZE, SIZE)), np.zeros((3, SIZE, SIZE))
    low[1, 5, 5], high[2, 5, 5], high[0, 0, 0] = 0.5, 4, 9  # image 0 is not shown, and must not stretch the scale
    figure = figures.side_by_side(dataset, {"low": low, "high": high}, [1, 2], "distance", shared=shared)
    limits = {tuple(i.get_clim()) for a in figure.axes for i in a.get_images() if i.get_array().ndim == 2}
    assert {c for c in limits if c[0] == 0 and c[1] in (0.5, 4)} == ({(0, 4)} if shared else {(0, 0.5), (0, 4)})
    assert figure.summary == ("Highest values on 2 test images: low 0.500 (hole), 0.00 (cut); high 0.00 (hole), "
                              "4.00 (cut).")
    assert {"image", "low", "high"} <= set(text_of(figure))


def test_side_by_side_refuses_what_is_not_there(dataset):
    maps = {"low": np.zeros((3, SIZE, SIZE))}
    with pytest.raises(ValueError, match="0 to 2"):
        figures.side_by_side(dataset, maps, [3], "distance")
    with pytest.raises(ValueError, match="No maps to compare"):
        figures.side_by_side(dataset, {}, [0], "distance")


@pytest.mark.parametrize("made", TENSORS)
def test_tensors_of_any_device_and_dtype(dataset, made):
    maps = np.zeros((3, SIZE, SIZE))
    maps[1, 5, 5] = 0.5
    for draw in (lambda values: figures.side_by_side(dataset, {"a": values}, [1, 2], "distance"),
                 lambda values: figures.panels([[figures.Panel(values[1], region=values[1] > 0)]], "distance")):
        assert draw(made(maps)).summary == draw(maps).summary


def test_maps_that_are_not_finite_are_named(dataset):
    with pytest.raises(ValueError, match="maps of mine hold NaN"):
        figures.side_by_side(dataset, {"mine": np.full((3, SIZE, SIZE), np.nan)}, [1], "distance")
