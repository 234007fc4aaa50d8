"""Draw the results of a test set and of a training run as curves and histograms."""
import numpy as np
from matplotlib.ticker import MaxNLocator

from rdlib.evaluation.report import Report
from rdlib.figures.canvas import Figure, canvas, check_finite, thinned
from rdlib.figures.style import BLUE, GREEN, GREY, UNIT, VERMILION, counted, number
from rdlib.metrics import curve_up_to
from rdlib.training.run import Run


def score_histogram(report: Report, *, unit: str = UNIT) -> Figure:
    """Draw the histograms of the image scores of good and of anomalous images.

    Heights are shares of each class. So the sizes of the classes have no effect, as in AUROC.

    Args:
        report: predictions on one or more test images.
        unit: unit of the scores, for the label of the axis.

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

    A curve is left out if the test set lacks the ground truth for it. Raises ValueError if no curve remains.
    """
    from sklearn.metrics import roc_curve
    if report.pixels is None and np.isnan(report.image_auroc):
        raise ValueError("A ROC curve needs both good and anomalous test images, or masks with defects. Add either.")
    curves, limit = [], report.fpr_limit
    if not np.isnan(report.image_auroc):
        curves.append((f"image AUROC {report.image_auroc:.3f}", roc_curve(report.labels, report.scores), BLUE, "solid"))
    if report.pixels:
        curves.append((f"pixel AUROC {report.pixel_auroc:.3f}", report.pixels.roc_curve(), VERMILION, "dashed"))
    square = {"xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01), "aspect": "equal"}
    with canvas(1, 1 + (report.pixels is not None), 4.2) as (figure, ((axis, *beside),)):
        for area, (fpr, tpr, _), colour, line in curves:
            axis.plot(*thinned(fpr, tpr), color=colour, linestyle=line, label=area)
        axis.plot([0, 1], [0, 1], color=GREY, linestyle="dotted", label="chance 0.500")
        axis.set(**square, title="ROC", ylabel="true-positive rate", xlabel="false-positive rate")
        axis.legend(loc="lower right")
        if report.pixels:
            fpr, pro, _ = report.pixels.pro_curve()
            beside[0].fill_between(*thinned(*curve_up_to(fpr, pro, limit)), facecolor=(GREEN, 0.2), edgecolor=GREEN,
                                   hatch="..", linewidth=0)
            beside[0].plot(*thinned(fpr, pro), color=GREEN)
            beside[0].axvline(limit, color=GREY, linestyle="dashed", linewidth=1)
            # A limit far to the right leaves no room beside it.
            side, place = ("left", 6) if limit <= 0.6 else ("right", -6)
            beside[0].annotate(f"AUPRO {report.aupro:.3f}:\nmean height up to\nFPR limit {limit:g}", (limit, 0.1),
                               (place, 0), textcoords="offset points", ha=side, backgroundcolor="white")
            beside[0].set(**square, title="PRO", ylabel="per-region overlap, mean over regions",
                          xlabel="false-positive rate of pixels")
    figure.summary = "Areas: " + ", ".join(area for area, *_ in curves)
    figure.summary += f", AUPRO {report.aupro:.3f} up to FPR {limit:g}." if report.pixels else "; no masks."
    return figure


def loss_curve(run: Run) -> Figure:
    """Draw the loss of every step and the mean of every epoch.

    The axis is logarithmic if the losses differ by more than a factor of ten. Raises ValueError before the first step.
    """
    if not run.losses:
        raise ValueError("The run has no loss before its first step. Train with fit(model, data.train, epochs) first.")
    steps, epochs = np.array(run.losses), np.array(run.epoch_losses)
    with canvas(1, 1, 3.4) as (figure, ((axis,),)):
        axis.plot(np.arange(1, run.step + 1) / run.steps_per_epoch, steps, color=BLUE, alpha=0.4, linewidth=1,
                  label="step")
        if len(epochs):
            axis.plot(np.arange(len(epochs)) + 0.5, epochs, color=BLUE, linewidth=2.5,
                      marker="o" if len(epochs) <= 30 else None, label="mean of an epoch, at its middle")
        if steps.min() > 0 and steps.max() > 10 * steps.min():
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")  # the default is a formula
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="epoch", ylabel="loss (sum of 3 cosine distances)",
                 title=f"Training loss over {counted(run.step, 'step')}")
        axis.legend()
    figure.summary = f"Loss {number(steps[0])} in the first step, {number(steps[-1])} in the last, step {run.step}"
    figure.summary += f"; mean of epoch {len(epochs)}: {number(epochs[-1])}." if len(epochs) else "."
    return figure
