"""What goes on inside the networks: shapes of features, maps side by side, and where images lie among each other."""
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from rdlib.datasets.samples import GOOD
from rdlib.figures.canvas import BLUE, GREEN, GREY, HALO, ORANGE, TRUTH, VERMILION, canvas, number, outline
from rdlib.utils.arrays import as_array, as_truth

KIND_STYLES = ((VERMILION, "^"), (GREEN, "s"), (ORANGE, "D"), ("#CC79A7", "v"), ("#56B4E9", "P"), ("black", "X"))


class Panel(NamedTuple):
    """One picture of `panels`: an image (3, H, W) in [0, 1] or a map (H, W), and what is drawn on it."""

    values: ArrayLike
    title: str = ""
    mark: tuple[float, float] | None = None  # row and column of a cross, in the panel's own pixels
    region: ArrayLike | None = None  # (H, W) bool, outlined
    box: tuple[float, float, float, float] | None = None  # top, left, height, width of a frame, in pixels


def panels(rows: Sequence[Sequence[Panel | None]], label: str = "", *, scale: str = "row") -> Figure:
    """Images and maps in a grid, None where a place stays empty; the maps' values as colours, dark for low.

    Args:
        rows: of equal length.
        label: what the maps show, with its unit; next to the colour bars.
        scale: which maps share their colours: those of a "row" (a bar each), "all" (one bar), or none, each its
            "own" from its lowest value to its highest (no bar).

    Raises:
        ValueError: rows of unequal length, no panel, or another word for `scale`.
    """
    if scale not in ("row", "all", "own"):
        raise ValueError(f"There is no scale '{scale}'. Choose one of: row, all, own.")
    if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
        raise ValueError("Give rows of panels, each as long as the others; None keeps a place empty.")
    grid = [[p and p._replace(values=as_array(p.values, np.float64)) for p in row] for row in rows]
    shape = next(p.values.shape[-2:] for row in grid for p in row if p)
    height = len(grid) * (8.0 / len(grid[0]) * shape[0] / shape[1] * 0.92 + 0.28)
    with canvas(len(grid), len(grid[0]), height, layout="compressed") as (figure, axes):
        every, drawn = [p.values for row in grid for p in row if p and p.values.ndim == 2], None
        for i, row in enumerate(grid):
            own = [p.values for p in row if p and p.values.ndim == 2]
            norm = _shared(every if scale == "all" else own) if scale != "own" else None
            for axis, p in zip(axes[i], row, strict=True):
                drawn = _panel(axis, p, norm) or drawn
            if scale == "row" and own:
                figure.colorbar(drawn, ax=axes[i], label=label, pad=0.01)
        if scale == "all" and every:
            figure.colorbar(drawn, ax=axes, label=label, shrink=0.8, pad=0.01)
    maps = [(p.title.replace("\n", " "), p.values) for row in grid for p in row if p and p.values.ndim == 2]
    figure.summary = (f"{label[:1].upper() + label[1:] or 'Maps'}, lowest to highest: "
                      + "; ".join(f"{title} {number(v.min())} to {number(v.max())}" for title, v in maps) + ".")
    return figure


def _shared(maps: Sequence[NDArray]) -> Normalize | None:
    return Normalize(min(map(np.min, maps)), max(map(np.max, maps))) if maps else None


def _panel(axis: Axes, panel: Panel | None, norm: Normalize | None) -> AxesImage | None:
    axis.set_axis_off()
    if panel is None:
        return None
    is_map = panel.values.ndim == 2
    drawn = axis.imshow(panel.values if is_map else panel.values.transpose(1, 2, 0).clip(0, 1),
                        norm=norm if is_map else None)
    axis.set_title(panel.title, fontsize=9)
    if panel.region is not None:
        outline(axis, as_truth(panel.region), TRUTH)
    if panel.box is not None:
        top, left, height, width = panel.box
        axis.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=ORANGE, linewidth=2,
                                 linestyle="dashed", path_effects=HALO))
    if panel.mark is not None:
        axis.plot(panel.mark[1], panel.mark[0], "+", color=ORANGE, markersize=11, markeredgewidth=2.2,
                  path_effects=HALO)
    return drawn if is_map else None


