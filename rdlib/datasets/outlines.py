"""Look at the masks of a test set for what a user must know before reading pixel metrics."""
from collections.abc import Iterable

from rdlib.datasets.samples import GOOD, FileSample
from rdlib.images import header
from rdlib.masks import lost_defects, mask_codes, mask_rule

HALF, NEARLY_ALL = 0.5, 0.9  # share of an image that a mask covers, and of the masks that cover so much


def outline_notes(samples: Iterable[FileSample], size: tuple[int, int], keep_defects: bool = False) -> list[str]:
    """Describe what is unusual about the masks of a test set, with numbers and two names each.

    Args:
        samples: the test images; good ones are not looked at.
        size: (H, W) that masks are resized to, in pixels.
        keep_defects: whether every region keeps at least one pixel.

    Returns:
        One text for each finding: masks that are missing, all black, inverted, or not turned as their images are, and
        defects that vanish at `size`. Empty if no image has a mask.

    Raises:
        DataError: a file cannot be read.
    """
    bad = [sample for sample in samples if sample.defect != GOOD]
    masked = [sample for sample in bad if sample.masks]
    missing, black, large, turned, small = ([sample.name for sample in bad if not sample.masks], *([], [], [], []))
    regions = lost = 0
    for sample in masked:
        image, rule, area, before = header(sample.path), sample.rule or mask_rule(sample.masks), 0.0, lost
        for path in sample.masks:
            codes = mask_codes(path, rule)
            area += float((codes > 0).mean())
            number, places = lost_defects(codes == 1, size)
            regions, lost = regions + number, lost + len(places[0])
        black += [sample.name] * (area == 0)
        large += [sample.name] * (area > HALF)
        small += [sample.name] * (lost > before)
        fits = image.orientation > 4 and image.height != image.width and codes.shape == (image.height, image.width)
        turned += [sample.name] * (not fits and image.orientation != header(path).orientation)
    inverted = large if len(large) >= NEARLY_ALL * len(masked) else []
    found = [
        (missing, "without a mask", "their pixels are unknown, and pixel metrics leave them out"),
        (black, "with an all-black mask", "their pixels count as normal. Remove the files if they are unknown"),
        (inverted, "with a mask that covers more than half of the image", "white marks defects. Invert the masks?"),
        (turned, "turned by EXIF while the mask is not", "the masks may mark other pixels. Save both upright"),
        ([] if keep_defects else small, f"that lose defects at {size[0]} x {size[1]} pixels", f"{lost} of {regions} "
         "outlined regions have no pixel left. Choose a larger size, or keep_defects=True")]
    return [f"{len(names)} of {len(bad)} defective images {what} ({', '.join(names[:2])}{', ...' * (len(names) > 2)}): "
            f"{words}" for names, what, words in found if names and masked]
