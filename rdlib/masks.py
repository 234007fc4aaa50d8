"""Read masks: decide once, from all mask files of a data set, what their values mean."""
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdlib.images import Size, open_image, to_rgb
from rdlib.utils.arrays import numbered_regions
from rdlib.utils.errors import DataError

UNKNOWN = 2  # value of a pixel that may be normal or defect; 0 is normal, 1 defect
FEW = 32  # up to this number, values may be codes of defect types; the codes beside a void of 255 are smaller
ADVICE = "give mask_threshold= (--mask-threshold; threshold= of read_mask): values above it are defect"
BLOCK = np.ones((3, 3), dtype=bool)  # a pixel and its 8 neighbors


@dataclass(frozen=True)
class MaskRule:
    """How the values of a data set's mask files are read.

    Args:
        cut: values above it are defect.
        void: value of unknown pixels; -1: no pixel is unknown.
    """

    cut: float
    void: float = -1


def mask_rule(paths: Iterable[Path], threshold: float | None = None) -> MaskRule:
    """Decide what the values of all mask files of a data set mean. Each file is read once.

    Black and one other value are a mask. A few values are codes: all but 0 are defect, except 255 beside codes below
    32, which is unknown. Lossy files, soft edges and values close to both ends are cut at half of white. A few values
    are soft edges if only black and white fill areas, and if no region would be lost.

    Args:
        paths: the mask files.
        threshold: values above it are defect; None: decide by the values.

    Returns:
        The rule for `load_mask`.

    Raises:
        DataError: a file cannot be read, or the values have no clear meaning.
    """
    if threshold is not None:
        return MaskRule(threshold)
    pixels, places = Counter[float](), dict[float, Path]()
    whites, filling, whiter = set[float](), set[float](), dict[bool, Path]()  # a file with 255; True: and a small code
    clean, lossy, lost, faint, void = True, False, False, False, False
    for path in paths:
        values, full, color, soft = _values(path)
        values = np.round(values, 3)  # floats may differ in every pixel
        bright, numbers = np.unique(values[values > 0], return_counts=True)
        found = {0: values.size - int(numbers.sum())} | dict(zip(bright.tolist(), numbers.tolist(), strict=True))
        pixels.update(found)
        places = dict.fromkeys(found, path) | places
        whites, clean, lossy = whites | {full}, clean and not soft and not color, lossy or soft
        if 2 < len(found) <= FEW + 1:
            filling |= (areas := _filling(values))
            void = void or bool({255, 65535} & found.keys()) and any(0 < code < FEW for code in areas)
            faint = faint or _cut_loses(values, full, full / 17, 1)  # one pixel, shrunk to a quarter, has 1 / 16
        if {255, 65535} & found.keys():
            whiter[any(0 < code < FEW for code in found)] = path
        lost = lost or (_cut_loses(values, full, full / 8, BLOCK.size) if len(found) > 2 or soft else
                        0 < max(found) <= full / 2)
    codes, white = sorted(value for value in pixels if value), max(whites, default=0)
    low, middle, high = (sum(number for value, number in pixels.items() if start < value <= stop) for start, stop in
                         ((-1, white / 8), (white / 8, white * 7 / 8), (white * 7 / 8, white)))
    few, ends = len(codes) <= FEW, not middle and codes[1:] and codes[-2] > white * 7 / 8
    ramps = few and middle and codes[-1] == white and not faint and filling <= {0, white}
    if not codes or clean and len(codes) == 1 and (pixels[0] or codes[0] in (1, white)):
        return MaskRule(0)
    dark = pixels.most_common(1)[0][0] == 0
    if clean and codes[-1] in (255, 65535) and max(codes[:-1], default=FEW) < FEW:
        if void and dark and False not in whiter:
            return MaskRule(0, codes[-1])
    elif len(whites) == 1 and not lost and (
            ramps or (ends or lossy or not few) and high and middle <= min(low, 4 * high)):
        return MaskRule(white / 2)
    elif few and not lossy and dark:
        return MaskRule(0)
    raise DataError(_unclear(pixels, places, whiter if void else {}))


def _unclear(pixels: Counter[float], places: dict[float, Path], whiter: dict[bool, Path]) -> str:
    """Say why the values of masks are not decided: two files of `whiter` that differ, or the most frequent values."""
    if len(whiter) == 2:
        return (f"{whiter[True]} has white beside small codes, as unknown pixels have it, but {whiter[False]} has it "
                f"alone, as defects have it. Save all masks alike, or {ADVICE}.")
    shares = ", ".join(f"{value:g} ({number / pixels.total():.2%}, as in {places[value].name})"
                       for value, number in pixels.most_common(8) if number) + ", ..." * (len(pixels) > 8)
    return (f"The values of the masks in {places[max(pixels)].parent} have no clear meaning: {shares}. Save them black "
            f"and white, or {ADVICE}.")


