"""Draw the results of a whole test set, and of a training run, as curves and distributions."""
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rdlib.evaluation.report import Report
from rdlib.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    UNIT,
    VERMILION,
    Figure,
    canvas,
    check_finite,
    counted,
    number,
    thinned,
)
from rdlib.metrics import PixelRanking
from rdlib.training.run import Run


def score_histogram(report: Report, *, unit: str = UNIT) -> Figure:
    """Draw the histograms of the image scores of good and of anomalous images.

    Heights are shares of each class, so that the sizes of the classes do not count, as in AUROC.

    Args:
        report: of one test image or more.
        unit: of the scores.

    Returns:
        The figure; its summary gives AUROC and the range of the scores in each class.

    Raises:
        ValueError: scores or maps hold NaN or infinity.
    """
    check_finite(report)
    classes = [(f"{name} ({counted(len(scores), 'image')})", scores, style) for name, label, style in (
        ("good", 0, {"facecolor": (BLUE, 0.3), "edgecolor": BLUE}),
        ("anomalous", 1, {"facecolor": "none", "edgecolor": VERMILION, "hatch": "///", "linestyle": "dashed"}))
        if len(scores := report.scores[report.labels == label])]
    count = np.clip(len(np.histogram_bin_edges(report.scores, "auto")) - 1, 10, 40)
    edges = np.histogram_bin_edges(report.scores, count)
    auroc = f"AUROC {report.image_auroc:.3f}" if len(classes) == 2 else "no AUROC without both classes"
    with canvas(1, 1, 3.4) as (figure, ((axis,),)):
        for name, scores, style in classes:
            axis.hist(scores, edges, weights=np.full(len(scores), 100 / len(scores)), histtype="stepfilled",
                      linewidth=1.5, label=name, **style)
        axis.set(xlabel=f"image score: highest value of its map ({unit})", ylabel="share of good / of anomalous (%)",
                 title=f"Image scores, {auroc}")
        axis.legend()
    ranges = "; ".join(f"{name} {number(scores.min())} to {number(scores.max())}" for name, scores, _ in classes)
    figure.summary = f"Image scores, {auroc}: {ranges}."
    if len(classes) == 2:
        above = int((classes[1][1] > classes[0][1].max()).sum())
        figure.summary += f" {above} of the anomalous score higher than every good image."
    return figure


def roc_and_pro(report: Report) -> Figure:
    """Draw the ROC curves of images and pixels, and the PRO curve with its area up to the FPR limit.

    A curve for which the test set has no ground truth is left out. Raises ValueError if no curve remains.
    """
    from sklearn.metrics import roc_curve
    curves = []
    if not np.isnan(report.image_auroc):
        curves.append(("image", report.image_auroc, roc_curve(report.labels, report.scores), BLUE, "solid"))
    pixels = report.pixels
    if pixels:
        curves.append(("pixel", report.pixel_auroc, pixels.roc_curve(), VERMILION, "dashed"))
    if not curves:
        raise ValueError("A ROC curve needs both good and anomalous test images, or masks. Add what is missing.")
    panels = 1 + (pixels is not None)
    with canvas(1, panels, 4.2) as (figure, (axes,)):
        for name, area, (fpr, tpr, _), colour, line in curves:
            axes[0].plot(*thinned(fpr, tpr), color=colour, linestyle=line, label=f"{name} AUROC {area:.3f}")
        axes[0].plot([0, 1], [0, 1], color=GREY, linestyle="dotted", label="chance 0.500")
        axes[0].set(title="ROC", ylabel="true-positive rate", xlabel="false-positive rate")
        axes[0].legend(loc="lower right")
        if pixels:
            _draw_pro(axes[1], report, pixels)
        for axis in axes:
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.summary = "Areas: " + ", ".join(f"{name} AUROC {area:.3f}" for name, area, *_ in curves)
    figure.summary += f", AUPRO {report.aupro:.3f} up to FPR {report.fpr_limit:g}." if pixels else "; no masks."
    return figure


