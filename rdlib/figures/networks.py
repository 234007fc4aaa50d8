"""Draw grids of images and maps, and the shapes of tensors inside the networks."""
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike
from torch import Tensor

from rdlib.datasets.samples import Item
from rdlib.figures.canvas import Figure, canvas, outline
from rdlib.figures.style import BLUE, GREY, HALO, ORANGE, TRUTH, WIDTH, number
from rdlib.utils.arrays import as_array, as_truth
from rdlib.utils.errors import check_choice


class Panel(NamedTuple):
    """An image or a map for `panels`, and what is drawn on it.

    Args:
        values: an image (3, H, W) in [0, 1], or a map (H, W).
        title: title above the panel.
        mark: (row, column) of a cross, in pixels, or None.
        region: (H, W) bool, a region to outline, or None.
    """

    values: ArrayLike | Tensor
    title: str = ""
    mark: tuple[float, float] | None = None
    region: ArrayLike | Tensor | None = None


def panels(rows: Sequence[Sequence[Panel | None]], label: str = "", *, scale: str = "row") -> Figure:
    """Draw images and maps in a grid. Dark colors of a map are low values.

    Args:
        rows: rows of equal length; None leaves a place empty.
        label: what the maps show, with its unit, for the color bars.
        scale: "row": the maps of a row share a color scale and a bar. "all": all maps share one scale and one bar.
            "own": each map has its own scale, from its lowest to its highest value, without a bar.

    Returns:
        The figure; its summary gives the lowest and the highest value of every map.

    Raises:
        ValueError: the rows have unequal lengths or no panel, or `scale` is unknown.
    """
    check_choice("scale", scale, ("row", "all", "own"))
    if not any(p for row in rows for p in row) or len({len(row) for row in rows}) > 1:
        raise ValueError("Give one or more panels in rows of equal length, with None for an empty place; got the "
                         f"lengths {[len(row) for row in rows]}.")
    grid = [[(p, as_array(p.values, np.float64)) if p else None for p in row] for row in rows]
    maps = [[(p.title.replace("\n", " "), v) for p, v in filter(None, row) if v.ndim == 2] for row in grid]
    every = list(chain(*maps))
    height, width = next(v.shape[-2:] for _, v in filter(None, chain(*grid)))
    tall = len(grid) * (WIDTH / len(grid[0]) * height / width * 0.92 + 0.28)
    with canvas(len(grid), len(grid[0]), tall, layout="compressed") as (figure, axes):
        for i, row in enumerate(grid):
            shared = {"row": maps[i], "all": every, "own": []}[scale]
            norm = Normalize(min(v.min() for _, v in shared), max(v.max() for _, v in shared)) if shared else None
            for axis, cell in zip(axes[i], row, strict=True):
                axis.set_axis_off()
                if not cell:
                    continue
                panel, values = cell
                axis.imshow(values if values.ndim == 2 else values.transpose(1, 2, 0).clip(0, 1), norm=norm)
                axis.set_title(panel.title, fontsize=9)
                if panel.region is not None:
                    outline(axis, as_truth(panel.region), TRUTH)
                if panel.mark is not None:
                    axis.plot(*panel.mark[::-1], "+", color=ORANGE, markersize=11, markeredgewidth=2.2,
                              path_effects=HALO)
            if norm and (scale == "row" or i == len(grid) - 1):
                beside, shrink = (axes[i], 1) if scale == "row" else (axes, 0.8)
                figure.colorbar(ScalarMappable(norm), ax=beside, label=label, shrink=shrink, pad=0.01)
    figure.summary = (f"{label[:1].upper() + label[1:] or 'Maps'}, lowest to highest: "
                      + "; ".join(f"{title} {number(v.min())} to {number(v.max())}" for title, v in every) + ".")
    return figure


def pictures(items: Sequence[Item], titles: Sequence[str], columns: int, summary: str, *,
             outlines: bool = True) -> Figure:
    """Draw images of a data set in rows, with titles and with the outlines of the true regions.

    Args:
        items: elements of a data set, one or more; the images (3, H, W) in [0, 1] have one size.
        titles: one title for each item.
        columns: number of images in a row, 1 or more.
        summary: what a reader should see in the images, in a sentence.
        outlines: draw the outlines of the masks.

    Returns:
        The figure, with `summary` as its summary.

    Raises:
        ValueError: `items` is empty, or `titles` has another length.
    """
    cells = [Panel(item.image, title, region=item.mask if outlines else None)
             for item, title in zip(items, titles, strict=True)]
    grid = [*cells, *[None] * (-len(cells) % columns)]
    figure = panels([grid[i:i + columns] for i in range(0, len(grid), columns)])
    figure.summary = summary
    return figure


def shapes(blocks: Mapping[str, tuple[int, int, int]], title: str = "") -> Figure:
    """Draw the shapes of tensors on their way through a network as a row of blocks.

    A block's height grows with the square root of H, its width with the square root of C.

    Args:
        blocks: (C, H, W) of each tensor by its name.
        title: title of the figure.

    Returns:
        The figure; its summary lists the shapes.

    Raises:
        ValueError: `blocks` is empty.
    """
    if not blocks:
        raise ValueError("No blocks to draw, got an empty mapping. Give the shapes by name: {'f1': (C, H, W)}.")
    wide, tall, _ = np.sqrt([*blocks.values()]).T
    wide, tall = 0.15 + 0.6 * wide / wide.max(), tall / tall.max()
    with canvas(1, 1, 2.6) as (figure, ((axis,),)):
        axis.bar(range(len(blocks)), tall, wide, -tall / 2, facecolor=(BLUE, 0.25), edgecolor=BLUE)
        for x, (name, (c, h, w)) in enumerate(blocks.items()):
            axis.text(x, tall[x] / 2 + 0.05, name, ha="center", va="bottom", fontsize=9)
            axis.text(x, -tall[x] / 2 - 0.05, f"{c}\n{h} x {w}", ha="center", va="top", fontsize=8)
            if x:
                axis.annotate("", (x - 0.42, 0), (x - 0.58, 0), arrowprops={"arrowstyle": "->", "color": GREY})
        axis.set(xlim=(-0.6, len(blocks) - 0.4), ylim=(-0.95, 0.75), title=title)
        axis.set_axis_off()
    figure.summary = "Channels, height, width: " + "; ".join(f"{k} {tuple(v)}" for k, v in blocks.items()) + "."
    return figure
