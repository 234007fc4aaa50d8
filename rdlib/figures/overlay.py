"""Draw one image with the model's verdict, for a person who looks through a folder of images."""
import matplotlib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from rdlib.figures.canvas import ORANGE, number
from rdlib.synthetic.paint import hex_to_rgb
from rdlib.threshold import Threshold
from rdlib.utils.arrays import as_finite

SIDES = 320, 1024  # pixels; range of the longer side, so that words fit and files stay small
FONT, GAP = 20, 8  # pixels: smallest height of the letters, width of the gap between image and map


def overlay_size(height: int, width: int) -> tuple[int, int]:
    """Compute the (height, width) at which `overlay` draws an image: in proportion, longer side 320 to 1024 pixels."""
    scale = float(np.clip(max(height, width), *SIDES)) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(image: NDArray, values: ArrayLike, score: float, threshold: Threshold | None) -> Image.Image:
    """Draw an image with its thresholded map outlined, its anomaly map beside it, and the verdict above.

    A cross marks the map's highest value. The colours run from 0 to twice the pixel threshold, so that they mean the
    same for every image; without a threshold they run to the map's maximum.

    Args:
        image: (h, w, 3) uint8 RGB.
        values: (H, W) anomaly map of any size, an array or tensor.
        score: image score.
        threshold: of scores and pixels, or None.

    Returns:
        An RGB image of about twice the image's width.

    Raises:
        ValueError: the map or the score holds NaN or infinity.
    """
    height, width = image.shape[:2]
    small, score = as_finite(values, "map's values").astype(np.float32), float(as_finite(score, "scores"))
    heat = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
    top = 2 * threshold.pixel if threshold else max(float(heat.max()), 1e-12)
    colours = (matplotlib.colormaps["viridis"](np.clip(heat / top, 0, 1))[..., :3] * 255).astype(np.uint8)
    words = f"score {number(score)}"
    if threshold:
        image = _outlined(image, heat >= threshold.pixel)
        verdict = "ANOMALOUS" if score >= threshold.score else "good"
        words = f"{verdict}: {words}, threshold {number(threshold.score)}"
    letters = max(FONT, width // 16)
    font, strip = ImageFont.load_default(letters), letters * 8 // 5
    canvas = Image.new("RGB", (max(2 * width + GAP, int(font.getlength(words)) + 8), height + strip), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((4, letters // 5), words, fill="black", font=font)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    for left, part in ((0, image), (width + GAP, colours)):
        canvas.paste(Image.fromarray(part), (left, strip))
        _cross(draw, left + int(column), strip + int(row))
    return canvas


def _outlined(image: NDArray, region: NDArray) -> NDArray:
    """Draw the inner border of a region in orange on black, closed at the image's edge."""
    line = region & ~binary_erosion(region, iterations=2)
    image = image.copy()
    image[binary_dilation(line)] = 0
    image[line] = hex_to_rgb(ORANGE)
    return image


def _cross(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for colour, thick in (("black", 4), ("white", 2)):
        draw.line([(x - 7, y), (x + 7, y)], fill=colour, width=thick)
        draw.line([(x, y - 7), (x, y + 7)], fill=colour, width=thick)