def shapes(blocks: Mapping[str, tuple[int, int, int]], title: str = "") -> Figure:
    """Tensors on their way through a network, by name: a block as high as the square root of its resolution and as wide
    as the square root of its channels, with (C, H, W) below. Raises ValueError without blocks."""
    if not blocks:
        raise ValueError("Give the blocks that are to be drawn: name -> (C, H, W).")
    tallest = max(h for _, h, _ in blocks.values()) ** 0.5
    widest = max(c for c, _, _ in blocks.values()) ** 0.5
    with canvas(1, 1, 2.6) as (figure, ((axis,),)):
        for x, (name, (c, h, w)) in enumerate(blocks.items()):
            tall, wide = h**0.5 / tallest, 0.15 + 0.6 * c**0.5 / widest
            axis.add_patch(Rectangle((x - wide / 2, -tall / 2), wide, tall, facecolor=(BLUE, 0.25), edgecolor=BLUE))
            axis.text(x, tall / 2 + 0.05, name, ha="center", va="bottom", fontsize=9)
            axis.text(x, -tall / 2 - 0.05, f"{c}\n{h} x {w}", ha="center", va="top", fontsize=8)
            if x:
                axis.annotate("", (x - 0.42, 0), (x - 0.58, 0), arrowprops={"arrowstyle": "->", "color": GREY})
        axis.set(xlim=(-0.6, len(blocks) - 0.4), ylim=(-0.95, 0.75), title=title)
        axis.set_axis_off()
    figure.summary = "Channels, height, width: " + "; ".join(f"{k} {tuple(v)}" for k, v in blocks.items()) + "."
    return figure


def scatter(points: Mapping[str, ArrayLike], kinds: Sequence[str], axes_are: str = "component") -> Figure:
    """Images as points, a panel for each way to place them: good ones hollow, every kind of defect its own marker.

    The summary says how often an anomalous image's nearest neighbour in the panel is anomalous too.

    Args:
        points: name of the panel -> (N, 2) places of the images.
        kinds: of the N images: "good" or a defect.
        axes_are: what the two axes are called, before their number.

    Raises:
        ValueError: no panel, or not one kind for each point.
    """
    kinds = np.asarray(kinds)
    places = {name: as_array(p, np.float64) for name, p in points.items()}
    if not places or any(p.shape != (len(kinds), 2) for p in places.values()):
        raise ValueError(f"Give panels of (N, 2) points, and N kinds; got {[p.shape for p in places.values()]} "
                         f"and {len(kinds)} kinds.")
    with canvas(1, len(places), 8.0 / len(places) * 0.9 + 0.5) as (figure, (row,)):
        for axis, (name, p) in zip(row, places.items(), strict=True):
            good = kinds == GOOD
            axis.plot(*p[good].T, "o", markerfacecolor="none", markeredgecolor=BLUE, markersize=6, label=GOOD)
            for i, kind in enumerate(sorted(set(kinds) - {GOOD})):
                colour, marker = KIND_STYLES[i % len(KIND_STYLES)]
                axis.plot(*p[kinds == kind].T, marker, color=colour, markersize=5, label=kind)
            axis.set(title=name, xlabel=f"{axes_are} 1", ylabel=f"{axes_are} 2", xticks=[], yticks=[])
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    figure.summary = (f"{len(kinds)} images. Anomalous ones whose nearest neighbour in the plane is anomalous too: "
                      + "; ".join(f"{name} {100 * _company(p, kinds):.0f} %" for name, p in places.items())
                      + f" (by chance about {100 * ((kinds != GOOD).sum() - 1) / (len(kinds) - 1):.0f} %).")
    return figure


def _company(points: NDArray, kinds: NDArray) -> float:
    """The share of anomalous points whose nearest other point is anomalous."""
    from sklearn.neighbors import NearestNeighbors
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    bad = kinds != GOOD
    return float(bad[nearest][bad].mean())
