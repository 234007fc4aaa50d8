"""Draw maps, outlines and decisions on images with PIL, which is much faster than matplotlib.

Colors and lines are those of the other figures. Maps are viridis, ground truth is solid white, and the thresholded map
is dashed orange.
"""
from collections.abc import Iterable, Iterator

import matplotlib
import numpy as np
from contourpy import contour_generator  # matplotlib's own way to contours
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from rdlib.figures.style import ORANGE, number
from rdlib.threshold import Threshold
from rdlib.utils.arrays import as_array, as_finite

DASH = 14.0  # pixels
SIDES = 320, 1024  # pixels; range of the longer side, so that words fit and files stay small
FONT, GAP = 20, 8  # pixels: smallest height of the letters, width of the gap between image and map


def overlay_size(height: int, width: int) -> tuple[int, int]:
    """Compute the (height, width) at which `overlay` is drawn: in proportion, longer side 320 to 1024 pixels."""
    scale = float(np.clip(max(height, width), *SIDES)) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(image: NDArray, values: ArrayLike, score: float, threshold: Threshold | None,
            roi: ArrayLike | None = None) -> Image.Image:
    """Draw an image with its thresholded map outlined, its anomaly map beside it, and the decision above.

    A cross marks the map's highest value. The colors run from 0 to twice the pixel threshold, so they mean the same for
    every image. Without a threshold, they run to the map's maximum.

    Args:
        image: (h, w, 3) uint8 RGB.
        values: (H, W) anomaly map of any size, an array or tensor.
        score: image score.
        threshold: thresholds of score and pixels, or None.
        roi: (h', w') bool, the region of interest, or None. It is outlined in white, and no map is drawn outside.

    Returns:
        An RGB image of about twice the image's width.

    Raises:
        ValueError: the map or the score holds NaN or infinity.
    """
    height, width = image.shape[:2]
    score = float(as_finite(score, "scores"))
    large, left = enlarged(as_finite(values, "map's values"), (width, height)), Image.fromarray(image)
    words = f"score {number(score)}"
    inside = np.ones((height, width), bool) if roi is None else enlarged(as_array(roi), (width, height)) >= 0.5
    if threshold:
        draw_outlines(left, large, threshold.pixel, None if roi is None else inside)
        verdict = "ANOMALOUS" if score >= threshold.score else "good"
        words = f"{verdict}: {words}, threshold {number(threshold.score)}"
    letters = max(FONT, width // 16)
    font, strip = ImageFont.load_default(letters), letters * 8 // 5
    canvas = Image.new("RGB", (max(2 * width + GAP, int(font.getlength(words)) + 8), height + strip), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((4, letters // 5), words, fill="black", font=font)
    row, column = np.unravel_index(np.where(inside, large, -np.inf).argmax(), large.shape)
    right = heat(large, 2 * threshold.pixel if threshold else float(large.max()))
    right.paste(Image.fromarray(image), mask=Image.fromarray(~inside))
    for x, part in ((0, left), (width + GAP, right)):
        canvas.paste(part, (x, strip))
        _cross(draw, x + int(column), strip + int(row))
    return canvas


def _cross(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for colour, thick in (("black", 4), ("white", 2)):
        draw.line([(x - 7, y), (x + 7, y)], fill=colour, width=thick)
        draw.line([(x, y - 7), (x, y + 7)], fill=colour, width=thick)


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
