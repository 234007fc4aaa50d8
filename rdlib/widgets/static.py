"""Draw the explorers' content as static figures: a map with several settings, and painted defects.

Maps are divided by `normal`, their highest value on good training images. So 1 has the same meaning for all settings,
and equal colors can be compared.
"""
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from torch import Tensor

from rdlib.figures.canvas import Figure, canvas, check_indices, handle, outline
from rdlib.figures.style import HALO, MARKED, TRUTH, WIDTH
from rdlib.synthetic.paint import painted
from rdlib.widgets.interactive import InteractiveModel, Settings, View

TOP = 2.0  # end of the color scale, in multiples of normal


def map_settings(interactive: InteractiveModel, index: int, settings: Mapping[str, Settings]) -> Figure:
    """Draw a test image with several settings, a column each: the map above, the outlines on the image below.

    Args:
        interactive: the model and its data.
        index: index of the test image.
        settings: settings by the title of the column.

    Returns:
        The figure; its summary gives every score in multiples of `normal`.

    Raises:
        ValueError: the data have no test images, `index` is invalid, or `settings` is empty or invalid.
        NotFiniteError: distances of the image are NaN or infinite.
    """
    check_indices([index], len(interactive.test))
    kind = interactive.test.defect_types[index]
    views = {name: interactive.view(index, chosen) for name, chosen in settings.items()}
    figure = _pairs(views, f"Test image {index}: {kind}")
    figure.summary = f"Image {index} ({kind}), score in multiples of normal: {_ratios(views)}."
    return figure


def drawn_defects(interactive: InteractiveModel, image: Tensor, layers: Mapping[str, NDArray],
                  settings: Settings | None = None) -> Figure:
    """Draw a painted image, a column for each layer of paint: the map above, the outlines on the image below.

    Args:
        interactive: the model and its data.
        image: a good image, (3, H, W) tensor in [0, 1].
        layers: (H, W, 4) uint8 RGBA layers by the title of the column, see `rdlib.synthetic.paint.spot`.
        settings: settings of the map; default: the model's own.

    Returns:
        The figure; its summary gives every score in multiples of `normal`.

    Raises:
        ValueError: `layers` is empty, or `settings` is invalid.
        NotFiniteError: distances of the painted image are NaN or infinite.
    """
    settings = settings or interactive.settings
    views = {name: interactive.view_of(painted(image, layer), settings, layer[..., 3] > 127)
             for name, layer in layers.items()}
    figure = _pairs(views, "Painted on a good image", framed=True)
    figure.summary = f"Painted on a good image, score in multiples of normal: {_ratios(views)}."
    return figure


def _frame(axis: Axes, mask: NDArray, margin: float = 4) -> None:
    """Draw a frame around the True pixels of an (H, W) mask, since an outline would hide a small region."""
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = (np.array([side[0] - margin, side[-1] + margin]) for side in (columns, rows))
        axis.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color="white", linewidth=1.2, path_effects=HALO)


def _pairs(views: Mapping[str, View], title: str, framed: bool = False) -> Figure:
    """Draw a column for each view: its map, and below it the image. An outline or a frame shows the true region."""
    if not views:
        raise ValueError("No column to draw, got an empty mapping. Give at least one column by its title.")
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
    return figure


def _ratios(views: Mapping[str, View]) -> str:
    return ", ".join(f"{name} {view.ratio:.2f}" for name, view in views.items()).replace("\n", " ")
