"""What the explorers show, without a slider: a map under several settings, painted and designed defects.

Maps are drawn in multiples of the highest value that they reach on good training images, so that 1 is the edge of what
is known to be normal under any settings, and colours can be compared.
"""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from rdlib.figures.canvas import HALO, MARKED, TRUTH, WIDTH, canvas, check_indices, counted, handle, outline
from rdlib.synthetic import render
from rdlib.synthetic.paint import as_image, painted
from rdlib.widgets.interactive import InteractiveModel, Settings, View

TOP = 2.0  # where the colours end: twice what good training images reach


def map_settings(interactive: InteractiveModel, index: int, settings: Mapping[str, Settings]) -> Figure:
    """A test image under several settings, a column each: the map above, below it what reaches the threshold.

    Args:
        interactive: the model, ready for it.
        index: the test image's place.
        settings: by the title of their columns.

    Raises:
        ValueError: an image that is not there, or no settings.
    """
    check_indices([index], len(interactive.data.test))
    views = {name: interactive.view(index, chosen) for name, chosen in settings.items()}
    figure = _pairs(views, f"Test image {index}: {interactive.data.test.defect_types[index]}")
    figure.summary = (f"Image {index} ({interactive.data.test.defect_types[index]}), score in multiples of normal: "
                      f"{_ratios(views)}.")
    return figure


def drawn_defects(interactive: InteractiveModel, image: Tensor, layers: Mapping[str, NDArray],
                  settings: Settings | None = None) -> Figure:
    """Paint on an image, a column for each layer: the map above, the painted image with the marked region below.

    Args:
        interactive: the model, ready for it.
        image: (3, H, W) tensor in [0, 1], a good image.
        layers: (H, W, 4) uint8 RGBA by the title of their columns, see `rdlib.synthetic.paint.spot`.
        settings: of the map; default: the model's own.

    Raises:
        ValueError: no layers.
    """
    settings = settings or interactive.settings
    views = {name: interactive.view_of(painted(image, layer), settings, layer[..., 3] > 127)
             for name, layer in layers.items()}
    figure = _pairs(views, "Painted on a good image", framed=True)
    figure.summary = f"Painted on a good image, score in multiples of normal: {_ratios(views)}."
    return figure


def designed_defects(category: str, kinds: Sequence[str], strengths: Sequence[float], seed: int = 1,
                     interactive: InteractiveModel | None = None, size: int = 128) -> Figure:
    """Synthetic defects, a row for each kind and a column for each strength, framed; with a model, with their scores.

    Args:
        category: of `rdlib.synthetic.CATEGORIES`.
        kinds, strengths: what to draw; strengths in (0, 1].
        seed: of the scene and of the defect's place.
        interactive: a model whose scores are given, in multiples of normal; its images' size is taken then.
        size: pixels a side, without a model.

    Raises:
        ValueError: an unknown category or kind, a strength out of range, nothing to draw.
    """
    if not kinds or not strengths:
        raise ValueError("Give at least one kind of defect and one strength.")
    size = interactive.data.test.size[0] if interactive else size
    with canvas(len(kinds), len(strengths), len(kinds) * (WIDTH / len(strengths) + 0.4) + 0.4) as (figure, axes):
        found = {}
        for row, kind in zip(axes, kinds, strict=True):
            for axis, strength in zip(row, strengths, strict=True):
                image, mask = render(category, size=size, seed=seed, defect=kind, strength=strength)
                axis.imshow(image)
                _frame(axis, mask)
                axis.set_axis_off()
                title = f"{kind.replace('_', ' ')}, strength {strength:g}"
                if interactive:
                    found[kind, strength] = _ratio(interactive.view_of(as_image(image), interactive.settings, mask))
                    title += f"\n{found[kind, strength]:.2f} x normal"
                axis.set_title(title, fontsize=9)
        figure.legend(handles=[handle(TRUTH, "around the exact mask")], loc="outside lower center", handlelength=3)
    figure.summary = (f"{category} of seed {seed}, {', '.join(kinds)}, at strengths "
                      f"{', '.join(f'{s:g}' for s in strengths)}.")
    if interactive:
        passed = sum(ratio > 1 for ratio in found.values())
        weakest, highest = min(found, key=found.get), max(found, key=found.get)
        figure.summary += (f" {passed} of {counted(len(found), 'image')} score above normal; from {found[weakest]:.2f} "
                           f"x normal ({weakest[0]}, {weakest[1]:g}) to {found[highest]:.2f} x ({highest[0]}, "
                           f"{highest[1]:g}).")
    return figure


def _frame(axis: Axes, mask: NDArray, margin: float = 4) -> None:
    """A frame around what is True in an (H, W) mask, which an outline would hide where it is small."""
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = (np.array([side[0] - margin, side[-1] + margin]) for side in (columns, rows))
        axis.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color="white", linewidth=1.2, path_effects=HALO)


def _pairs(views: Mapping[str, View], title: str, framed: bool = False) -> Figure:
    """A column a view: its map, and below it the image; the truth has its outline or, where that would hide it, a
    frame."""
    if not views:
        raise ValueError("There is nothing to draw: give at least one column.")
    some = next(iter(views.values()))
    height = 2 * (WIDTH - 1) / max(len(views), 3) * some.map.shape[0] / some.map.shape[1] + 1.35
    with canvas(2, len(views), height, layout="compressed") as (figure, axes):
        figure.suptitle(title)
        for (above, below), (name, view) in zip(axes.T, views.items(), strict=True):
            mappable = draw_map(above, view)
            above.set_title(f"{name}\n{_ratio(view):.2f} x normal")
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


def draw_map(axis: Axes, view: View) -> AxesImage:
    """A view's map in multiples of normal, colours from 0 to `TOP`."""
    axis.set_axis_off()
    return axis.imshow(view.map / max(view.normal, 1e-12), norm=Normalize(0, TOP))


def _ratio(view: View) -> float:
    return view.score / max(view.normal, 1e-12)


def _ratios(views: Mapping[str, View]) -> str:
    return ", ".join(f"{name} {_ratio(view):.2f}" for name, view in views.items()).replace("\n", " ")
