"""Figures of what goes on inside the networks: what is drawn where, and summaries that can be worked out by hand."""
import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from rdlib.figures.networks import Panel, panels, shapes

IMAGE = np.full((3, 4, 6), 0.5)
LOW, HIGH = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) + 10


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    assert plt.get_fignums() == []


def bars(figure):
    return [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]


def limits(figure):
    return [axis.images[0].get_clim() for axis in figure.axes
            if axis.get_label() != "<colorbar>" and axis.images and axis.images[0].get_array().ndim == 2]


@pytest.mark.parametrize("scale, expected, n_bars", [
    ("row", [(0, 5), (10, 15)], 2), ("all", [(0, 15), (0, 15)], 1), ("own", [(0, 5), (10, 15)], 0)])
def test_maps_share_their_colours_as_told(scale, expected, n_bars):
    figure = panels([[Panel(IMAGE, "image"), Panel(LOW, "low")], [None, Panel(HIGH, "high")]], "distance", scale=scale)
    assert limits(figure) == expected and len(bars(figure)) == n_bars
    assert figure.summary == "Distance, lowest to highest: low 0.00 to 5.00; high 10.0 to 15.0."
    figure.canvas.draw()


def test_rows_share_within_and_not_between():
    figure = panels([[Panel(LOW), Panel(HIGH)], [Panel(LOW), Panel(LOW)]])
    assert limits(figure) == [(0, 15), (0, 15), (0, 5), (0, 5)]


def test_marks_and_regions_are_drawn_where_they_are():
    region = np.zeros((4, 6), bool)
    region[1:3, 2:4] = True
    figure = panels([[Panel(IMAGE, mark=(3, 1), region=region), Panel(LOW)]])
    axis = figure.axes[0]
    assert (axis.lines[0].get_xdata(), axis.lines[0].get_ydata()) == ([1], [3])
    vertices = np.concatenate([path.vertices for lines in axis.collections for path in lines.get_paths()])
    assert vertices.min(0).tolist() == [1.5, 0.5] and vertices.max(0).tolist() == [3.5, 2.5]


@pytest.mark.parametrize("rows, scale", [
    ([], "row"), ([[]], "row"), ([[None, None]], "row"), ([[Panel(LOW)], []], "row"), ([[Panel(LOW)]], "col")])
def test_what_cannot_be_laid_out_is_refused(rows, scale):
    with pytest.raises(ValueError):
        panels(rows, scale=scale)


def test_blocks_are_as_high_and_wide_as_roots_of_their_shapes():
    figure = shapes({"a": (16, 64, 64), "b": (64, 16, 16)}, "two blocks")
    a, b = (p for p in figure.axes[0].patches if isinstance(p, Rectangle))
    assert a.get_height() == 2 * b.get_height()
    assert a.get_width() - 0.15 == pytest.approx((b.get_width() - 0.15) / 2)
    assert figure.summary == "Channels, height, width: a (16, 64, 64); b (64, 16, 16)."
    with pytest.raises(ValueError, match="blocks"):
        shapes({})


@pytest.mark.parametrize("scale", ["row", "all"])
def test_bars_and_their_words_stay_inside_the_picture(scale):
    maps = [Panel(np.linspace(0, 1, 256 ** 2).reshape(256, 256), "f1: 64 channels")] * 3
    figure = panels([[Panel(np.zeros((3, 256, 256)), "image"), *maps]], "gradient", scale=scale)
    figure.savefig(io.BytesIO(), format="png")
    assert figure.get_tightbbox().x1 <= figure.get_size_inches()[0]