def _values(path: Path) -> tuple[NDArray, float, bool, bool]:
    """Read the values of a mask file; transparent pixels are 0.

    Returns (h, w) gray levels, indices of a colored palette, or the brightest channel of colors; the value of white;
    whether the values are colors; and whether the file's compression changes values.
    """
    image = open_image(path)
    head = path.read_bytes()
    packed = "jpeg" in str(image.info.get("compression"))  # inside a TIFF
    lossy = packed or head.startswith(b"\xff\xd8") or head[8:12] == b"WEBP" and b"VP8L" not in head[:65536]
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip these to 8 bits
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0:
            raise DataError(f"The mask {path} has values that are negative, NaN or infinite. Save it again.")
        return values, 65535.0 if image.mode != "F" else 255.0 if values.max() > 1 else 1.0, False, lossy
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L")), 255.0, False, lossy
    channels = np.stack([np.asarray(channel) for channel in to_rgb(image, "black")])
    bright = channels.max(0)
    if image.mode in ("P", "PA") and np.ptp(np.reshape(image.getpalette() or [], (-1, 3)), axis=1).any():
        index = np.asarray(image.getchannel("P"))
        index = np.where(np.asarray(image.convert("RGBA").getchannel("A")), index, 0)
        if not (bright[index == 0].any() and (bright[index > 0] == 0).any()):  # else a later index is black
            return index, 255.0, False, lossy
    return bright, 255.0, bool((bright - channels.min(0)).max() > (FEW if lossy else 0)), lossy


def _filling(values: NDArray) -> set[float]:
    """Return the values of which a block of 3 x 3 pixels is full."""
    from scipy.ndimage import maximum_filter, minimum_filter  # slow to import, and training does not need it
    full = minimum_filter(values, len(BLOCK)) == maximum_filter(values, len(BLOCK))
    return set(np.unique(values[1:-1, 1:-1][full[1:-1, 1:-1]]).tolist())


def _cut_loses(values: NDArray, white: float, dark: float, least: int) -> bool:
    """Return whether a region of `least` or more pixels above `dark` lies wholly below half of white."""
    regions, count = numbered_regions(values > dark)
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    areas[np.unique(regions[values > white / 2])] = 0
    return bool((areas[1:] >= least).any())


def mask_codes(path: Path, rule: MaskRule) -> NDArray[np.uint8]:
    """Read a mask file by the rule of its data set: (h, w), 0 normal, 1 defect, 2 unknown."""
    values = _values(path)[0]
    codes = (values > rule.cut).astype(np.uint8)
    codes[values == rule.void] = UNKNOWN
    return codes


def _resized(marked: NDArray, size: Size) -> NDArray:
    """Resize a bool mask as the official code does: bilinear with antialiasing, from 0 and 255; above 0.5 is True."""
    image = Image.fromarray(marked.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image) > 127  # 127 / 255 < 0.5 < 128 / 255


def lost_defects(defect: NDArray, size: Size) -> tuple[int, tuple[NDArray, ...]]:
    """Find the regions of a mask that lose all pixels when it is resized as in `load_mask`.

    A region is kept if the center of one of its pixels lies in a pixel that the resized mask marks.

    Args:
        defect: (h, w) bool; a region is an 8-neighbor component.
        size: (H, W) of the resized mask, in pixels.

    Returns:
        The number of all regions; and rows and columns in the resized mask, one pair for each lost region: where the
        middle one of its pixels lies, in reading order.
    """
    regions, count = numbered_regions(defect)
    pixels = np.flatnonzero(regions)
    numbers = regions.ravel()[pixels]
    where = zip(np.unravel_index(pixels, defect.shape), size, defect.shape, strict=True)
    places = tuple((2 * place + 1) * new // (2 * old) for place, new, old in where)  # in the resized mask
    lost = np.setdiff1d(np.arange(1, count + 1), numbers[_resized(defect, size)[places]])
    ends = np.bincount(numbers, minlength=1).cumsum()  # where each region's pixels end, once they are sorted by region
    middles = np.argsort(numbers, kind="stable")[(ends[lost - 1] + ends[lost]) // 2]
    return count, tuple(place[middles] for place in places)


def load_mask(path: Path, size: Size, rule: MaskRule, keep_defects: bool = False) -> tuple[Tensor, Size]:
    """Read a mask by the rule of its data set and resize it, as the official code does.

    Defect pixels become white and all others black. The mask is resized bilinearly with antialiasing, and values above
    0.5 are defect. Unknown pixels are resized in the same way; defect comes first. At its own size a mask is unchanged.

    Args:
        path: the mask file.
        size: (H, W) of the result, in pixels.
        rule: what the values mean.
        keep_defects: keep at least one pixel of every region.

    Returns:
        The mask, (H, W) uint8: 0 normal, 1 defect, 2 unknown; and (height, width) of the file's mask.

    Raises:
        DataError: the file is missing or no readable image.
    """
    codes = mask_codes(path, rule)
    resized = np.where(_resized(codes == 1, size), 1, UNKNOWN * _resized(codes == UNKNOWN, size)).astype(np.uint8)
    if keep_defects:
        resized[lost_defects(codes == 1, size)[1]] = 1
    return torch.from_numpy(resized), codes.shape


def read_mask(path: Path, size: Size, threshold: float | None = None) -> tuple[Tensor, Size]:
    """Read a mask and resize it as in `load_mask`. Transparent pixels are normal.

    Args:
        path: the mask file.
        size: (H, W) of the result, in pixels.
        threshold: values above it are defect, in the file's units; None: decide by the values, see `mask_rule`.

    Returns:
        The mask, (H, W) bool, True = defect, and (height, width) of the file's mask.

    Raises:
        DataError: the file is missing or no readable image, or its values have no clear meaning or mark unknown pixels.
    """
    rule = mask_rule([path], threshold)
    if rule.void >= 0:
        raise DataError(f"The mask {path} marks unknown pixels with {rule.void:g}, which a yes or no cannot express. "
                        "Load it as part of a data set, or give threshold=: values above it are defect.")
    mask, own = load_mask(path, size, rule)
    return mask == 1, own
