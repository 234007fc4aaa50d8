"""What all figures share: the kit's style, the canvas, outlines and words; and `show`, which puts one on a page."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from rdlib.evaluation.report import Report
from rdlib.utils.arrays import as_finite

BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#767676"
STYLE = {"figure.constrained_layout.use": True, "figure.facecolor": "white", "font.size": 10, "axes.titlesize": 10,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9,
         "image.cmap": "viridis", "xtick.labelsize": 9, "ytick.labelsize": 9}
WIDTH = 8.0  # inches, a notebook's column
SCREEN_DPI, STORED_DPI = 96, 100  # how large `show` makes an inch, and how finely it draws it
LARGE = 200_000  # bytes; a notebook should stay below 2 MB
UNIT = "cosine distance, summed over 3 scales"
HALO = [withStroke(linewidth=3, foreground="black")]  # keeps a bright line visible on any image
TRUTH = {"colors": "white", "linestyles": "solid", "linewidths": 1.5}
MARKED = {"colors": ORANGE, "linestyles": "dashed", "linewidths": 1.5}


@contextmanager
def canvas(rows: int, columns: int, height: float, **options) -> Iterator[tuple[Figure, NDArray]]:
    """A figure and its (rows, columns) axes, drawn on in the kit's style whatever style the caller has set.

    It is made by pyplot, so that notebooks know how to display it, and closed at once, so that they do so only once.
    """
    with plt.style.context(["default", STYLE]):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)
        plt.close(figure)
        yield figure, axes


def show(figure: Figure, summary: str | None = None) -> None:
    """Display a figure in a notebook, with its summary as alt text, and print the summary below; elsewhere print only.

    `summary` is for figures that are drawn by hand. Raises ValueError where there is none.
    """
    summary = summary or getattr(figure, "summary", None)
    if not summary:
        raise ValueError("Say in a sentence what the figure shows: show(figure, summary='...').")
    try:
        from IPython import get_ipython
        from IPython.display import Image, display
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    if shell is not None:
        # metadata= and not alt=: Colab's IPython 7 does not know the latter.
        display(Image(_stored(figure), width=round(figure.get_figwidth() * SCREEN_DPI), metadata={"alt": summary}))
    plt.close(figure)
    print(fill(summary, 100))  # a page would break a long line in the middle of a word


def _stored(figure: Figure) -> bytes:
    """The figure as a notebook keeps it: PNG, or, where photographs make that large, JPEG."""
    png, jpeg = BytesIO(), BytesIO()
    figure.savefig(png, format="png", dpi=STORED_DPI)
    if png.tell() <= LARGE:
        return png.getvalue()
    figure.savefig(jpeg, format="jpeg", dpi=STORED_DPI, pil_kwargs={"quality": 90, "subsampling": 0})
    return jpeg.getvalue()


def show_mask(axis: Axes, mask: NDArray) -> None:
    """Draw an (H, W) bool mask, white where it is True."""
    axis.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def outline(axis: Axes, region: NDArray, style: dict) -> None:
    """Draw the border of an (H, W) bool region; a region that reaches the image's edge is closed there."""
    if region.any():
        height, width = region.shape
        lines = axis.contour(np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(region, 1).astype(float),
                             [0.5], **style)
        lines.set_path_effects(HALO)
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def head(row: Sequence[Axes], names: Sequence[str]) -> None:
    """Name the columns above the first row, clear of its title."""
    for axis, name in zip(row, names, strict=True):
        axis.annotate(name, (0.5, 1), (0, 20), ha="center", xycoords="axes fraction", textcoords="offset points",
                      weight="bold", annotation_clip=False)


def handle(style: dict, label: str) -> Line2D:
    """A legend's line in the style of an `outline`."""
    return Line2D([], [], color=style["colors"], linestyle=style["linestyles"], linewidth=style["linewidths"],
                  path_effects=HALO, label=label)


def thinned(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """At most 2001 of the corners of a rising curve, which may have millions; it moves by no more than 0.001."""
    along = x + y
    keep = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], 2001)))
    return x[keep], y[keep]


def number(value: float) -> str:
    """Three significant digits, as text."""
    return f"{value:#.3g}"


def counted(n: int, noun: str) -> str:
    """A number and its noun, in the plural where it has to be."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def check_finite(report: Report) -> None:
    """Raise ValueError, saying what to look at, for scores or maps that are no numbers."""
    as_finite(report.scores, "scores")
    as_finite(report.maps, "maps")


def check_indices(indices: Sequence[int], n: int) -> None:
    """Raise ValueError unless `indices` names images, and only such as there are of n."""
    wrong = [i for i in indices if not 0 <= i < n]
    if wrong or not len(indices):
        raise ValueError(f"Choose images by their places in the test set, 0 to {n - 1}; got {wrong or 'none'}.")
