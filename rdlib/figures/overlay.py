"""A picture that says of one image what the model says: for a person who goes through a folder of them."""
import matplotlib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from rdlib.figures.canvas import ORANGE, number
from rdlib.threshold import Threshold
from rdlib.utils.arrays import as_finite

SIDES = 320, 1024  # pixels; the longer side is brought into this range, so that words fit and files stay small
FONT, GAP = 20, 8  # of the words, at least: a sixteenth of a wide picture; width of the gap between the two pictures


def overlay_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which an image of that size is drawn: in proportion, the longer side 320 to 1024 pixels."""
    scale = float(np.clip(max(height, width), *SIDES)) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(image: NDArray, values: ArrayLike, score: float, threshold: Threshold | None) -> Image.Image:
    """The image with the outline of where its map reaches the pixel threshold, beside it the map, above it the verdict.

    A cross marks the highest value, also where nothing reaches the threshold. The map's colours run from 0 to twice the
    pixel threshold, so that they mean the same in every picture; without a threshold, to the map's own maximum.

    Args:
        image: (h, w, 3) uint8 RGB.
        values: (H, W) anomaly map of any size, an array or tensor.
        score: the image's.
        threshold: the model's, or None.

    Returns:
        An RGB picture of about twice the image's width.

    Raises ValueError for a map or score that is NaN or infinite.
    """
    height, width = image.shape[:2]
    values, score = as_finite(values, "map's values").astype(np.float32), float(as_finite(score, "scores"))
    values = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
    top = 2 * threshold.pixel if threshold else max(float(values.max()), 1e-12)
    colours = (matplotlib.colormaps["viridis"](np.clip(values / top, 0, 1))[..., :3] * 255).astype(np.uint8)
    words = f"score {number(score)}"
    if threshold:
        image = _outlined(image, values >= threshold.pixel)
        verdict = "ANOMALOUS" if score >= threshold.score else "good"
        words = f"{verdict}: {words}, threshold {number(threshold.score)}"
    letters = max(FONT, width // 16)
    font, strip = ImageFont.load_default(letters), letters * 8 // 5
    canvas = Image.new("RGB", (max(2 * width + GAP, int(font.getlength(words)) + 8), height + strip), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((4, letters // 5), words, fill="black", font=font)
    row, column = np.unravel_index(values.argmax(), values.shape)
    for left, part in ((0, image), (width + GAP, colours)):
        canvas.paste(Image.fromarray(part), (left, strip))
        _cross(draw, left + int(column), strip + int(row))
    return canvas


def _outlined(image: NDArray, region: NDArray) -> NDArray:
    """Orange on black along the inner border of a region, which is closed at the image's edge."""
    line = region & ~binary_erosion(region, iterations=2)
    image = image.copy()
    image[binary_dilation(line)] = 0
    image[line] = [int(ORANGE[i:i + 2], 16) for i in (1, 3, 5)]
    return image


def _cross(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for colour, thick in (("black", 4), ("white", 2)):
        draw.line([(x - 7, y), (x + 7, y)], fill=colour, width=thick)
        draw.line([(x, y - 7), (x, y + 7)], fill=colour, width=thick)
