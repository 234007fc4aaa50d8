"""Draw one image with the model's decision, for people who look through a folder of images."""
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from rdlib.figures.canvas import number
from rdlib.figures.picture import draw_outlines, enlarged, heat
from rdlib.threshold import Threshold
from rdlib.utils.arrays import as_array, as_finite

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
