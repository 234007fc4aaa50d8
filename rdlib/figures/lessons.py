"""What the lessons draw: pictures in a grid, methods side by side, scores in pairs and at a threshold."""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rdlib.datasets.samples import GOOD, AnomalyDataset, Item
from rdlib.figures.canvas import (
    BLUE,
    ORANGE,
    TRUTH,
    VERMILION,
    WIDTH,
    canvas,
    check_indices,
    counted,
    handle,
    head,
    number,
    outline,
)
from rdlib.figures.operating import draw_confusion
from rdlib.utils.arrays import as_finite, as_truth


def pictures(items: Sequence[Item], titles: Sequence[str], columns: int, summary: str, *,
             outlines: bool = True) -> Figure:
    """Images of a data set in rows, a title above each, with the true region outlined where there is one.

    Args:
        items: what a data set gives; the images (3, H, W) in [0, 1] are all of one size.
        titles: as many; columns: images to a row.
        summary: what a reader should take from it, since images have no words of their own.
        outlines: whether to draw the masks.

    Raises ValueError for no image, or another number of titles.
    """
    if not items or len(items) != len(titles):
        raise ValueError(f"Give every image one title: {len(items)} images, {len(titles)} titles.")
    rows = -(-len(items) // columns)
    height, width = items[0].image.shape[1:]
    with canvas(rows, columns, rows * (WIDTH / columns * height / width + 0.25)) as (figure, axes):
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, item, title in zip(axes.flat, items, titles, strict=False):
            axis.imshow(item.image.permute(1, 2, 0).numpy())
            axis.set_title(title, fontsize=9, pad=3)
            if outlines:
                outline(axis, item.mask.numpy(), TRUTH)
    figure.summary = summary
    return figure


def side_by_side(dataset: AnomalyDataset, maps: Mapping[str, ArrayLike], indices: Sequence[int], unit: str, *,
                 shared: bool = True) -> Figure:
    """A row per test image: the image with its true region outlined, then the map of every method.

    Args:
        dataset: the test images.
        maps: by name of the method, (N, H, W) over the whole test set, higher is more anomalous.
        indices: places of the images to show.
        unit: of the maps.
        shared: one colour scale for all maps, so that a colour is a number whatever the method; else one a method.

    Raises ValueError for an image that is not there, or without a map.
    """
    check_indices(indices, len(dataset))
    if not maps:
        raise ValueError("There is nothing to compare: give the maps of one method or more.")
    chosen = {name: as_finite(values, f"maps of {name}")[list(indices)] for name, values in maps.items()}
    parts = list(chosen.values())
    norms = [Normalize(min(p.min() for p in part), max(p.max() for p in part)) for part in
             ([parts] * len(parts) if shared else [[p] for p in parts])]
    columns = 1 + len(maps)
    tall = len(indices) * (WIDTH / max(columns, 4) * dataset.size[0] / dataset.size[1] + 0.2) + 1.1
    with canvas(len(indices), columns, tall, layout="compressed") as (figure, axes):
        for r, i in enumerate(indices):
            _image_with_truth(axes[r, 0], dataset, i)
            drawn = [axis.imshow(part[r], norm=norm)
                     for axis, part, norm in zip(axes[r, 1:], parts, norms, strict=True)]
        for axis in axes.flat:
            axis.set_axis_off()
        head(axes[0], ["image", *maps])
        for c, mappable in enumerate(drawn[:1] if shared else drawn, 1):
            figure.colorbar(mappable, ax=axes[:, 1:] if shared else axes[:, c], location="bottom",
                            aspect=50 if shared else 20, pad=0.02, label=unit)
        figure.legend(handles=[handle(TRUTH, "ground truth")], loc="outside lower left", handlelength=3)
    figure.summary = f"Highest values on {counted(len(indices), 'test image')}: " + "; ".join(
        f"{name} " + ", ".join(f"{number(m.max())} ({dataset.defect_types[i]})" for m, i in zip(part, indices, strict=True))
        for name, part in chosen.items()) + "."
    return figure


def pair_grid(labels: ArrayLike, scores: ArrayLike) -> Figure:
    """Every pair of a good and an anomalous image, filled where the anomalous one scores higher: AUROC as an area.

    Good images from left to right and anomalous ones from bottom to top, highest score first: the border of what is
    filled is the ROC curve. A tie is half filled. Raises ValueError without both classes.
    """
    bad, scores = as_truth(labels), as_finite(scores, "scores")
    good, bad = np.sort(scores[~bad])[::-1], np.sort(scores[bad])[::-1]
    if not len(good) or not len(bad):
        raise ValueError("A pair needs a good and an anomalous image. Give scores of both.")
    won = (np.sign(bad[:, None] - good[None]) + 1) / 2
    auroc = won.mean()
    with canvas(1, 1, 4.0) as (figure, ((axis,),)):
        axis.imshow(won, origin="lower", aspect="auto", cmap=ListedColormap(["white", "#B0CDE0", BLUE]), vmin=0, vmax=1,
                    extent=(0, len(good), 0, len(bad)), interpolation="nearest")
        for spine in axis.spines.values():
            spine.set_visible(True)
        axis.annotate(f"anomalous image scores higher:\n{auroc:.1%} of the pairs", (0.62, 0.3), ha="center",
                      color="white", xycoords="axes fraction", bbox={"facecolor": BLUE, "edgecolor": "white"})
        axis.set(xlabel=f"the {counted(len(good), 'good image')}, highest score first",
                 ylabel=f"the {counted(len(bad), 'anomalous image')},\nhighest score first",
                 title=f"{len(good)} x {len(bad)} pairs: the filled share is AUROC, {auroc:.3f}")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(integer=True))
    figure.summary = (f"Of {won.size} pairs of a good and an anomalous image the anomalous one scores higher in "
                      f"{(won == 1).sum()}, equal in {(won == 0.5).sum()}: AUROC {auroc:.3f}.")
    return figure


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float, unit: str = "image score") -> Figure:
    """Image scores around a threshold, and what comes of it: the confusion matrix.

    Args:
        labels: (N,) 0 good, 1 anomalous; scores: (N,), higher is more anomalous.
        threshold: an image is called anomalous from this score on.
        unit: label of the score axis.

    Raises ValueError without images of both kinds.
    """
    from sklearn.metrics import confusion_matrix
    labels, scores = as_truth(labels), as_finite(scores, "scores")
    if set(labels.tolist()) != {False, True}:
        raise ValueError("A confusion matrix needs good and anomalous images. Give scores of both.")
    table = confusion_matrix(labels, scores >= threshold)
    with canvas(1, 2, 3.2, width_ratios=[3, 2]) as (figure, (axes,)):
        for place, (label, name, colour, marker) in enumerate(((0, GOOD, BLUE, "o"), (1, "anomalous", VERMILION, "^"))):
            part = scores[labels == label]
            spread = np.linspace(-0.28, 0.28, 7)[np.arange(len(part)) % 7]
            axes[0].plot(part, place + spread, marker, color=colour, alpha=0.6, markersize=5, label=name)
        axes[0].axvline(threshold, color=ORANGE, linestyle="dashed", linewidth=2)
        axes[0].set(yticks=[0, 1], yticklabels=[GOOD, "anomalous"], ylim=(-0.5, 1.5), xlabel=unit, ylabel="truth",
                    title=f"threshold {number(threshold)}: anomalous to its right")
        draw_confusion(axes[1], table)
    (kept, false_alarms), (missed, found) = table
    figure.summary = (f"Threshold {number(threshold)}: {counted(false_alarms, 'false alarm')} in "
                      f"{counted(kept + false_alarms, 'good image')}, {missed} of "
                      f"{counted(missed + found, 'anomalous image')} missed.")
    return figure


def _image_with_truth(axis: Axes, dataset: AnomalyDataset, index: int) -> None:
    item = dataset[index]
    axis.imshow(item.image.permute(1, 2, 0).numpy())
    axis.set_title(f"{dataset.defect_types[index]} ({index})", loc="left", fontsize=9, pad=3)
    outline(axis, item.mask.numpy(), TRUTH)
