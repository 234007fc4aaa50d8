"""One threshold on a test set, and a training run on the way: what the threshold explorer and the monitor show."""
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rdlib.evaluation.operating import OperatingPoint, operating_point
from rdlib.evaluation.report import Report
from rdlib.figures.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, canvas, check_finite, counted, number, thinned
from rdlib.training.run import Run
from rdlib.utils.arrays import as_array

METRIC_LOOKS = {"image_auroc": ("image AUROC", BLUE, "o"), "pixel_auroc": ("pixel AUROC", VERMILION, "^"),
                "aupro": ("AUPRO", GREEN, "s")}


def threshold_view(report: Report, threshold: float) -> Figure:
    """What one threshold does to a test set: confusion matrix, and its point on ROC and PRO curve.

    A threshold that is chosen by looking at this picture has been chosen on test data, and the numbers beside it
    flatter. Raises ValueError without both good and anomalous images, and where scores are not the maps' maxima.
    """
    point = operating_point(report, threshold)
    panels = 2 + (report.pixels is not None)
    with canvas(1, panels, 3.1) as (figure, (axes,)):
        figure.suptitle(f"Threshold {number(threshold)}")
        draw_confusion(axes[0], [[point.tn, point.fp], [point.fn, point.tp]])
        for axis, (x, y) in zip(axes[1:], draw_threshold_curves(axes[1:], report, point), strict=True):
            axis.plot(x, y, "o", color=ORANGE, markeredgecolor="black", markersize=10, clip_on=False, zorder=5)
    figure.summary = (f"At threshold {number(threshold)}: {point.tp} of {point.tp + point.fn} anomalous images "
                      f"found, {counted(point.fp, 'false alarm')} in "
                      f"{counted(point.fp + point.tn, 'good image')}")
    if report.pixels:
        figure.summary += (f"; maps cover {point.pro:.0%} of an average region and {point.pixel_fpr:.1%} of normal "
                           "pixels")
    figure.summary += "."
    return figure


def draw_threshold_curves(axes: list[Axes], report: Report, point: OperatingPoint) -> list[tuple[float, float]]:
    """Draw the images' ROC curve and, with masks, the PRO curve; returns where on each the operating point lies."""
    from sklearn.metrics import roc_curve
    check_finite(report)
    if len(set(report.labels)) < 2:
        raise ValueError("A threshold is judged on good and anomalous test images: add the kind that is missing.")
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


def draw_confusion(axis: Axes, counts: ArrayLike) -> None:
    """A confusion matrix: (2, 2) images, a row for what they are, good then anomalous, a column for what they are
    called, in the same order; colours are the shares of the row."""
    counts = as_array(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    names = [["right: passed", "false alarm"], ["miss", "right: found"]]
    for (row, column), count in np.ndenumerate(counts):
        axis.text(column, row, f"{count}\n{names[row][column]}", ha="center", va="center", fontsize=9,
                  color="black" if shares[row, column] > 0.5 else "white")
    axis.set_xticks([0, 1], ["normal", "anomalous"])
    axis.set_yticks([0, 1], ["good", "anomalous"], rotation=90, va="center")
    axis.set(title="Confusion matrix", xlabel="called", ylabel="is")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def training_progress(run: Run, history: pd.DataFrame | None = None) -> Figure:
    """A run so far: loss of every step, and metrics on a test set where they were measured on the way.

    Args:
        run: finished or not.
        history: one line an evaluation, with a column epoch and any of image_auroc, pixel_auroc, aupro.

    Raises:
        ValueError: a run that has not done its first step.
    """
    if not run.losses:
        raise ValueError("This run has not done its first step: train with fit(model, data.train, epochs) first.")
    names = [] if history is None else [n for n in METRIC_LOOKS if n in history and history[n].notna().any()]
    with canvas(1, 1 + bool(names), 3.2) as (figure, (axes,)):
        steps = np.arange(1, run.step + 1) / run.steps_per_epoch
        axes[0].plot(steps, run.losses, color=BLUE, alpha=0.4, linewidth=1, label="step")
        axes[0].plot(np.arange(run.epoch) + 0.5, run.epoch_losses, color=BLUE, linewidth=2.5, label="mean of an epoch")
        axes[0].set(title=f"Loss, step {run.step} of {run.epochs * run.steps_per_epoch}", ylabel="loss",
                    ylim=(0, None))
        axes[0].legend()
        for name in names:
            label, colour, marker = METRIC_LOOKS[name]
            axes[1].plot(history["epoch"], history[name], color=colour, marker=marker, markersize=4, label=label)
        if names:
            axes[1].set(title="Test set, to watch, not to choose by", ylabel="area (1 is perfect)", ylim=(None, 1.01))
            axes[1].legend()
        for axis in axes:
            axis.set(xlabel="epoch", xlim=(0, min(run.epochs, max(1, 1.25 * steps[-1]))))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.summary = (f"Step {run.step} of {run.epochs * run.steps_per_epoch}: loss {number(run.losses[-1])}, "
                      f"{number(run.losses[0])} in the first step")
    if names:
        last = history.iloc[-1]
        figure.summary += f"; after epoch {last['epoch']:g}: " + ", ".join(f"{METRIC_LOOKS[n][0]} {last[n]:.3f}"
                                                                          for n in names)
    figure.summary += "."
    return figure
