"""Figures say what the data say: summaries, labels and shapes on reports small enough to work out by hand."""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from scipy.integrate import trapezoid

from rdlib import Run, figures
from rdlib.datasets.samples import AnomalyDataset
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import stored, thinned

SIZE = 32


class Square:
    """A gray image whose defect, if any, is a square of 8 x 8 pixels."""

    def __init__(self, defect):
        self.defect, self.label, self.name = defect, int(defect != "good"), defect

    def load(self, size):
        mask = torch.zeros(size, dtype=torch.bool)
        mask[8:16, 8:16] = self.label == 1
        return torch.where(mask, 200, 90).to(torch.uint8).expand(3, *size).contiguous(), mask


def report_of(heights, has_masks=True):
    """A report on [(kind, score)]: maps of 0.1 that reach the score in the mask's square, good ones elsewhere."""
    dataset = AnomalyDataset([Square(kind) for kind, _ in heights], (SIZE, SIZE), has_masks)
    maps = np.full((len(heights), SIZE, SIZE), 0.1, np.float32)
    for values, (kind, score) in zip(maps, heights, strict=True):
        where = slice(8, 16) if kind != "good" else slice(20, 24)
        values[where, where] = score
    masks = np.stack([item.mask.numpy() for item in dataset])
    return Report(dataset, maps, maps.max((1, 2)), masks, 0.3, 1.0)


MIXED = [("good", 0.2), ("hole", 0.9), ("good", 0.5), ("cut", 0.4), ("hole", 0.8), ("good", 0.3), ("cut", 0.6)]


@pytest.fixture
def report():
    return report_of(MIXED)


@pytest.fixture(autouse=True)
def nothing_stays():
    """No test leaves a figure open, a style changed or a figure that cannot be drawn."""
    before = matplotlib.rcParams.copy()
    yield
    assert plt.get_fignums() == []
    assert matplotlib.rcParams == before


def run_of(losses, steps_per_epoch):
    return Run(None, 5, steps_per_epoch, 8, {}, losses=losses)


def panels(figure):
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def contours(axis):
    return {lines.get_linestyle()[0][1] is not None for lines in axis.collections if isinstance(lines, LineCollection)}


SOLID, DASHED = False, True


def test_every_figure_draws_in_the_callers_absence_of_style(report):
    every = [figures.gallery(report), figures.score_histogram(report), figures.roc_and_pro(report),
             figures.loss_curve(run_of([3.0, 2.0, 1.0], 1))]
    for figure in every:
        figure.canvas.draw()
        assert figure.get_figwidth() == figures.WIDTH
        assert figure.summary.endswith(".") and "\n" not in figure.summary and 30 < len(figure.summary) < 300
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= 8


def test_a_dark_style_of_the_caller_changes_nothing(report):
    with plt.style.context("dark_background"):
        figure = figures.score_histogram(report)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert figure.axes[0].xaxis.label.get_color() == "black"


def texts(figure, words):
    return [text for text in figure.findobj(matplotlib.text.Text) if words in text.get_text()]


@pytest.mark.parametrize("setting", [{"font.family": ["STIXGeneral"]}, {"font.sans-serif": ["STIXGeneral"]}])
def test_names_are_drawn_in_the_callers_font(setting):
    with matplotlib.rc_context({**setting, "font.size": 30, "axes.unicode_minus": False}):
        figure = figures.gallery(report_of([("good", 0.2), ("划痕", 0.9)]))
        (title,) = texts(figure, "划痕")
        assert title.get_fontproperties().get_name() == "STIXGeneral" and title.get_fontsize() == 9
    assert "划痕" in figure.summary


@pytest.mark.parametrize("name", ["worth_$5_to_$9", "$\\frac{$", "_{^}", "\\alpha $x$", "a\nb$c$"])
def test_a_name_is_no_formula(name):
    figure = figures.gallery(report_of([("good", 0.2), (name, 0.9)]))
    for text in texts(figure, name):
        assert not text.get_parse_math() and text._preprocess_math(name)[1] is False
    assert texts(figure, name) and stored(figure)


