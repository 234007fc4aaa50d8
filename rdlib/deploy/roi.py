"""Read a region of interest, which a user gives as a box or as a mask image."""
import re
from pathlib import Path

import torch
from torch import Tensor

from rdlib.datasets.samples import AnomalyDataset
from rdlib.images import header
from rdlib.masks import read_mask
from rdlib.utils.errors import DataError


def read_roi(text: str, dataset: AnomalyDataset) -> Tensor:
    """Read a region of interest in the pixels of the image files, and resize it to the size of the data set.

    Args:
        text: "X0,Y0,X1,Y1", a box that ends before X1 and Y1; or the path of a mask image, white inside.
        dataset: images that the region belongs to, all of one size as files.

    Returns:
        (H, W) bool, True inside.

    Raises:
        DataError: the images differ in size, or the mask cannot be read or has another size.
        ValueError: the box does not lie in the images, no pixel is inside, or the text is neither a box nor a file.
    """
    sizes = {header(sample.path)[:2] for sample in dataset.samples if hasattr(sample, "path")} or {dataset.size}
    if len(sizes) > 1:
        raise DataError(f"A region needs images of one size; these have {len(sizes)}. Leave --roi out, or cut them.")
    (height, width), = sizes
    if re.fullmatch(r"-?\d+(,-?\d+){3}", text):
        x0, y0, x1, y1 = map(int, text.split(","))
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"The box {text} is not in {width} x {height} pixels; all is --roi 0,0,{width},{height}.")
        y, x = ((torch.arange(n) + 0.5) * side / n for n, side in zip(dataset.size, (height, width), strict=True))
        roi = ((y0 <= y) & (y < y1))[:, None] & ((x0 <= x) & (x < x1))
    elif not Path(text).is_file():
        raise ValueError(f"--roi {text} is neither X0,Y0,X1,Y1 in whole pixels nor the file of a mask. Check it.")
    else:
        roi, size = read_mask(Path(text), dataset.size)
        if size != (height, width):
            raise DataError(f"The mask {text} has {size[1]} x {size[0]} pixels, the images {width} x {height}.")
    if not roi.any():
        raise ValueError(f"--roi {text} holds no pixel at the model's size. Give a larger region, or a larger --size.")
    return roi
