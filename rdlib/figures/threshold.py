"""Where a threshold lies among scores."""
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rdlib.figures.canvas import BLUE, GREEN, GREY, ORANGE, UNIT, VERMILION, canvas, counted, number
from rdlib.utils.arrays import as_array, as_finite


def threshold_choice(threshold: float, groups: Mapping[str, ArrayLike], *, unit: str = UNIT) -> Figure:
    """Histograms of the scores of several groups, one above the other, and the threshold through all of them.

    Args:
        threshold: an image alarms from this score on.
        groups: (N,) scores, arrays or tensors, by the group's name, from top to bottom; at most five.
        unit: of the scores.

    Raises:
        ValueError: no group, more than five, an empty one, or scores that are no numbers.
    """
    scores = {name: as_array(values, np.float64) for name, values in groups.items()}
    looks = list(zip((GREY, BLUE, VERMILION, GREEN, ORANGE), ("", "", "///", "...", "xxx"), strict=True))
    if not 0 < len(scores) <= len(looks) or not all(values.size for values in scores.values()):
        raise ValueError(f"One to {len(looks)} groups of scores can be shown, none of them empty; got "
                         f"{ {name: values.size for name, values in scores.items()} }.")
    everything = as_finite(np.concatenate(list(scores.values())), "scores")
    edges = np.histogram_bin_edges(np.append(everything, threshold), 40)
    said = {name: f"{int((values >= threshold).sum())} of {values.size}" for name, values in scores.items()}
    with canvas(len(scores), 1, 0.7 + 1.2 * len(scores), sharex=True) as (figure, axes):
        for axis, (name, values), (colour, hatch) in zip(axes[:, 0], scores.items(), looks, strict=False):
            axis.hist(values, edges, facecolor=(colour, 0.3), edgecolor=colour, hatch=hatch, histtype="stepfilled",
                      linewidth=1.5)
            axis.axvline(threshold, color="black", linestyle="dashed")
            axis.set_title(f"{name}: {said[name]} alarm", loc="left")
            axis.set_ylabel("images")
        axes[0, 0].annotate(f"threshold {number(threshold)}", (threshold, 1), (4, -2), va="top", fontsize=9,
                            xycoords=axes[0, 0].get_xaxis_transform(), textcoords="offset points")
        axes[-1, 0].set_xlabel(f"image score ({unit})")
    figure.summary = (f"At the threshold {number(threshold)}, of {counted(len(scores), 'group')} alarm: "
                      + ", ".join(f"{said[name]} ({name}, scores {number(values.min())} to {number(values.max())})"
                                  for name, values in scores.items()) + ".")
    return figure