def test_the_quickstart_draws_names_as_text():
    cells = json.loads((Path(__file__).parents[1] / "notebooks/00_quickstart.ipynb").read_text("utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if "plt.subplots" in "".join(cell["source"])]
    report = report_of([("good", 0.2), ("worth_$5_to_$9", 0.9)])
    names = {"data": SimpleNamespace(test=report.dataset), "kinds": [*report.defect_types], "plt": plt,
             "figures": figures}
    exec(source, names)
    assert len(texts(names["fig"], "worth_$5_to_$9")) == 1 and stored(names["fig"])


def test_letters_that_the_font_lacks_come_from_a_fallback_without_warnings(monkeypatch, recwarn, caplog):
    name = "\U0001D63C"  # in STIX, not in DejaVu
    plain = figures.gallery(report_of([("good", 0.2), (name, 0.9)]))
    monkeypatch.setattr("rdlib.figures.canvas.FALLBACKS", ("No Such Font", "STIXGeneral"))
    figure = figures.gallery(report_of([("good", 0.2), (name, 0.9)]))
    stored(figure)
    assert not recwarn.list and "findfont" not in caplog.text
    assert texts(figure, name)[0].get_fontfamily() == [*texts(plain, name)[0].get_fontfamily(), "STIXGeneral"]


def test_a_logarithmic_axis_has_plain_numbers():
    figure = figures.loss_curve(run_of([3.0, 0.4, 0.02, 1e-5], 1))
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels(which="both") if label.get_text()]
    assert {"1", "0.01", "0.0001"} <= {*labels} and not [label for label in labels if "$" in label]


@pytest.mark.parametrize("n, expected", [
    (1, [5]),  # the good image of median score
    (3, [5, 3, 4]),  # and of each kind the (lower) median, kinds by name: cut, hole
    (4, [5, 2, 3, 4]),  # and the good image that scores highest
    (5, [5, 2, 3, 6, 4]),
    (7, [5, 2, 0, 3, 6, 4, 1]),
    (99, [5, 2, 0, 3, 6, 4, 1]),
])
def test_examples_are_typical_first_and_then_hard(report, n, expected):
    assert figures.examples(report, n) == expected


def test_examples_spread_over_kinds_that_are_too_many():
    kinds = [("good", 0.1), *((f"kind{i}", 0.9 - i / 10) for i in range(8))]
    report = report_of(kinds)
    assert figures.examples(report, 4) == [0, 8, 4, 1]  # lowest, middle and highest score, and good
    assert figures.examples(report, 4) == figures.examples(report, 4)
    with pytest.raises(ValueError, match="n must be a whole number from 1 .*got 0"):
        figures.examples(report, 0)


def test_gallery_shows_rows_with_one_scale_and_both_outlines(report):
    figure = figures.gallery(report, 3)
    axes = panels(figure)
    assert len(axes) == 3 * 4
    assert [axis.get_title(loc="left") for axis in axes[::4]] == ["good, score 0.300", "cut, score 0.400",
                                                                  "hole, score 0.800"]
    maps = [axis.images[-1] for axis in axes[2::4]]
    assert {image.get_clim() for image in maps} == {(np.float32(0.1), np.float32(0.8))}
    assert np.array_equal(maps[1].get_array(), report.maps[3])
    assert [contours(axis) for axis in axes[3::4]] == [set(), {SOLID, DASHED}, {SOLID, DASHED}]
    bar, = (axis for axis in figure.axes if axis.get_label() == "<colorbar>")
    assert bar.get_xlabel() == "anomaly map (cosine distance, summed over 3 scales)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == \
        ["ground truth", "map ≥ 0.400 (best pixel F1 on this test set)"]


def test_gallery_summary_counts_what_it_shows(report):
    summary = figures.gallery(report, 4).summary  # good 0.3 and 0.5, cut 0.4, hole 0.8, threshold 0.4
    assert summary == ("4 test images, scores 0.300 to 0.800, the highest of kind 'hole'; at 0.400 (best pixel F1 on "
                       "this test set) the map marks pixels in 1 of 2 good images and meets the true region in 2 of 2 "
                       "defective images.")
    given = figures.gallery(report, indices=[1, 3], threshold=0.85).summary
    assert given == ("2 test images, scores 0.400 to 0.900, the highest of kind 'hole'; at 0.850 (given) the map meets "
                     "the true region in 1 of 2 defective images.")


def test_the_threshold_is_where_pixel_f1_peaks(report):
    def f1(threshold):
        marked = report.maps >= threshold
        return 2 * (marked & report.masks).sum() / (marked.sum() + report.masks.sum())

    value, origin = figures.contour_threshold(report)
    assert f1(value) == max(f1(t) for t in np.unique(report.maps)) and "F1" in origin


def test_without_masks_the_threshold_lies_just_above_good_images():
    report = report_of(MIXED, has_masks=False)
    value, origin = figures.contour_threshold(report)
    assert value == pytest.approx(0.5) and not (report.maps[report.labels == 0] >= value).any()
    figure = figures.gallery(report, 7)
    assert len(panels(figure)) == 7 * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"map ≥ 0.500 ({origin})"]
    assert "0 of 3 good images and marks pixels in 3 of 4 defective images" in figure.summary
    alone = report_of([("hole", 0.9)], has_masks=False)
    with pytest.raises(ValueError, match="threshold="):
        figures.gallery(alone)
    assert "1 of 1 defective image." in figures.gallery(alone, threshold=0.5).summary


