"""Convert and check input: tensors of any device and dtype, scores, labels, masks, image sizes."""
from collections.abc import Sequence
from hashlib import sha256
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from rdlib.utils.errors import plain

MOST_SIDE = 8192  # in pixels: a size in a file must not ask for all memory
LARGEST = 2**53  # up to which float64 has all whole numbers


def as_array(values: ArrayLike | Tensor, dtype: DTypeLike | None = None) -> NDArray:
    """Convert a number, list, array or tensor to a NumPy array. Floats of fewer than 32 bits become float32.

    Raises ValueError for an array with masked values.
    """
    if np.ma.is_masked(values):
        raise ValueError("An array has masked values, which cannot be left out. Select the others first: x[~x.mask].")
    if isinstance(values, Tensor):
        values = values.detach().cpu()  # NumPy has no bfloat16
        values = (values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values).numpy()
    elif isinstance(values, list | tuple):
        values = [as_array(v) if isinstance(v, Tensor | list | tuple | np.ma.MaskedArray) else v for v in values]
    values = np.asarray(values, dtype)
    if values.dtype == object:  # a column of a table may hold its numbers so
        values = np.asarray(values.tolist())
    return values.astype(np.float32) if values.dtype == np.float16 else values


def as_finite(values: ArrayLike | Tensor, what: str) -> NDArray:
    """Convert numbers to an array, see `as_array`. Raises ValueError, naming `what`, unless they are finite numbers."""
    values = as_array(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"The {what} must be numbers, got {values.dtype}. Convert them first.")
    if values.dtype.kind in "iu" and ((values > LARGEST) | (values < -LARGEST)).any():
        raise ValueError(f"The {what} hold whole numbers beyond {LARGEST}, which floats cannot tell apart. Scale them.")
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
    """Convert the side of a square, or (height, width), in pixels to (height, width).

    Raises ValueError unless they are whole numbers from 1 to `MOST_SIDE`.
    """
    size = plain(size)
    several = isinstance(size, Sequence | np.ndarray) and not isinstance(size, bytes | bytearray | memoryview)
    sides: list = [*size] if several else [size, size]  # type: ignore[misc]
    if len(sides) != 2 or not all(isinstance(side, Integral) and not isinstance(side, bool)
                                  and 0 < int(side) <= MOST_SIDE for side in sides):
        raise ValueError("A size is (height, width) or the side of a square in pixels, whole numbers from 1 to "
                         f"{MOST_SIDE}; got {size!r:.60}.")
    return int(sides[0]), int(sides[1])


def numbered_regions(mask: NDArray) -> tuple[NDArray, int]:
    """Number the regions of a bool mask, its 8-neighbor components: (h, w) int32, 0 outside; and their number."""
    from scipy.ndimage import label  # here: slow to import, and few callers need it
    return label(mask, np.ones((3, 3)))


def digest(content: object) -> str:
    """Compute the SHA-256, in hexadecimal, of nested dicts and lists of tensors, arrays, numbers, strings and None.

    Content of the same values, shapes and dtypes has the same digest. The order of a dict's keys, the memory layout and
    the device do not matter. Raises TypeError for objects of other types.
    """
    if isinstance(content, np.ndarray | np.generic):  # torch takes no foreign byte order and no negative strides
        content = torch.from_numpy(np.array(content, content.dtype.newbyteorder("="), order="C", ndmin=1))
    if isinstance(content, Tensor):
        total = sha256(f"{content.dtype} {tuple(content.shape)}".encode())
        total.update(content.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)  # NumPy has no bfloat16
        return total.hexdigest()
    if isinstance(content, dict):
        content = "dict", *sorted((repr(key), digest(value)) for key, value in content.items())
    elif isinstance(content, list | tuple):
        content = "list", *map(digest, content)
    elif not isinstance(content, str | bytes | int | float | None):
        raise TypeError(f"A {type(content).__name__} has no digest. Keep numbers, strings, lists, dicts or tensors.")
    return sha256(f"{type(content).__name__} {content!r}".encode()).hexdigest()
