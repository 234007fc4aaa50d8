"""Compute anomaly maps and scores from features: distance (eq. 1), upsampling, fusion, smoothing, maximum.

Everything here, the smoothing included, runs in batches on the device of the features.
"""
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from rdlib.utils.errors import NotFiniteError, check_choice, checked

FUSIONS = ("add", "multiply")
SCORES = ("max", "sum")
SCALES = (1, 2, 3)  # fine, middle, coarse


def checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """Sort chosen scales, fine to coarse. Raises ValueError unless they are some of 1, 2 and 3, each at most once."""
    chosen = tuple(sorted(scales)) if isinstance(scales, Iterable) and not isinstance(scales, str) else ()
    if not chosen or not set(chosen) <= set(SCALES) or len(set(chosen)) < len(chosen):
        raise ValueError("scales must be some of 1 (fine), 2 and 3 (coarse), each once, such as (2, 3); got "
                         f"{scales!r:.60}.")
    return tuple(map(int, chosen))  # NumPy's integers cannot be written as JSON


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Compute eq. 1, M(h, w) = 1 - cos(t(h, w), s(h, w)), over the channels.

    Args:
        teacher: (B, C, H, W) features, floating point.
        student: features of the same shape and dtype.

    Returns:
        (B, H, W) distances in [0, 2], in the dtype of the features.
    """
    return 1 - cosine_similarity(teacher, student, dim=1)


def scale_maps(teacher: Sequence[Tensor], student: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Compute eq. 1 at every scale and resize the distances to `size`.

    Resizing is bilinear with align_corners=True, as in the official code: corner values stay at the corners.

    Args:
        teacher: S feature maps, the k-th (B, C_k, H_k, W_k), floating point.
        student: S feature maps of the same shapes and dtype.
        size: (H, W) of the result, in pixels.

    Returns:
        (B, S, H, W) distances in [0, 2], in the dtype of the features.

    Raises:
        ValueError: the numbers of scales differ.
    """
    maps = [interpolate(cosine_distance(t, s)[:, None], size, mode="bilinear", align_corners=True)
            for t, s in zip(teacher, student, strict=True)]
    return torch.cat(maps, dim=1)


def fuse(maps: Tensor, fusion: str = "add", scales: Sequence[int] = SCALES) -> Tensor:
    """Join the maps of the scales: (..., 3, H, W) -> (..., H, W).

    Args:
        maps: the distances of the three scales, floating point.
        fusion: "add", the sum (paper, official code), or "multiply", the product (once used by anomalib).
        scales: the scales to join, some of 1 (fine), 2 and 3 (coarse), each once.

    Returns:
        (..., H, W) joined maps, in the dtype of `maps`.

    Raises:
        ValueError: unknown fusion.
    """
    check_choice("fusion", fusion, FUSIONS)
    if checked_scales(scales) != SCALES:
        maps = maps[..., [scale - 1 for scale in scales], :, :]
    return maps.sum(-3) if fusion == "add" else maps.prod(-3)


@checked
def gaussian_smooth(maps: Tensor, sigma: float = 4.0) -> Tensor:
    """Blur maps with a Gaussian.

    The result equals that of scipy.ndimage.gaussian_filter in the official code. The kernel is cut at 4 sigma, and the
    map is mirrored at its border. A blur along an axis is linear, so each axis takes one matrix product.

    Args:
        maps: (B, H, W), floating point.
        sigma: standard deviation in pixels, in [0, 256]; 0 changes nothing.

    Returns:
        Blurred maps of the same shape, dtype and device.

    Raises:
        ValueError: another sigma, or maps of another shape or dtype.
    """
    if maps.ndim < 2 or not maps.is_floating_point():
        raise ValueError(f"Maps must be (B, H, W), floating point; got {tuple(maps.shape)} {maps.dtype}.")
    if sigma == 0:
        return maps
    rows, columns = (blur_matrix(n, float(sigma)).to(maps.dtype).to(maps.device) for n in maps.shape[-2:])
    with torch.autocast(maps.device.type, enabled=False):  # it would make the products bfloat16
        return rows @ maps @ columns.T


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # the cached matrix is also used outside inference mode
def blur_matrix(n: int, sigma: float) -> Tensor:
    """Compute the matrix that blurs a line of pixels. Row i contains the Gaussian weights of pixel i.

    Column j is a line that is 1 at pixel j and else 0, blurred by scipy. Weights outside the line are mirrored at its
    ends, as often as the kernel needs: d c b a | a b c d | d c b a.

    Args:
        n: number of pixels, 1 or more.
        sigma: standard deviation in pixels, above 0.

    Returns:
        (n, n) float64; every row sums to 1.
    """
    return torch.from_numpy(gaussian_filter1d(np.eye(n), sigma, axis=0))


def image_score(maps: Tensor, score: str = "max") -> Tensor:
    """Compute the image scores from smoothed maps.

    "max" (paper) responds to a defect of any size. "sum" suits images that are anomalous as a whole, as in one-class
    novelty detection (official test.py:384-423).

    Args:
        maps: (B, H, W), floating point.
        score: "max" or "sum" of a map.

    Returns:
        (B,) scores in the dtype of the maps; higher is more anomalous.

    Raises:
        ValueError: unknown score.
    """
    check_choice("score", score, SCORES)
    return maps.amax(dim=(-2, -1)) if score == "max" else maps.sum(dim=(-2, -1))


def check_finite(maps: Tensor, scores: Tensor | None = None) -> None:
    """Check that maps and scores contain no NaN or infinity.

    Args:
        maps: (B, ...), floating point.
        scores: (B,), floating point, or None.

    Raises:
        NotFiniteError: an image has NaN or infinity; the error gives the indices of such images.
    """
    finite = maps.flatten(1).isfinite().all(1)
    finite = finite if scores is None else finite & scores.isfinite()
    if not finite.all():
        raise NotFiniteError((~finite).nonzero().flatten().tolist())