@pytest.mark.parametrize("heights", [[("good", 0.2), ("good", 0.5)], [("good", 0.1)], [("good", 0.1), ("hole", 0.1)]])
def test_good_images_alone_and_constant_maps_are_drawn(heights):
    report = report_of(heights)
    for figure in (figures.gallery(report), figures.score_histogram(report)):
        figure.canvas.draw()
    figure = figures.gallery(report)
    assert "of kind 'good'" in figure.summary
    assert len({axis.images[-1].get_clim() for axis in panels(figure) if axis.images[-1].get_cmap().name == "viridis"
                and axis.images[-1].get_array().ndim == 2}) == 1


def test_a_region_that_fills_the_image_is_framed():
    axis = panels(figures.gallery(report_of([("hole", 0.9)]), threshold=0.0))[3]
    assert contours(axis) == {SOLID, DASHED}
    frame = axis.collections[-1].get_paths()[0].vertices
    assert (frame.min(), frame.max()) == (-0.5, SIZE - 0.5)


@pytest.mark.parametrize("indices", [[7], [-1], []])
def test_images_that_are_not_there_are_refused(report, indices):
    with pytest.raises(ValueError, match="0 to 6|indices must be a whole number from 0"):
        figures.gallery(report, indices=indices)


def test_a_diverged_model_is_named(report):
    report.scores[2] = np.nan
    for figure in (figures.gallery, figures.score_histogram):
        with pytest.raises(ValueError, match="diverged"):
            figure(report)
    report.scores[2], report.maps[2, 0, 0] = report.maps[2].max(), -np.inf  # which no maximum shows
    for figure in (figures.gallery, figures.score_histogram):
        with pytest.raises(ValueError, match="The maps hold NaN or infinity"):
            figure(report)


def test_histogram_counts_every_image_once_and_names_the_overlap(report):
    figure = figures.score_histogram(report)
    axis, = figure.axes
    assert axis.get_title() == "Image scores, AUROC 0.917"  # 11 of the 12 pairs are in order
    assert "cosine distance" in axis.get_xlabel() and "%" in axis.get_ylabel()
    good, bad = axis.patches
    assert (good.get_hatch(), bad.get_hatch()) == (None, "///") and good.get_linestyle() != bad.get_linestyle()
    for patch in (good, bad):  # the outline of a step function: area = sum of shares * width
        x, y = patch.get_xy().T
        area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        assert area == pytest.approx(100 * (0.9 - 0.2) / 10, rel=1e-5)
    assert figure.summary == ("Image scores, AUROC 0.917: good (3 images) 0.200 to 0.500; anomalous (4 images) 0.400 "
                              "to 0.900. 3 of the anomalous score higher than every good image.")


