"""Draw what the lessons compare: images in a grid, maps of several methods, scores on both sides of a threshold."""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from rdlib.datasets.samples import GOOD, AnomalyDataset, Item
from rdlib.evaluation.operating import OperatingPoint
from rdlib.figures.canvas import Figure, canvas, check_indices, counted, handle, head, number, outline
from rdlib.figures.networks import Panel, panels
from rdlib.figures.operating import describe, draw_confusion
from rdlib.figures.style import BLUE, ORANGE, TRUTH, VERMILION, WIDTH
from rdlib.utils.arrays import as_finite, as_truth


def pictures(items: Sequence[Item], titles: Sequence[str], columns: int, summary: str, *,
             outlines: bool = True) -> Figure:
    """Draw images of a data set in rows, with titles and with the outlines of the true regions.

    Args:
        items: elements of a data set; the images (3, H, W) in [0, 1] have one size.
        titles: one for each item.
        columns: images in a row.
        summary: what a reader should see in the images, in a sentence.
        outlines: draw the outlines of the masks.

    Returns:
        The figure, with `summary`.

    Raises:
        ValueError: no image, or another number of titles.
    """
    if not items or len(items) != len(titles):
        raise ValueError(f"Give one image or more and a title for each; got {len(items)} images, {len(titles)} titles.")
    cells = [Panel(item.image, title, region=item.mask if outlines else None)
             for item, title in zip(items, titles, strict=True)]
    grid = [*cells, *[None] * (-len(cells) % columns)]
    figure = panels([grid[i:i + columns] for i in range(0, len(grid), columns)])
    figure.summary = summary
    return figure


def side_by_side(dataset: AnomalyDataset, maps: Mapping[str, ArrayLike], indices: Sequence[int], unit: str, *,
                 shared: bool = True) -> Figure:
    """Draw a row for each test image: the image with its true region outlined, then the map of every method.

    Args:
        dataset: the test images.
        maps: (N, H, W) over the whole test set by the method's name; higher is more anomalous.
        indices: of the images to draw.
        unit: of the maps.
        shared: one colour scale for all maps; False: one for each method.

    Returns:
        The figure; its summary lists each map's highest value.

    Raises:
        ValueError: an index outside the test set, no maps, or maps that hold NaN or infinity.
    """
    check_indices(indices, len(dataset))
    if not maps:
        raise ValueError("No maps to compare, got an empty mapping. Give the maps of one method or more.")
    chosen = {name: as_finite(values, f"maps of {name}")[list(indices)] for name, values in maps.items()}
    parts = list(chosen.values())
    norms = [Normalize(min(p.min() for p in part), max(p.max() for p in part)) for part in
             ([parts] * len(parts) if shared else [[p] for p in parts])]
    columns = 1 + len(maps)
    tall = len(indices) * (WIDTH / max(columns, 4) * dataset.size[0] / dataset.size[1] + 0.2) + 1.1
    with canvas(len(indices), columns, tall, layout="compressed") as (figure, axes):
        for r, i in enumerate(indices):
            item = dataset[i]
            axes[r, 0].imshow(item.image.permute(1, 2, 0).numpy())
            axes[r, 0].set_title(f"{dataset.defect_types[i]} ({i})", loc="left", fontsize=9, pad=3)
            outline(axes[r, 0], item.mask.numpy(), TRUTH)
            drawn = [axis.imshow(part[r], norm=norm)
                     for axis, part, norm in zip(axes[r, 1:], parts, norms, strict=True)]
        for axis in axes.flat:
            axis.set_axis_off()
        head(axes[0], ["image", *maps])
        for c, mappable in enumerate(drawn[:1] if shared else drawn, 1):
            figure.colorbar(mappable, ax=axes[:, 1:] if shared else axes[:, c], location="bottom",
                            aspect=50 if shared else 20, pad=0.02, label=unit)
        figure.legend(handles=[handle(TRUTH, "ground truth")], loc="outside lower left", handlelength=3)
    kinds = [dataset.defect_types[i] for i in indices]
    figure.summary = f"Highest values on {counted(len(indices), 'test image')}: " + "; ".join(
        f"{name} " + ", ".join(f"{number(m.max())} ({kind})" for m, kind in zip(part, kinds, strict=True))
        for name, part in chosen.items()) + "."
    return figure


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float, unit: str = "image score") -> Figure:
    """Draw image scores on both sides of a threshold, and the confusion matrix.

    Args:
        labels: (N,) 0 good, 1 anomalous.
        scores: (N,) image scores, higher is more anomalous.
        threshold: an image with a score >= threshold is called anomalous.
        unit: label of the score axis.

    Returns:
        The figure; its summary counts TP, FN and FP.

    Raises:
        ValueError: good or anomalous images are missing, or a score is NaN or infinite.
    """
    labels, scores = as_truth(labels), as_finite(scores, "scores")
    if set(labels.tolist()) != {False, True}:
        raise ValueError("A confusion matrix needs good and anomalous images. Give labels and scores of both.")
    called = scores >= threshold
    point = OperatingPoint(threshold, tp=int((labels & called).sum()), fn=int((labels & ~called).sum()),
                           fp=int((~labels & called).sum()), tn=int((~labels & ~called).sum()),
                           pixel_fpr=np.nan, pro=np.nan)
    with canvas(1, 2, 3.2, width_ratios=[3, 2]) as (figure, (axes,)):
        for place, (label, name, colour, marker) in enumerate(((0, GOOD, BLUE, "o"), (1, "anomalous", VERMILION, "^"))):
            part = scores[labels == label]
            spread = np.linspace(-0.28, 0.28, 7)[np.arange(len(part)) % 7]
            axes[0].plot(part, place + spread, marker, color=colour, alpha=0.6, markersize=5, label=name)
        axes[0].axvline(threshold, color=ORANGE, linestyle="dashed", linewidth=2)
        axes[0].set(yticks=[0, 1], yticklabels=[GOOD, "anomalous"], ylim=(-0.5, 1.5), xlabel=unit, ylabel="truth",
                    title=f"threshold {number(threshold)}: anomalous to its right")
        draw_confusion(axes[1], point)
    figure.summary = describe(point)
    return figure
