"""Choose the decision threshold, from good images alone or from good and defective ones.

A bound on false alarms needs scores of n good images. The model must *not* be trained on them, and later images must be
drawn in the same way. Put the threshold just above the (n - k)-th lowest score, so that k of the n images raise an
alarm. The false-alarm rate on later good images then has the distribution Beta(k + 1, n - k). This holds for any
distribution of the scores (order statistics; Wilks 1941). The mean of the rate is (k + 1) / (n + 1). Its upper quantile
is Clopper and Pearson's bound.

A score >= threshold means anomalous, here as in `rdlib.metrics`.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv  # scipy.stats has these bounds but is slow to import

from rdlib.metrics import f1_max
from rdlib.utils.arrays import as_finite, as_size, as_truth
from rdlib.utils.errors import check_fields, checked

MARGIN = 1e-4  # relative distance of a threshold above a score, far more than rounding on another machine
SAME = 2.5e-7  # relative difference of equal scores: the last bits of float32 depend on the size of a batch
QUANTILES = np.linspace(0, 1, 21)
LEAST_MARGIN = float(np.finfo(np.float32).tiny)  # around 0, where a relative margin vanishes


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A decision threshold and how it was chosen. It is valid for one model at one image size."""

    score: float  # an image is anomalous if its score is at least this
    pixel: float  # a pixel is anomalous if its map is at least this: just above all maps of the good images below
    size: tuple[int, int]  # (H, W) of the images it was chosen on
    rule: str  # how it was chosen, in words
    good: int  # good images it was chosen on, those of equal score counted once by `threshold_from_good`
    alarms: int  # FP: good images with score >= threshold
    defective: int = 0  # defective images it was chosen on
    found: int = 0  # TP: defective images with score >= threshold
    rate: float | None = None  # the false-alarm rate that it promises, None for no promise
    confidence: float | None = None  # probability that the rate is kept; None keeps it on average
    quantiles: tuple[float, ...] = ()  # 21 quantiles of the good images' scores, from the lowest to the highest

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "size", as_size(self.size))
        ordered = list(self.quantiles) == sorted(self.quantiles)
        if not (self.alarms <= self.good and self.found <= self.defective and ordered):
            raise ValueError(f"A threshold cannot be chosen so: {self.alarms} alarms among {self.good} good images, "
                             f"{self.found} of {self.defective} defective ones found, or quantiles out of order.")

    def __str__(self) -> str:
        text = f"{self.score:.4g} ({self.rule}): {self.alarms} of {self.good} good images alarm"
        return text + (f", {self.found} of {self.defective} defective ones are found" if self.defective else "")

    def promise(self) -> str:
        """Return in words what the threshold promises about good images to come, without rounding."""
        if self.rate is None:
            return "nothing is promised about good images to come: the threshold was not chosen from good images alone"
        sure = f"with {100 * self.confidence:.15g} % confidence" if self.confidence else "on average"
        return f"at most {100 * self.rate:.15g} % of good images will alarm, {sure}"


@checked
def threshold_from_good(scores: ArrayLike, maps: ArrayLike, rate: float = 0.05, *,
                        confidence: float | None = None) -> Threshold:
    """Choose the lowest threshold with a false-alarm rate of at most `rate`, from good images alone.

    Args:
        scores: (N,) image scores of good images that the model was not trained on. Equal scores count as one image,
            see `distinct`.
        maps: (N, H, W) their anomaly maps, for the pixel threshold.
        rate: allowed false-alarm rate, in (0, 1).
        confidence: None bounds the false-alarm rate on average over samples of N images. A probability in (0, 1) bounds
            it for this sample with at least this probability, which needs more images.

    Returns:
        The threshold, with the number of good images and of false alarms among them.

    Raises:
        ValueError: too few images for `rate`, scores or maps of other shapes or not finite, or a rate or confidence
            outside (0, 1).
    """
    scores, maps = _checked(scores, maps)
    n = distinct(scores)
    bounds = [rate_bound(k, n, confidence) for k in range(min(n, math.ceil(n * rate) + 1))]
    allowed = int(np.searchsorted(bounds, rate * (1 + 1e-9), side="right")) - 1  # FP; -1 if even 0 is too many
    sure = f", {100 * confidence:.15g} % sure" if confidence else " on average"
    if allowed < 0:
        least = math.ceil(1000 * rate_bound(0, n, confidence)) / 1000
        raise ValueError(f"{n} different good images cannot keep false alarms to {100 * rate:.15g} %{sure}: that takes "
                         f"{images_needed(rate, confidence)}, not trained on. Hold out more, or use rate={least:.3g}.")
    score = _above(np.sort(scores)[-1 - allowed])
    rule, alarms = f"at most {100 * rate:.15g} % false alarms{sure}, from good images alone", (scores >= score).sum()
    return Threshold(score=score, pixel=_above(maps.max()), size=maps.shape[1:], good=n, rule=rule, alarms=int(alarms),
                     rate=rate, confidence=confidence, quantiles=tuple(np.quantile(scores, QUANTILES)))