def test_roc_and_pro_carry_their_areas(report):
    figure = figures.roc_and_pro(report)
    roc, pro = figure.axes
    labels = [text.get_text() for text in roc.get_legend().get_texts()]
    assert labels == ["image AUROC 0.917", f"pixel AUROC {report.pixel_auroc:.3f}", "chance 0.500"]
    for line, area in zip(roc.lines, (report.image_auroc, report.pixel_auroc, 0.5), strict=True):
        assert trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(area, abs=0.002)
    shaded, = pro.collections
    x, y = shaded.get_paths()[0].vertices.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area / 0.3 == pytest.approx(report.aupro, abs=0.005) and x.max() == pytest.approx(0.3)
    assert pro.texts[0].get_text().startswith(f"AUPRO {report.aupro:.3f}")
    assert all(axis.get_xlabel() and axis.get_ylabel() and axis.get_title() for axis in (roc, pro))
    assert f"AUPRO {report.aupro:.3f} up to FPR 0.3" in figure.summary and "image AUROC 0.917" in figure.summary


def test_roc_leaves_out_what_has_no_truth():
    figure = figures.roc_and_pro(report_of(MIXED, has_masks=False))
    assert len(figure.axes) == 1 and figure.summary.endswith("no masks.")
    figure = figures.roc_and_pro(report_of([("hole", 0.9), ("cut", 0.5)]))
    assert "image" not in figure.summary and "pixel AUROC" in figure.summary
    with pytest.raises(ValueError, match="both good and anomalous"):
        figures.roc_and_pro(report_of([("good", 0.2)]))


def test_thinning_keeps_long_curves_small_and_true():
    x = np.linspace(0, 1, 300_001)
    y = np.where(x < 0.2, np.sqrt(x), 1.0)  # rises, then jumps
    a, b = thinned(x, y)
    assert len(a) <= 2001 and (a[0], b[0], a[-1], b[-1]) == (0, 0, 1, 1)
    assert trapezoid(b, a) == pytest.approx(trapezoid(y, x), abs=0.001)


def test_loss_curve_counts_epochs():
    figure = figures.loss_curve(run_of([4.0, 2.0, 1.0, 1.0, 0.5], 2))
    axis, = figure.axes
    steps, epochs = axis.lines
    assert steps.get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0, 2.5] and steps.get_ydata().tolist() == [4, 2, 1, 1, 0.5]
    assert epochs.get_xdata().tolist() == [0.5, 1.5] and epochs.get_ydata().tolist() == [3, 1]
    assert axis.get_xlabel() == "epoch" and axis.get_yscale() == "linear"
    assert figure.summary == "Loss 4.00 in the first step, 0.500 in the last, step 5; mean of epoch 2: 1.00."
    assert figures.loss_curve(run_of([4.0, 0.3], 1)).axes[0].get_yscale() == "log"
    assert len(figures.loss_curve(run_of([4.0], 2)).axes[0].lines) == 1  # not one whole epoch
    with pytest.raises(ValueError, match="first step"):
        figures.loss_curve(run_of([], 2))


def test_show_prints_the_summary_and_hands_it_on_as_alt_text(report, capsys, monkeypatch):
    display = pytest.importorskip("IPython.display")
    figure, shown = figures.score_histogram(report), []
    figures.show(figure)
    assert " ".join(capsys.readouterr().out.split()) == figure.summary  # outside a notebook: nothing else
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace())
    monkeypatch.setattr(display, "display", lambda image: shown.append(image._repr_mimebundle_()))
    figures.show(figure)
    (data, metadata), = shown
    assert list(data) == ["image/png"] and metadata["image/png"] == {"alt": figure.summary, "width": 768}
    assert " ".join(capsys.readouterr().out.split()) == figure.summary


def test_photographs_arestored_as_jpeg():
    """Noise is what PNG cannot compress; a drawing stays PNG, which keeps its lines sharp."""
    noise, drawing = plt.figure(figsize=(4, 4)), plt.figure(figsize=(4, 4))
    noise.add_subplot().imshow(np.random.default_rng(0).random((400, 400, 3)))
    drawing.add_subplot().plot([0, 1])
    plt.close("all")
    assert stored(noise)[:3] == b"\xff\xd8\xff" and len(stored(noise)) < 350_000
    assert stored(drawing)[:4] == b"\x89PNG"


def test_show_takes_figures_drawn_by_hand(capsys):
    figure = plt.figure()
    with pytest.raises(ValueError, match="summary="):
        figures.show(figure)
    figures.show(figure, "An empty figure.")
    assert capsys.readouterr().out == "An empty figure.\n"


def test_show_works_without_ipython(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)  # its import fails
    figures.show(plt.figure(), "Told in words.")
    assert capsys.readouterr().out == "Told in words.\n"
