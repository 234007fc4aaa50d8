"""Draw what one threshold does to a test set: confusion matrix, and points on the ROC and the PRO curve."""
from collections.abc import Sequence
from math import isnan

import numpy as np
from matplotlib.axes import Axes

from rdlib.evaluation.operating import OperatingPoint, operating_point
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import BLUE, GREEN, GREY, ORANGE, Figure, canvas, check_finite, counted, number, thinned

# Row: good, anomalous; column: called normal, called anomalous. The explorer's table uses the same words.
OUTCOMES = (("TN: passed", "FP: false alarm"), ("FN: missed", "TP: found"))


def threshold_view(report: Report, threshold: float) -> Figure:
    """Draw the confusion matrix at a threshold, and the threshold's points on the ROC and the PRO curve.

    A threshold chosen by this figure is chosen on test data: its numbers flatter the model.

    Args:
        report: of good and anomalous test images, each scored by the maximum of its map.
        threshold: in the unit of maps and scores; a value >= threshold is called anomalous.

    Returns:
        The figure; its summary is `describe`'s sentence.

    Raises:
        ValueError: good or anomalous images are missing, or the scores are not the maxima of the maps.
    """
    point = operating_point(report, threshold)
    panels = 2 + (report.pixels is not None)
    with canvas(1, panels, 3.1) as (figure, (axes,)):
        figure.suptitle(f"Threshold {number(threshold)}")
        draw_confusion(axes[0], point)
        for axis, (x, y) in zip(axes[1:], draw_threshold_curves(axes[1:], report, point), strict=True):
            axis.plot(x, y, "o", color=ORANGE, markeredgecolor="black", markersize=10, clip_on=False, zorder=5)
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


def draw_threshold_curves(axes: Sequence[Axes], report: Report, point: OperatingPoint) -> list[tuple[float, float]]:
    """Draw the images' ROC curve and, with masks, the PRO curve. Return the operating point's place on each."""
    from sklearn.metrics import roc_curve
    check_finite(report)
    if len(set(report.labels)) < 2:
        raise ValueError("A threshold needs good and anomalous test images to be judged. Add the missing ones.")
    fpr, tpr, _ = roc_curve(report.labels, report.scores, drop_intermediate=False)
    axes[0].plot(fpr, tpr, color=BLUE)
    axes[0].plot([0, 1], [0, 1], color=GREY, linestyle="dotted")
    axes[0].set(title="ROC, images", xlabel="false-positive rate", ylabel="true-positive rate")
    places = [(point.fpr, point.tpr)]
    if report.pixels:
        axes[1].plot(*thinned(*report.pixels.pro_curve()[:2]), color=GREEN, linestyle="dashed")
        axes[1].axvline(report.fpr_limit, color=GREY, linestyle="dotted")
        axes[1].annotate(f" FPR limit {report.fpr_limit:g}", (report.fpr_limit, 0.02), color="black", fontsize=9)
        axes[1].set(title="PRO, pixels", xlabel="share of normal pixels marked", ylabel="mean share of a region")
        places.append((point.pixel_fpr, point.pro))
    for axis in axes:
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return places


def draw_confusion(axis: Axes, point: OperatingPoint) -> None:
    """Draw the confusion matrix; colours are the shares of a row."""
    counts = np.array([[point.tn, point.fp], [point.fn, point.tp]])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axis.text(column, row, f"{count}\n{OUTCOMES[row][column]}", ha="center", va="center", fontsize=9,
                  color="black" if shares[row, column] > 0.5 else "white")
    axis.set_xticks([0, 1], ["normal", "anomalous"])
    axis.set_yticks([0, 1], ["good", "anomalous"], rotation=90, va="center")
    axis.set(title="Confusion matrix", xlabel="called", ylabel="is")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
