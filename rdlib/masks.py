"""Read masks: decide once, from all mask files of a data set, what their values mean."""
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rdlib.images import open_image, to_rgb

UNKNOWN = 2  # value of a mask's pixel that may be normal or defect; 0 is normal, 1 defect


@dataclass(frozen=True)
class MaskRule:
    """How the values of a data set's mask files become 0 normal, 1 defect, 2 unknown."""

    threshold: float | None = None


def mask_rule(paths: Iterable[Path], threshold: float | None = None) -> MaskRule:
    """Decide what the values of all mask files of a data set mean."""
    return MaskRule(threshold)


def load_mask(path: Path, size: tuple[int, int], rule: MaskRule,
              keep_defects: bool = False) -> tuple[Tensor, tuple[int, int]]:
    """Read a mask by the rule of its data set and resize it with the nearest neighbor."""
    image = open_image(path)
    deep = image.mode.startswith("I") or image.mode == "F"  # 16-bit or float: Pillow would clip these to 8 bits
    values = np.asarray(image if deep else Image.merge("RGB", to_rgb(image, "black")).convert("L"), dtype=np.float64)
    foreground = (values > (values.max() / 2 if rule.threshold is None else rule.threshold)).astype(np.uint8)
    resized = Image.fromarray(foreground).resize(size[::-1], Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized)), (image.height, image.width)


def read_mask(path: Path, size: tuple[int, int], threshold: float | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Read a mask and resize it with the nearest neighbor. Transparent pixels are normal.

    Args:
        path: the mask file.
        size: (H, W) of the result, in pixels.
        threshold: values above it are defect, in the file's units; None: decide by the values, see `mask_rule`.

    Returns:
        The mask, (H, W) bool, True = defect, and (height, width) of the file's mask.

    Raises:
        DataError: the file is missing or no readable image.
    """
    mask, own = load_mask(path, size, mask_rule([path], threshold))
    return mask == 1, own
