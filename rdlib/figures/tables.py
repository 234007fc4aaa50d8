"""What tables look like as pictures: PRO worked out by hand, what a change is worth, classes against classes."""
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label as connected_components

from rdlib.figures.canvas import BLUE, GREEN, GREY, ORANGE, VERMILION, canvas, counted
from rdlib.metrics import EIGHT_NEIGHBOURS, area_up_to
from rdlib.utils.arrays import as_array, as_truth


def pro_by_hand(mask: ArrayLike, scores: ArrayLike, fpr: ArrayLike, pro: ArrayLike, thresholds: Sequence[float],
                fpr_limit: float = 0.3) -> Figure:
    """A map small enough to count on: its values as numbers, its regions by letter, and the curve by threshold.

    Args:
        mask: (H, W) bool, True = defect; its regions are called A, B, ... in the order of their first pixels.
        scores: (H, W), the map.
        fpr, pro: of every threshold, falling, without the start at (0, 0).
        thresholds: as many; a pixel is marked from its threshold on.
        fpr_limit: where the area ends.
    """
    mask, scores, fpr, pro = as_truth(mask), as_array(scores), np.append(0, as_array(fpr)), np.append(0, as_array(pro))
    at_limit, area = float(np.interp(fpr_limit, fpr, pro)), area_up_to(fpr, pro, fpr_limit)
    regions, count = connected_components(mask, EIGHT_NEIGHBOURS)
    with canvas(1, 2, 3.8, width_ratios=[1, 1.3]) as (figure, ((left, right),)):
        _numbers(left, regions, scores)
        inside = fpr < fpr_limit
        right.fill_between(np.append(fpr[inside], fpr_limit), np.append(pro[inside], at_limit), facecolor=(GREEN, 0.2),
                           edgecolor=GREEN, hatch="..", linewidth=0)
        right.plot(fpr, pro, "-o", color=GREEN)
        for x, y, threshold in zip(fpr[1:], pro[1:], thresholds, strict=True):
            right.annotate(f"≥ {threshold:g}", (x, y), (7, -12), textcoords="offset points", fontsize=9,
                           bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
        right.plot(fpr_limit, at_limit, "D", color="white", markeredgecolor=VERMILION, markeredgewidth=2, markersize=8,
                   label=f"interpolated at {fpr_limit:g}: {at_limit:.3f}")
        right.axvline(fpr_limit, color=GREY, linestyle="dashed", linewidth=1)
        right.set(title=f"PRO: area up to {fpr_limit:g}, divided by it: {area:.3f}", ylim=(-0.02, 1.08),
                  xlabel="false-positive rate", ylabel="share of a region that is marked, mean")
        right.legend(loc="lower right")
    figure.summary = (f"A map of {scores.shape[0]} x {scores.shape[1]} with {counted(count, 'region')}; its PRO curve "
                      f"reaches {at_limit:.3f} at FPR {fpr_limit:g}, and its mean height up to there is {area:.3f}.")
    return figure


def _numbers(axis: Axes, regions: NDArray, scores: NDArray) -> None:
    """The map's values, coloured and written, regions framed and lettered."""
    axis.imshow(scores, cmap="cividis")
    middle = (scores.min() + scores.max()) / 2
    for (y, x), region in np.ndenumerate(regions):
        letter = f" {chr(ord('A') + region - 1)}" if region else ""
        if region:
            axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=ORANGE, linewidth=2))
        axis.text(x, y, f"{scores[y, x]:g}{letter}", ha="center", va="center", weight="bold" if region else "normal",
                  color="black" if scores[y, x] > middle else "white")
    axis.set(title="the map's values; frames: regions A, B", xticks=[], yticks=[])


def effects(frame: pd.DataFrame, name: str = "image AUROC") -> Figure:
    """What changes are worth: difference of every row from its reference, with two bars around it.

    Args:
        frame: of `rdlib.reproduction.recorded.effects`; rows that were not run are left out.
        name: of the metric.

    Raises:
        ValueError: nothing to compare.
    """
    run = frame[frame["difference"].notna()]
    if not len(run):
        raise ValueError("No row was run beside its reference. Run the table first: python -m rdlib reproduce.")
    reference = frame.loc[frame["verdict"] == "reference", "row"].iloc[0]
    frame = frame[frame["difference"].notna() | (frame["verdict"] == "reference")]
    with canvas(1, 1, 1.6 + 0.42 * len(frame)) as (figure, ((axis,),)):
        places = len(frame) - 1 - np.arange(len(frame))
        axis.axvline(0, color=GREY, linewidth=1)
        low, high = frame["difference"] - frame["low"], frame["high"] - frame["difference"]
        if frame["std"].notna().any():
            axis.errorbar(frame["difference"], places, xerr=2 * frame["std"], fmt="none", color=ORANGE, linewidth=6,
                          alpha=0.6, label="two standard deviations over seeds", zorder=2)
        axis.errorbar(frame["difference"], places, xerr=np.abs([low, high]), fmt="none", color=BLUE, linewidth=1.5,
                      capsize=5, label="95 % interval over test images", zorder=3)
        axis.plot(frame["difference"], places, "D", color=VERMILION, markeredgecolor="black", label="difference",
                  zorder=4)
        axis.set_yticks(places, [_row_name(line) for _, line in frame.iterrows()])
        axis.set(xlabel=f"{name}: difference from the reference", ylim=(-0.6, len(frame) - 0.4))
        figure.legend(loc="outside upper center", ncols=3)
    figure.summary = f"{name} against '{reference}': " + "; ".join(
        f"{line['row']} {line['difference']:+.3f}, {line['verdict']}" for _, line in run.iterrows()) + "."
    return figure


def _row_name(line: pd.Series) -> str:
    known = line["difference"] == line["difference"]
    return f"{line['row']}  " + (f"{line['difference']:+.3f}" if known else "(reference)")


def class_matrix(frame: pd.DataFrame, name: str = "image AUROC") -> Figure:
    """How well each class is told from each other one: a line a normal class, a column an anomalous class.

    Args:
        frame: (classes, classes) values in [0, 1], NaN where there is nothing to tell apart.
        name: of the metric.

    Raises:
        ValueError: no value at all.
    """
    values = frame.to_numpy(float)
    if np.isnan(values).all():
        raise ValueError("There is no result to show. Run the table first: python -m rdlib reproduce novelty.")
    with canvas(1, 1, 1.2 + 0.42 * len(frame)) as (figure, ((axis,),)):
        shown = axis.imshow(values, vmin=min(0.9, np.nanmin(values)), vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            if value == value:
                colour = "white" if value < sum(shown.get_clim()) / 2 else "black"
                axis.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(frame.columns)), frame.columns)
        axis.set_yticks(range(len(frame)), frame.index)
        axis.spines[:].set_visible(False)
        axis.set(xlabel="anomalous class", ylabel="normal class", title=f"{name} of one class against another")
        figure.colorbar(shown, ax=axis, label=name)
    y, x = np.unravel_index(np.nanargmin(values), values.shape)
    figure.summary = (f"{name}: lowest where '{frame.index[y]}' is normal and '{frame.columns[x]}' anomalous, "
                      f"{values[y, x]:.3f}; median {np.nanmedian(values):.3f}.")
    return figure
