"""Draw the results of one threshold: the confusion matrix, and its points on the ROC and the PRO curve."""
from math import isnan

import numpy as np
from matplotlib.axes import Axes

from rdlib.evaluation.operating import OperatingPoint, operating_point
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import Figure, canvas, check_finite, counted, number
from rdlib.figures.curves import draw_roc_and_pro
from rdlib.figures.style import ORANGE


def threshold_view(report: Report, threshold: float) -> Figure:
    """Draw the confusion matrix at a threshold, and the threshold's points on the ROC and the PRO curve.

    A threshold chosen with this figure is chosen on test data, so its numbers flatter the model.

    Args:
        report: predictions on good and anomalous test images, each scored by the maximum of its map.
        threshold: threshold in the unit of maps and scores; a value >= threshold is called anomalous.

    Returns:
        The figure; its summary counts TP, FN and FP.

    Raises:
        ValueError: good or anomalous images are missing, or the scores are not the finite maxima of the maps.
    """
    check_finite(report)
    point = operating_point(report, threshold)
    if np.isnan(report.image_auroc):
        raise ValueError("The view of a threshold needs good and anomalous test images, and one class is missing. Add "
                         "images of that class.")
    with canvas(1, 2 + (report.pixels is not None), 3.1) as (figure, (axes,)):
        figure.suptitle(f"Threshold {number(threshold)}")
        _draw_confusion(axes[0], point)
        draw_roc_and_pro(axes[1:], report)
        for axis in axes[2:]:
            axis.set(ylabel="per-region overlap")  # a shorter one, since the panel is small
        for axis, place in zip(axes[1:], ((point.fpr, point.tpr), (point.pixel_fpr, point.pro)), strict=False):
            axis.plot(*place, "o", color=ORANGE, markeredgecolor="black", markersize=10, clip_on=False, zorder=5)
    figure.summary = describe(point)
    return figure


def describe(point: OperatingPoint) -> str:
    """Describe an operating point in a sentence."""
    text = (f"At threshold {number(point.threshold)}: {point.tp} of {counted(point.tp + point.fn, 'anomalous image')} "
            f"found (TP), {point.fn} missed (FN); {counted(point.fp, 'false alarm')} (FP) in "
            f"{counted(point.fp + point.tn, 'good image')}")
    if not isnan(point.pro):
        text += f"; maps cover {point.pro:.0%} of an average region and {point.pixel_fpr:.2%} of the normal pixels"
    return text + "."


def _draw_confusion(axis: Axes, point: OperatingPoint) -> None:
    """Draw the confusion matrix. A cell's color is its share of the row."""
    names = (("TN: passed", "FP: false alarm"), ("FN: missed", "TP: found"))  # row: good, anomalous
    counts = np.array([[point.tn, point.fp], [point.fn, point.tp]])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axis.text(column, row, f"{count}\n{names[row][column]}", ha="center", va="center", fontsize=9,
                  color="black" if shares[row, column] > 0.5 else "white")
    axis.set_xticks([0, 1], ["normal", "anomalous"])
    axis.set_yticks([0, 1], ["good", "anomalous"], rotation=90, va="center")
    axis.set(title="Confusion matrix", xlabel="called", ylabel="is")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
