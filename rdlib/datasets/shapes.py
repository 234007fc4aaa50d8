"""Compare the shape of images with the size that they are resized to."""
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from statistics import median_high, median_low
from typing import Literal

from rdlib.images import header
from rdlib.utils.errors import DataError

Size = int | tuple[int, int] | Literal["fit"]  # side of a square, (H, W), or the size that fits the images' shape

AREA = 256 * 256  # pixels of the size in the official protocol
LIMIT = 1.6  # images squeezed by more than this factor are warned about
MIXED = 1 / 3  # shapes differ if more than this share of the images is that far from the median shape
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
    ratio, given, fit = _ratio(sizes), size[1] / size[0], fitting_size(sizes, math.prod(size))
    ratios = [width / height for height, width in sizes]
    squeezed, apart = ([max(one / other, other / one) > LIMIT for one in ratios] for other in (given, ratio))
    lost = f"size {size[0]} x {size[1]} squeezes"
    if sum(apart) > MIXED * len(sizes):
        return [f"shapes of images differ, from {min(ratios):.1f} to {max(ratios):.1f} times as wide as high: {lost} "
                f"{sum(squeezed)} of {len(sizes)}, and no size fits all. Train on images of one shape"]
    if not sizes or max(ratio / given, given / ratio) <= LIMIT:
        return []
    wide, high = ("wide", "high") if ratio >= 1 else ("high", "wide")
    advice = f"size={fit} keeps their shape at about the same cost" if fit != size else "Only a larger size fits better"
    return [f"images are {max(ratio, 1 / ratio):.1f} times as {wide} as {high}, and {lost} them: small defects get "
            f"lost. {advice}"]


def _ratio(sizes: Sequence[tuple[int, int]]) -> float:
    """Return the median of width / height; of two middle ones, the geometric mean."""
    ratios = [width / height for height, width in sizes] or [1.0]
    return math.sqrt(median_low(ratios) * median_high(ratios))
