"""Take masks and anomaly maps at the size of each image file, as MVTec AD's own protocol does."""
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from rdlib.datasets.samples import AnomalyDataset, FileSample
from rdlib.images import header
from rdlib.masks import UNKNOWN
from rdlib.utils.errors import check_choice

SIZES = ("model", "original")


def check_at(at: str, dataset: Any) -> None:
    """Check the size that pixel metrics are computed at.

    Args:
        at: one of `SIZES`.
        dataset: the test set as an `AnomalyDataset`, or anything else.

    Raises:
        ValueError: `at` is unknown, or it is "original" and the test set has no mask files.
    """
    check_choice("at", at, SIZES)
    files = type(dataset) is AnomalyDataset and all(isinstance(sample, FileSample) for sample in dataset.samples)
    if at == "original" and not (files and dataset.has_masks):
        raise ValueError("at='original' needs mask files: the test set of a folder of images with masks, or a Subset "
                         "of it. Evaluate other data with at='model'. Load a report with Report.load(path, data.test).")


def at_original(dataset: AnomalyDataset, maps: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Read the masks of a test set at their files' own size, and resize the anomaly maps to it.

    Args:
        dataset: a test set of N image files, see `check_at`.
        maps: (N, h, w) anomaly maps, resized bilinearly, with pixel centers where those of the images lie.

    Returns:
        Masks, bool; maps, float32; and unknown pixels, bool: each (N, H, W), with the height of the highest image and
        the width of the widest. Smaller images lie in the top left corner, and pixels outside an image are unknown.

    Raises:
        DataError: a file cannot be read, or mask and image differ in size.
    """
    samples = [sample for sample in dataset.samples if isinstance(sample, FileSample)]
    sizes = [(found.height, found.width) for found in (header(sample.path) for sample in samples)]
    shape = len(sizes), *np.max(sizes, 0)
    masks, large, unknown = np.zeros(shape, bool), np.zeros(shape, np.float32), np.ones(shape, bool)
    for i, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        inside, codes = np.s_[i, :size[0], :size[1]], sample.load_mask(size, size).numpy()
        masks[inside], unknown[inside] = codes == 1, codes == UNKNOWN
        small = torch.from_numpy(np.ascontiguousarray(maps[i], np.float32))
        large[inside] = interpolate(small[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return masks, large, unknown
