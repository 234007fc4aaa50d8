"""Draw images for widgets in milliseconds; matplotlib would take a tenth of a second.

Colours and lines are those of `rdlib.figures`: viridis; ground truth solid white, thresholded map dashed orange.
"""
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from typing import cast

import matplotlib
import numpy as np
from contourpy import contour_generator  # matplotlib's own way to contours
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rdlib.figures.canvas import ORANGE

SIDE = 448  # pixels of an image's longer side, shown at half that size or more
DASH = 14.0  # pixels


@lru_cache(maxsize=1)
def colour_table() -> NDArray:
    """Compute viridis as (256, 3) uint8."""
    return (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def encoded(image: Image.Image, kind: str = "jpeg") -> bytes:
    """Encode an image as JPEG (for photographs) or as PNG with little compression (for flat colours)."""
    file = BytesIO()
    image.save(file, kind, **({"quality": 90, "subsampling": 0} if kind == "jpeg" else {"compress_level": 1}))
    return file.getvalue()


def heat(values: NDArray, top: float, side: int = SIDE) -> Image.Image:
    """Draw an (H, W) map in viridis, dark at 0, bright at `top` and above."""
    levels = np.clip(values * (255 / max(top, 1e-12)), 0, 255)
    small = Image.fromarray(levels.astype(np.float32))  # enlarge the numbers first, color them afterwards
    large = np.asarray(small.resize(_enlarged(values.shape, side), Image.Resampling.BILINEAR))
    return Image.fromarray(colour_table()[np.clip(large.round(), 0, 255).astype(np.uint8)])


def photo(image: NDArray, side: int = SIDE) -> Image.Image:
    """Enlarge an (H, W, 3) image, float in [0, 1] or uint8."""
    if image.dtype != np.uint8:
        image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(image).resize(_enlarged(image.shape[:2], side), Image.Resampling.BICUBIC)


def _enlarged(shape: tuple[int, int], side: int) -> tuple[int, int]:
    factor = side / max(shape)
    return round(shape[1] * factor), round(shape[0] * factor)


def draw_outlines(picture: Image.Image, values: NDArray, threshold: float, mask: NDArray) -> Image.Image:
    """Outline on a picture, in place, the (H, W) bool mask and the region where an (H, W) map reaches the threshold."""
    draw = ImageDraw.Draw(picture)
    scale = picture.width / values.shape[1]
    if mask.any():
        for line in border(mask.astype(np.float32), 0.5):
            _stroke(draw, line * scale, "white", dashed=False)
    if values.max() >= threshold:
        for line in border(values, threshold):
            _stroke(draw, line * scale, ORANGE, dashed=True)
    return picture


def border(values: NDArray, level: float) -> list[NDArray]:
    """Find the lines along which an (H, W) field passes `level`, closed at its edge.

    Each line is (n, 2), x right and y down, in pixels from the upper left corner.
    """
    low = min(float(values.min()), level) - 1e-3 * max(abs(level), 1.0)
    framed = np.pad(values, 1, constant_values=low)
    lines = cast(list[NDArray], contour_generator(z=framed).lines(level))  # its default line type
    return [line - 0.5 for line in lines]


def _stroke(draw: ImageDraw.ImageDraw, line: NDArray, colour: str, dashed: bool) -> None:
    """Draw a line with a dark halo, which keeps it visible on any image."""
    draw.line(line.ravel().tolist(), "black", 7, joint="curve")
    for part in dashes(line) if dashed else [line]:
        draw.line(part.ravel().tolist(), colour, 3, joint="curve")


def dashes(line: NDArray, length: float = DASH) -> Iterator[NDArray]:
    """Cut a line (n, 2) into pieces of `length` and return every other one."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start in np.arange(0, along[-1], 2 * length):
        end = min(start + length, along[-1])
        inside = along[(along > start) & (along < end)]
        at = np.concatenate([[start], inside, [end]])
        yield np.column_stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])])
