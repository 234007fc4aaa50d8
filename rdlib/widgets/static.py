"""Draw the explorers' content as static figures, such as one image with several settings, or with painted defects.

Maps are divided by `normal`, their highest value on good training images. So 1 has the same meaning for all settings,
and equal colors can be compared.
"""
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from rdlib.figures.canvas import Figure, canvas, handle, outline
from rdlib.figures.style import HALO, MARKED, TRUTH, WIDTH
from rdlib.widgets.interactive import View

TOP = 2.0  # end of the color scale, in multiples of normal


def draw_views(views: Mapping[str, View], title: str, *, framed: bool = False) -> Figure:
    """Draw a column for each view: its map above, the image with outlines below.

    Args:
        views: views of one model by the title of the column, see `InteractiveModel`.
        title: title of the figure.
        framed: draw a frame around the mask instead of its outline, which would hide small regions.

    Returns:
        The figure; its summary gives every score in multiples of `normal`.

    Raises:
        ValueError: `views` is empty.
    """
    if not views:
        raise ValueError("No column to draw, got an empty mapping. Give at least one view by its title.")
    some = next(iter(views.values()))
    height = 2 * (WIDTH - 1) / max(len(views), 3) * some.map.shape[0] / some.map.shape[1] + 1.35
    with canvas(2, len(views), height, layout="compressed") as (figure, axes):
        figure.suptitle(title)
        for (above, below), (name, view) in zip(axes.T, views.items(), strict=True):
            mappable = above.imshow(view.map / max(view.normal, 1e-12), norm=Normalize(0, TOP))
            above.set_axis_off()
            above.set_title(f"{name}\n{view.ratio:.2f} x normal")
            below.imshow(view.image)
            _frame(below, view.mask) if framed else outline(below, view.mask, TRUTH)
            outline(below, view.marked, MARKED)
            below.set_axis_off()
        figure.colorbar(mappable, ax=axes[0], extend="max", label="multiples of normal")
        truth = "around the paint" if framed else "ground truth"
        handles = [handle(TRUTH, truth)] * any(view.mask.any() for view in views.values())
        figure.legend(handles=[*handles, handle(MARKED, "map at or above the threshold")], loc="outside lower center",
                      ncols=2, handlelength=3)
    ratios = ", ".join(f"{name} {view.ratio:.2f}" for name, view in views.items()).replace("\n", " ")
    figure.summary = f"{title}, score in multiples of normal: {ratios}."
    return figure


def _frame(axis: Axes, mask: NDArray, margin: float = 4) -> None:
    """Draw a frame around the True pixels of an (H, W) mask, since an outline would hide a small region."""
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = (np.array([side[0] - margin, side[-1] + margin]) for side in (columns, rows))
        axis.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color="white", linewidth=1.2, path_effects=HALO)
