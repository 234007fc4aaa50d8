"""Compare the shape of images with the size that they are resized to."""
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal

from rdlib.images import header
from rdlib.utils.errors import DataError

Size = int | tuple[int, int] | Literal["fit"]  # side of a square, (H, W), or the size that fits the images' shape

AREA = 256 * 256  # pixels of the size in the official protocol
LIMIT = 1.6  # images squeezed by more than this factor are warned about
SAMPLE = 100  # images whose headers are read


def sizes_of(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Read (H, W) of about `SAMPLE` images from their headers. An unreadable one is left for when it is loaded."""
    sizes = []
    for path in paths[::len(paths) // SAMPLE + 1]:
        with suppress(DataError):
            sizes.append(header(path)[:2])
    return sizes


def fitting_size(sizes: Sequence[tuple[int, int]], area: int = AREA) -> tuple[int, int]:
    """Choose the size, in multiples of 32, that is nearest to the median side ratio and to a number of pixels.

    Args:
        sizes: (H, W) of images, in pixels.
        area: number of pixels that the result is to have, about.

    Returns:
        (H, W) in pixels; a square if no sizes are given.
    """
    ratio, sides = _ratio(sizes), range(32, max(area // 32, 32) + 1, 32)
    return min(product(sides, sides), key=lambda size: (
        round(abs(math.log(size[1] / size[0] / ratio)) + abs(math.log(size[0] * size[1] / area)), 6), math.prod(size)))


def shape_notes(sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> list[str]:
    """Say if a size squeezes images, and which size does not."""
    ratio, given = _ratio(sizes), size[1] / size[0]
    if not sizes or max(ratio / given, given / ratio) <= LIMIT:
        return []
    wide, high = ("wide", "high") if ratio >= 1 else ("high", "wide")
    return [f"images are {max(ratio, 1 / ratio):.1f} times as {wide} as {high}, and size {size[0]} x {size[1]} "
            f"squeezes them: small defects get lost. size={fitting_size(sizes, math.prod(size))} keeps their shape at "
            "about the same cost"]


def _ratio(sizes: Sequence[tuple[int, int]]) -> float:
    """Return the median of width / height."""
    return median(width / height for height, width in sizes) if sizes else 1.0
