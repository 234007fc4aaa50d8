"""From feature pairs to a heatmap and a score (paper eq. 1, §3.4): distance, upsampling, fusion, smoothing, maximum.

Everything here runs in batches on the device where the features are, the smoothing included.
"""
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from rdlib.utils.errors import NotFiniteError

FUSIONS = ("add", "multiply")
SCORES = ("max", "sum")
SCALES = (1, 2, 3)  # f1, f2, f3: fine, middle, coarse


def checked_scales(scales: Sequence[int]) -> tuple[int, ...]:
    """A choice of scales, fine to coarse. Raises ValueError unless they are some of 1, 2 and 3, each at most once."""
    chosen = tuple(sorted(scales))
    if not chosen or not set(chosen) <= set(SCALES) or len(set(chosen)) < len(chosen):
        raise ValueError(f"scales must be some of 1 (fine), 2 and 3 (coarse), each once, such as (2, 3); got {scales}.")
    return tuple(map(int, chosen))  # NumPy's integers cannot be saved


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 1: M(h, w) = 1 - cos(t(h, w), s(h, w)) over channels. Two (B, C, H, W) -> (B, H, W) in [0, 2]."""
    return 1 - cosine_similarity(teacher, student, dim=1)


def scale_maps(teacher: Sequence[Tensor], student: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Eq. 1 at every scale, brought to the image's size: S pairs (B, C_k, H_k, W_k) -> (B, S, H, W) in [0, 2].

    Bilinear with align_corners=True, as in the official code: corner values stay at the corners.
    """
    maps = [interpolate(cosine_distance(t, s)[:, None], size, mode="bilinear", align_corners=True)
            for t, s in zip(teacher, student, strict=True)]
    return torch.cat(maps, dim=1)


def fuse(maps: Tensor, fusion: str = "add", scales: Sequence[int] = SCALES) -> Tensor:
    """Join the scales: (B, 3, H, W) -> (B, H, W), the sum (paper, official code) or the product (anomalib, once).

    `scales` chooses which maps are joined. Raises ValueError for another word than "add" or "multiply".
    """
    if fusion not in FUSIONS:
        raise ValueError(f"There is no fusion '{fusion}'. Choose one of: {', '.join(FUSIONS)}.")
    if tuple(scales) != SCALES:
        maps = maps[:, [scale - 1 for scale in scales]]
    return maps.sum(1) if fusion == "add" else maps.prod(1)


def gaussian_smooth(maps: Tensor, sigma: float = 4.0) -> Tensor:
    """Blur (B, H, W) maps with a Gaussian of `sigma` pixels; 0 leaves them as they are. Same shape, dtype, device.

    The result is scipy.ndimage.gaussian_filter's, which the official code calls: kernel cut at 4 sigma, edge pixel
    repeated at the border. A blur along an axis is linear, so it is one matrix product per axis.

    Raises ValueError for a negative sigma.
    """
    if sigma < 0:
        raise ValueError(f"sigma is a width in pixels and cannot be negative, got {sigma}.")
    if sigma == 0:
        return maps
    height, width = maps.shape[-2:]
    rows = blur_matrix(height, float(sigma)).to(maps.dtype).to(maps.device)
    columns = blur_matrix(width, float(sigma)).to(maps.dtype).to(maps.device)
    with torch.autocast(maps.device.type, enabled=False):  # which would make the products bfloat16
        return rows @ maps @ columns.T


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve later, outside inference mode, too
def blur_matrix(n: int, sigma: float) -> Tensor:
    """The (n, n) float64 matrix that blurs a vector of n pixels: row i holds pixel i's Gaussian weights, summing to 1.

    Weights that fall outside are folded back, d c b a | a b c d | d c b a, however often the kernel is wider than the
    image.
    """
    radius = int(4 * sigma + 0.5)
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offset.double() / sigma) ** 2)
    source = (torch.arange(n)[:, None] + offset) % (2 * n)  # one period of the mirrored line is 2n long
    source = torch.minimum(source, 2 * n - 1 - source)
    weights = (kernel / kernel.sum()).expand(n, -1).contiguous()
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, weights)


def image_score(maps: Tensor, score: str = "max") -> Tensor:
    """The image's anomaly score from its (smoothed) map: (B, H, W) -> (B,).

    "max", the largest value, finds a defect however small (§3.4); "sum", over all pixels, suits images that are
    anomalous as a whole, as in one-class novelty detection (test.py:384-423). Raises ValueError for another word.
    """
    if score not in SCORES:
        raise ValueError(f"There is no score '{score}'. Choose one of: {', '.join(SCORES)}.")
    return maps.amax(dim=(-2, -1)) if score == "max" else maps.sum(dim=(-2, -1))


def check_finite(maps: Tensor, scores: Tensor | None = None) -> None:
    """Raise NotFiniteError, with the places of the images, for NaN or infinity in maps (B, ...) or scores (B,)."""
    finite = maps.flatten(1).isfinite().all(1)
    finite = finite if scores is None else finite & scores.isfinite()
    if not finite.all():
        raise NotFiniteError((~finite).nonzero().flatten().tolist())
