"""Look at the masks of a test set for what a user must know before reading pixel metrics."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rdlib.datasets.samples import GOOD, FileSample
from rdlib.images import header
from rdlib.masks import UNKNOWN, lost_defects, mask_codes, mask_rule
from rdlib.utils.errors import shown

HALF, NEARLY_ALL = 0.5, 0.9  # share of an image that a mask covers, and of the masks or the border covered so much
FAR = 4  # times more than most masks cover


class Outline(NamedTuple):
    """What is seen in the mask of an image, or in the masks of its parts together."""

    name: str  # of the image
    area: float  # share of the image that is not normal
    border: float  # share of the image's border that is not normal
    unknown: float  # share of the image
    regions: float  # their number
    lost: float  # number of regions without a pixel once resized
    turned: bool  # by EXIF, other than the image


def outline_notes(samples: Iterable[FileSample], size: tuple[int, int], keep_defects: bool = False) -> list[str]:
    """Describe what is unusual about the masks of a test set, with numbers and two names each.

    Args:
        samples: the test images; good ones are not looked at.
        size: (H, W) that masks are resized to, in pixels.
        keep_defects: whether every region keeps at least one pixel.

    Returns:
        One text for each finding: masks that are missing, all black, inverted, in part unknown, or not turned as their
        images are, and defects that vanish at `size`. Empty if no image has a mask.

    Raises:
        DataError: a file cannot be read.
    """
    bad = [sample for sample in samples if sample.defect != GOOD]
    if not (seen := [_look(sample, size) for sample in bad if sample.masks]):
        return []
    large = [one for one in seen if one.area > HALF]
    usual = float(np.median([one.area for one in seen if one.area <= HALF] or [HALF]))
    inverted = large if len(large) >= NEARLY_ALL * len(seen) else []
    odd = [one for one in large if not inverted and one.area < 1 and one.border > NEARLY_ALL and one.area > FAR * usual]
    void, vanish = [one for one in seen if one.unknown], [one for one in seen if one.lost and not keep_defects]
    covered = (f"{np.mean([one.area for one in odd] or [0]):.0%} of the image, where most others cover about "
               f"{usual:.2%}")
    found: list[tuple[Sequence[FileSample | Outline], str, str]] = [
        ([sample for sample in bad if not sample.masks], "without a mask", "their pixels are unknown, and pixel "
         "metrics leave them out"),
        ([one for one in seen if not one.area], "with an all-black mask", "their pixels count as normal. Remove the "
         "files if they are unknown"),
        (inverted, "with a mask that covers more than half of the image", "white marks defects. Invert the masks?"),
        (odd, f"with a mask that covers {covered}", "inverted? White marks defects"),
        (void, "whose mask marks unknown pixels", f"{np.mean([one.unknown for one in void] or [0]):.1%} of their "
         "pixels are left out of pixel metrics"),
        ([one for one in seen if one.turned], "where image and mask differ in EXIF's rotation", "the mask may mark "
         "other pixels. Save both upright"),
        (vanish, f"that lose defects at {size[0]} x {size[1]} pixels", f"{sum(one.lost for one in vanish):.0f} of "
         f"{sum(one.regions for one in seen):.0f} outlined regions have no pixel left. Choose a larger size, or "
         "keep_defects=True (--keep-defects)")]
    return [f"{len(some)} of {len(bad)} defective images {what} ({shown(one.name for one in some)}): {words}"
            for some, what, words in found if some]


def _look(sample: FileSample, size: tuple[int, int]) -> Outline:
    """Look at the mask of an image, as it is at its own size and at `size`."""
    image, rule, looked = header(sample.path), sample.rule or mask_rule(sample.masks), []
    for path in sample.masks:
        codes = mask_codes(path, rule)
        border = np.concatenate([codes[[0, -1]].ravel(), codes[:, [0, -1]].ravel()])
        regions, places = lost_defects(codes == 1, size)
        looked.append(((codes > 0).mean(), (border > 0).mean(), (codes == UNKNOWN).mean(), regions, len(places[0])))
    fits = image.orientation > 4 and image.height != image.width and codes.shape == (image.height, image.width)
    turned = not fits and image.orientation != header(path).orientation
    area, edge, unknown, regions, lost = np.sum(looked, 0).tolist()
    return Outline(sample.name, area, edge, unknown, regions, lost, turned)
