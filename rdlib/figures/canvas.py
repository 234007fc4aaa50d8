"""Provide what all figures share: the canvas, outlines, and `show`, which displays a figure."""
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from textwrap import fill

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray

from rdlib.evaluation.report import Report
from rdlib.figures.picture import border
from rdlib.figures.style import FALLBACKS, LARGE, SCREEN_DPI, STORED_DPI, STYLE, WIDTH
from rdlib.utils.arrays import as_finite


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure with a summary, a sentence computed from the figure's data."""

    summary: str = ""


@contextmanager
def canvas(rows: int, columns: int, height: float, **options) -> Generator[tuple[Figure, NDArray]]:
    """Open a figure with (rows, columns) axes in the kit's style, independent of the caller's style but for its fonts.

    pyplot does not know the figure, so a notebook displays it once, where it is shown.
    """
    fonts: dict = {k: v for k, v in plt.rcParams.items() if k.startswith(("font.", "axes.unicode_minus"))}
    fonts["font.family"] = fonts["font.family"] + [name for name in FALLBACKS if name in fontManager.get_font_names()]
    with plt.style.context(["default", fonts, STYLE]):
        figure = Figure(figsize=(WIDTH, height), **options)
        yield figure, figure.subplots(rows, columns, squeeze=False)


def show(figure: matplotlib.figure.Figure, summary: str | None = None) -> None:
    """Display a figure in a notebook with its summary as alt text, and print the summary.

    Outside a notebook, only print the summary.

    Args:
        figure: a figure of this package, or one of your own.
        summary: what the figure shows, in a sentence; default: the figure's own summary.

    Raises:
        ValueError: the figure has no summary and none was given.
    """
    summary = summary or getattr(figure, "summary", None)
    if not summary:
        raise ValueError("The figure has no summary. Describe it in a sentence: show(figure, summary='...').")
    if sys.modules.get("IPython"):  # a notebook has imported it before
        from IPython import get_ipython
        from IPython.display import Image, display
        if get_ipython() is not None:
            # metadata= and not alt=: Colab's IPython 7 does not know the latter.
            display(Image(stored(figure), width=round(figure.get_figwidth() * SCREEN_DPI), metadata={"alt": summary}))
    plt.close(figure)
    print(fill(summary, 100))  # a page would break a long line in the middle of a word


def stored(figure: matplotlib.figure.Figure) -> bytes:
    """Encode a figure for a notebook: as PNG, or as JPEG if photographs make the PNG large."""
    figure.savefig(file := BytesIO(), format="png", dpi=STORED_DPI)
    if file.tell() > LARGE:
        figure.savefig(file := BytesIO(), format="jpeg", dpi=STORED_DPI, pil_kwargs={"quality": 90, "subsampling": 0})
    return file.getvalue()


def outline(axis: Axes, region: NDArray, style: dict) -> None:
    """Draw the border of an (H, W) bool region. At the image's edge, the border follows the edge."""
    if region.any():
        # matplotlib counts from the center of the first pixel.
        lines = [line - 1.5 for line in border(np.pad(region, 1).astype(np.float32), 0.5)]
        axis.add_collection(LineCollection(lines, **style), autolim=False)


def thinned(x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Keep at most 2001 points of a rising curve, which may have millions. The curve moves by 0.001 at most."""
    along = x + y
    keep = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], 2001)))
    return x[keep], y[keep]


def check_finite(report: Report) -> None:
    """Raise ValueError if scores or maps hold NaN or infinity."""
    as_finite(report.scores, "scores")
    as_finite(report.maps, "maps")