def _draw_pro(axis: Axes, report: Report, pixels: PixelRanking) -> None:
    fpr, pro, _ = pixels.pro_curve()
    limit = report.fpr_limit
    inside = int(np.searchsorted(fpr, limit, side="right"))
    area = np.append(fpr[:inside], limit), np.append(pro[:inside], np.interp(limit, fpr, pro))
    axis.fill_between(*thinned(*area), facecolor=(GREEN, 0.2), edgecolor=GREEN, hatch="..", linewidth=0)
    axis.plot(*thinned(fpr, pro), color=GREEN)
    axis.axvline(limit, color=GREY, linestyle="dashed", linewidth=1)
    # A limit far to the right leaves no room beside it.
    side, place = ("left", 6) if limit <= 0.6 else ("right", -6)
    axis.annotate(f"AUPRO {report.aupro:.3f}:\nmean height up to\nFPR limit {limit:g}", (limit, 0.1), (place, 0),
                  textcoords="offset points", ha=side, backgroundcolor="white")
    axis.set(title="PRO", ylabel="per-region overlap, mean over regions", xlabel="false-positive rate of pixels")


def loss_curve(run: Run) -> Figure:
    """Draw the loss of every step and the mean of every epoch, logarithmic once it spans a factor of ten.

    Raises ValueError if the run has not done a step.
    """
    if not run.losses:
        raise ValueError("The run has no loss before its first step. Train with fit(model, data.train, epochs) first.")
    steps, epochs = np.array(run.losses), np.array(run.epoch_losses)
    with canvas(1, 1, 3.4) as (figure, ((axis,),)):
        done = np.arange(1, run.step + 1) / run.steps_per_epoch
        axis.plot(done, steps, color=BLUE, alpha=0.4, linewidth=1, label="step")
        if len(epochs):
            middles = np.arange(len(epochs)) + 0.5
            axis.plot(middles, epochs, color=BLUE, linewidth=2.5, marker="o" if len(epochs) <= 30 else None,
                      label="mean of an epoch, at its middle")
        if steps.min() > 0 and steps.max() > 10 * steps.min():
            axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="epoch", ylabel="loss (sum of 3 cosine distances)",
                 title=f"Training loss over {counted(run.step, 'step')}")
        axis.legend()
    figure.summary = f"Loss {number(steps[0])} in the first step, {number(steps[-1])} in the last, step {run.step}"
    figure.summary += f"; mean of epoch {len(epochs)}: {number(epochs[-1])}." if len(epochs) else "."
    return figure


def metric_curves(frame: pd.DataFrame, name: str = "image AUROC") -> Figure:
    """Draw a metric by epoch: a panel for each category, a line for each way to train.

    The line is the mean over seeds; the band reaches from the lowest seed to the highest.

    Args:
        frame: one row for each evaluation, with columns row (the way to train), category, seed, epoch, value.
        name: of the metric.

    Returns:
        The figure; its summary gives the means after the last epoch.

    Raises:
        ValueError: no evaluation, or more than four ways to train.
    """
    rows, categories = list(dict.fromkeys(frame["row"])), list(dict.fromkeys(frame["category"]))
    looks = list(zip((VERMILION, ORANGE, BLUE, GREEN), "osD^", strict=True))
    if not 0 < len(rows) <= len(looks):
        raise ValueError(f"The figure can show one to {len(looks)} ways to train, got {len(rows)}. Select some.")
    columns = min(2, len(categories))
    lines = -(-len(categories) // columns)
    with canvas(lines, columns, 0.6 + 2.8 * lines, sharey=True, sharex=True) as (figure, axes):
        for axis, category in zip(axes.flat, categories, strict=False):
            for row, (colour, marker) in zip(rows, looks, strict=False):
                part = frame[(frame["row"] == row) & (frame["category"] == category)]
                epochs = part.groupby("epoch")["value"].agg(["mean", "min", "max"])
                axis.fill_between(epochs.index, epochs["min"], epochs["max"], color=colour, alpha=0.12, linewidth=0)
                axis.plot(epochs.index, epochs["mean"], color=colour, marker=marker, markersize=4, label=row)
            axis.set(title=category, xlabel="epoch", ylabel=name)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.label_outer()
        for axis in axes.flat[len(categories):]:
            axis.set_axis_off()
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2,
                      title="mean of the seeds; band: lowest to highest" if frame["seed"].nunique() > 1 else None)
    last = frame[frame["epoch"] == frame["epoch"].max()].groupby("row", sort=False)["value"].mean()
    figure.summary = (f"{name} after epoch {frame['epoch'].max()}, mean over {', '.join(map(str, categories))}: "
                      + ", ".join(f"{row} {value:.3f}" for row, value in last.items()) + ".")
    return figure
