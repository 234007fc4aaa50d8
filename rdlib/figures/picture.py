"""Draw maps and outlines on images with PIL, which is much faster than matplotlib.

Colors and lines are those of the other figures. Maps are viridis, ground truth is solid white, and the thresholded map
is dashed orange.
"""
from collections.abc import Iterable, Iterator

import matplotlib
import numpy as np
from contourpy import contour_generator  # matplotlib's own way to contours
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rdlib.figures.style import ORANGE

DASH = 14.0  # pixels


def enlarged(values: NDArray, size: tuple[int, int]) -> NDArray:
    """Resize the values of an (H, W) map to the (width, height) of a PIL image. Colors are added afterwards."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def heat(values: NDArray, top: float) -> Image.Image:
    """Draw an (H, W) map in viridis, dark at 0 and bright at `top` and above."""
    return Image.fromarray(matplotlib.colormaps["viridis"](values / max(top, 1e-12), bytes=True)[..., :3])


def draw_outlines(picture: Image.Image, values: NDArray, threshold: float, mask: NDArray | None = None) -> Image.Image:
    """Outline on an image, in place, where an (H, W) map reaches the threshold, and an (H, W) bool mask."""
    draw, scale = ImageDraw.Draw(picture), np.array(picture.size) / values.shape[::-1]
    if mask is not None:
        for line in border(mask.astype(np.float32), 0.5):
            _stroke(draw, line * scale, [line * scale], "white")
    for line in border(values, threshold):  # none if no value reaches it
        _stroke(draw, line * scale, dashes(line * scale), ORANGE)
    return picture


def border(values: NDArray, level: float) -> list[NDArray]:
    """Find the contour lines of an (H, W) map at `level`. Lines that reach the map's edge are closed there.

    Each line is (n, 2), x right and y down, in pixels from the upper left corner.
    """
    framed = np.pad(values, 1, constant_values=min(float(values.min()), level) - 1e-3 * max(abs(level), 1.0))
    return [np.asarray(line) - 0.5 for line in contour_generator(z=framed).lines(level)]


def dashes(line: NDArray, length: float = DASH) -> Iterator[NDArray]:
    """Cut a line (n, 2) into pieces of `length` pixels and yield every other piece."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start in np.arange(0, along[-1], 2 * length):
        at = np.unique(np.clip(along, start, start + length))
        yield np.column_stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])])


def _stroke(draw: ImageDraw.ImageDraw, line: NDArray, parts: Iterable[NDArray], colour: str) -> None:
    """Draw the parts of a line on a dark halo, which keeps them visible on any image."""
    draw.line(line.ravel().tolist(), "black", 7, joint="curve")
    for part in parts:
        draw.line(part.ravel().tolist(), colour, 3, joint="curve")