@checked
def threshold_from_both(labels: ArrayLike, scores: ArrayLike, maps: ArrayLike, *,
                        recall: float | None = None) -> Threshold:
    """Choose the threshold of the best F1, or the highest threshold that reaches a given recall.

    Use images of neither the training set nor the test set: on its own images, a threshold looks better than it is. The
    threshold lies in the middle of the gap between two scores. F1 depends on the share of defective images. If defects
    are rarer in use than here, the threshold of the best F1 accepts too many false alarms.

    Args:
        labels: (N,) 0 normal, 1 anomalous, or bool; both classes.
        scores: (N,) image scores.
        maps: (N, H, W) anomaly maps; those of the good images give the pixel threshold.
        recall: None for the best F1, or the share of the defective images to find, in (0, 1].

    Returns:
        The threshold, with the numbers of good and defective images, false alarms and defects found.

    Raises:
        ValueError: only one class, other labels, scores or maps of other shapes or not finite, or a recall outside
            (0, 1].
    """
    (scores, maps), bad = _checked(scores, maps), as_truth(labels)
    if bad.shape != scores.shape or not bad.any() or bad.all():
        raise ValueError(f"{len(scores)} labels, of both classes, are needed for the scores; got {bad.size}, of which "
                         f"{bad.sum()} are anomalous. With good images alone, use threshold_from_good.")
    if recall is None:
        lowest, rule = f1_max(bad, scores)[1], "best F1"
    else:
        lowest = np.sort(scores[bad])[-max(1, math.ceil(recall * bad.sum() - 1e-9))]
        rule = f"at least {100 * recall:.15g} % of the defective images found"
    below = scores[scores < lowest].max(initial=-np.inf)
    middle = (lowest + below) / 2
    score = float(middle if np.float32(middle) > np.float32(below) else lowest)  # equal in float32
    return Threshold(score=score, pixel=_above(maps[~bad].max()), size=maps.shape[1:], rule=rule,
                     good=int((~bad).sum()), alarms=int((scores[~bad] >= score).sum()), defective=int(bad.sum()),
                     found=int((scores[bad] >= score).sum()), quantiles=tuple(np.quantile(scores[~bad], QUANTILES)))


@checked
def rate_bound(alarms: int, n: int, confidence: float | None = None) -> float:
    """Compute the mean, or an upper bound, of a threshold's false-alarm rate on later good images.

    Args:
        alarms: number of good images with score >= threshold, 0 to n - 1.
        n: number of good images that the threshold was chosen on.
        confidence: None for the mean; or a probability in (0, 1) that the rate is not above the bound.

    Returns:
        The mean or the bound, in (0, 1].

    Raises:
        ValueError: alarms outside 0 to n - 1, or a confidence outside (0, 1).
    """
    if not 0 <= alarms < n:
        raise ValueError(f"alarms is a number from 0 to n - 1; got alarms={alarms}, n={n}. Pass the alarms first.")
    if confidence is None:
        return (alarms + 1) / (n + 1)
    return float(betaincinv(alarms + 1, n - alarms, confidence))


@checked
def images_needed(rate: float, confidence: float | None = None) -> int:
    """Compute the number of good images that a threshold with a false-alarm rate of at most `rate` needs.

    The model must not be trained on these images.

    Args:
        rate: allowed false-alarm rate, in (0, 1).
        confidence: None bounds the rate on average, with 1 / rate - 1 images. A probability c in (0, 1) bounds it with
            at least this probability, with log(1 - c) / log(1 - rate) images.

    Returns:
        The number of images, rounded up.

    Raises:
        ValueError: a rate or confidence outside (0, 1).
    """
    if confidence is None:
        return math.ceil(1 / rate - 1 - 1e-9)
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


def distinct(scores: ArrayLike) -> int:
    """Count different scores (N,), equal ones once: copies of an image are no further observations."""
    ordered = np.sort(as_finite(scores, "scores").astype(np.float64))
    return 1 + int((np.diff(ordered) > SAME * np.abs(ordered[1:])).sum())


def agreed_size(known: tuple[int, int] | None, size: int | Sequence[int] | None) -> tuple[int, int]:
    """Return the image size to use a model at: the size that it knows or, if it knows none, `size`.

    Args:
        known: (H, W) in pixels that the model was trained at, or its threshold was chosen at: `model.image_size`.
        size: (H, W), the side of a square, or None; in pixels.

    Returns:
        (H, W) in pixels.

    Raises:
        ValueError: both sizes are missing, or they differ.
    """
    asked = known if size is None else as_size(size)
    if asked is None:
        raise ValueError("The image size is unknown. Give the size, such as size=256 (--size 256), or train the model.")
    if known and asked != known:
        raise ValueError(f"The model was trained, or its threshold was chosen, at {known[0]} x {known[1]} pixels. Its "
                         f"scores mean nothing at {asked[0]} x {asked[1]}. Resize to its size, or train at yours.")
    return asked


def _above(value: float) -> float:
    return float(value + max(MARGIN * abs(value), LEAST_MARGIN))


def _checked(scores: ArrayLike, maps: ArrayLike) -> tuple[NDArray, NDArray]:
    scores, maps = as_finite(scores, "scores").astype(np.float64), as_finite(maps, "maps")
    if scores.ndim != 1 or not len(scores) or maps.ndim != 3 or len(maps) != len(scores):
        raise ValueError(f"A threshold needs (N,) scores and (N, H, W) maps, N at least 1; got {scores.shape} and "
                         f"{maps.shape}. Pass what model.predict returns, the scores first.")
    return scores, maps
