"""Convert and check input: tensors of any device and dtype, scores, labels, masks, image sizes."""
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from rdlib.utils.errors import check_whole


def as_array(values: ArrayLike | Tensor, dtype: DTypeLike | None = None) -> NDArray:
    """Convert a number, list, array or tensor to a NumPy array. Floats of fewer than 32 bits become float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()  # NumPy has no bfloat16
        values = (values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values).numpy()
    elif isinstance(values, list | tuple):
        values = [as_array(v) if isinstance(v, Tensor | list | tuple) else v for v in values]
    values = np.asarray(values, dtype)
    if values.dtype == object:  # a column of a table may hold its numbers so
        values = np.asarray(values.tolist())
    return values.astype(np.float32) if values.dtype == np.float16 else values


def as_finite(values: ArrayLike | Tensor, what: str) -> NDArray:
    """Convert numbers to an array, see `as_array`. Raises ValueError, naming `what`, unless they are finite numbers."""
    values = as_array(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"The {what} must be numbers, got {values.dtype}. Convert them first.")
    if not np.isfinite(values).all():
        raise ValueError(f"The {what} hold NaN or infinity. Training has probably diverged: see the loss curve.")
    return values


def as_truth(values: ArrayLike | Tensor) -> NDArray[np.bool_]:
    """Convert labels (N,) or masks (..., H, W) to bool, True = anomalous.

    Labels and masks are bool or contain only 0 and 1. Masks may also contain 0 and 255. Raises ValueError, with the
    values found, for other values.
    """
    values = as_array(values)
    if values.dtype == bool:
        return values
    numbers = values.dtype.kind in "iuf"
    high = 255 if numbers and values.ndim > 1 and (values == 255).any() else 1
    if not numbers or not ((values == 0) | (values == high)).all():
        found = [*map(str, np.unique(values))] if numbers else sorted({repr(x) for x in values.ravel().tolist()})
        rule = ("Labels are 0 (normal) and 1 (anomalous), or bool, and come before the scores" if values.ndim < 2 else
                "Masks are bool, or contain 0 and 1, or 0 and 255; threshold them first, such as mask > 127")
        raise ValueError(f"{rule}. Found {', '.join(found[:6])}{', ...' * (len(found) > 6)}.")
    return values == high


def as_size(size: int | Sequence[int]) -> tuple[int, int]:
    """Convert the side of a square, or (height, width), in pixels to (height, width). Raises ValueError for others."""
    sides = np.atleast_1d(np.asarray(size)).tolist()
    if len(sides) > 2:
        raise ValueError(f"size is the side of a square, or (height, width), in pixels; got {size!r:.60}.")
    return check_whole("size", sides[0], 1), check_whole("size", sides[-1], 1)


def numbered_regions(mask: NDArray) -> tuple[NDArray, int]:
    """Number the regions of a bool mask, its 8-neighbor components: (h, w) int32, 0 outside; and their number."""
    from scipy.ndimage import label  # here: slow to import, and few callers need it
    return label(mask, np.ones((3, 3)))
