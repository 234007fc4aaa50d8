"""From which score on an image is called anomalous: thresholds from good images alone, or from some defective ones too.

Scores of n good images that the model was *not* trained on, drawn as those to come will be, are all that a promise
about false alarms can rest on. Put the threshold just above the n - k-th lowest of them, so that k alarm: the share
of good images to come that will alarm is then Beta(k + 1, n - k) distributed, whatever the distribution of the scores
(order statistics; Wilks 1941). Its mean is (k + 1) / (n + 1), and its upper quantile is Clopper and Pearson's bound.

Everywhere score >= threshold means anomalous, as in `rdlib.metrics`.
"""
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv  # scipy.stats has the bounds ready, and is slow to import

from rdlib.metrics import f1_max
from rdlib.utils.arrays import as_finite, as_truth

MARGIN = 1e-4  # relative; how far above an image the threshold lies, so that another machine's rounding changes nothing
LEAST_MARGIN = float(np.finfo(np.float32).tiny)  # around 0, where a relative one vanishes


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A decision, and what it rests on. It holds for one model at one image size; `ReverseDistillation` saves it."""

    score: float  # an image is anomalous if its score is at least this
    pixel: float  # a pixel is, if its map is: just above all maps of the good images the choice was made on
    size: tuple[int, int]  # (H, W) of the images it was chosen at
    rule: str  # how it was chosen, in words
    good: int  # good images that the choice was made on ...
    alarms: int  # ... so many of them at or above the threshold
    defective: int = 0  # and defective ones ...
    found: int = 0  # ... so many of them found

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))  # a file knows no tuples
        if not all(isinstance(x, float) and math.isfinite(x) for x in (self.score, self.pixel)):
            raise ValueError(f"A threshold is a finite number, got score={self.score!r} and pixel={self.pixel!r}.")

    def __str__(self) -> str:
        text = f"{self.score:.4g} ({self.rule}): {self.alarms} of {self.good} good images alarm"
        return text + (f", {self.found} of {self.defective} defective ones are found" if self.defective else "")


def threshold_from_good(scores: ArrayLike, maps: ArrayLike, rate: float = 0.05, *,
                        confidence: float | None = None) -> Threshold:
    """The lowest threshold that keeps false alarms to `rate`, from good images alone.

    Args:
        scores: (N,) image scores of good images that the model was not trained on, as an array or tensor.
        maps: (N, H, W) their anomaly maps, for the pixel threshold.
        rate: the share of good images that may alarm, in (0, 1).
        confidence: None: `rate` holds on average over draws of the N images. Or a probability, such as 0.95, with which
            the rate of these very N images' threshold is at most `rate`; that takes more images.

    Raises:
        ValueError: too few images for the rate asked (the message says how many it takes, and what N can do), scores
            that are no numbers, a rate or confidence outside (0, 1).
    """
    scores, maps = _checked(scores, maps)
    n, allowed = len(scores), _alarms_allowed(len(scores), rate, confidence)
    sure = f", {100 * confidence:.3g} % sure" if confidence else " on average"
    if allowed < 0:
        raise ValueError(f"{n} good images cannot keep false alarms to {100 * rate:.3g} %{sure}: that takes "
                         f"{images_needed(rate, confidence)} that were not trained on. Hold out more, or ask for rate="
                         f"{math.ceil(1000 * rate_bound(0, n, confidence)) / 1000:.3g}, which {n} allow.")
    score = _above(np.sort(scores)[n - allowed - 1])
    return Threshold(score=score, pixel=_above(maps.max()), size=maps.shape[1:], good=n,
                     rule=f"at most {100 * rate:.3g} % false alarms{sure}, from good images alone",
                     alarms=int((scores >= score).sum()))


def threshold_from_both(labels: ArrayLike, scores: ArrayLike, maps: ArrayLike, *,
                        recall: float | None = None) -> Threshold:
    """The threshold of the best F1, or the highest that finds a given share of the defective images.

    Choose on images that are neither trained on nor tested with: on these very images the threshold looks better than
    it is. It lies in the middle of the gap between two scores. F1 weighs false alarms by how many good images there
    happen to be: where defects are rarer in use than here, it lets too many through.

    Args:
        labels: (N,) 0 normal, 1 anomalous, or bool; both occur.
        scores: (N,) image scores, as an array or tensor.
        maps: (N, H, W) anomaly maps; those of the good images give the pixel threshold.
        recall: None for the best F1, or the share of the defective images to find, in (0, 1].

    Raises:
        ValueError: one class only, other labels, scores that are no numbers, a recall outside (0, 1].
    """
    scores, maps = _checked(scores, maps)
    bad = as_truth(labels)
    if bad.shape != scores.shape or not bad.any() or bad.all():
        raise ValueError("This choice needs a label for every score, and both good and defective images. With good "
                         "ones alone, use threshold_from_good.")
    if recall is None:
        lowest, rule = f1_max(bad, scores)[1], "best F1"
    else:
        if not 0 < recall <= 1:
            raise ValueError(f"recall is the share of defective images to find, in (0, 1]; got {recall}.")
        found = np.sort(scores[bad])[::-1]
        lowest = found[math.ceil(recall * len(found) - 1e-9) - 1]
        rule = f"at least {100 * recall:.3g} % of the defective images found"
    below = scores[scores < lowest].max(initial=-np.inf)
    middle = (lowest + below) / 2
    score = float(middle if np.float32(middle) > np.float32(below) else lowest)  # float32 may have nothing in between
    return Threshold(score=score, pixel=_above(maps[~bad].max()), size=maps.shape[1:], rule=rule,
                     good=int((~bad).sum()), alarms=int((scores[~bad] >= score).sum()), defective=int(bad.sum()),
                     found=int((scores[bad] >= score).sum()))


def rate_bound(alarms: int, n: int, confidence: float | None = None) -> float:
    """The false-alarm rate to expect of the threshold just above all but `alarms` of n good images' scores.

    With confidence=None the mean, (alarms + 1) / (n + 1); else the rate that is not exceeded with that probability.
    """
    if not 0 <= alarms < n:
        raise ValueError(f"Of n good images 0 to n - 1 can alarm, got alarms={alarms} and n={n}.")
    if confidence is None:
        return (alarms + 1) / (n + 1)
    return float(betaincinv(alarms + 1, n - alarms, _share("confidence", confidence)))


def rate_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a rate of which n independent images have shown `count`.

    For a threshold that is judged on images it was not chosen on: false alarms among good test images, say, or finds
    among defective ones. Raises ValueError unless 0 <= count <= n and n >= 1.
    """
    if not (n >= 1 and 0 <= count <= n) or count % 1 or n % 1:
        raise ValueError(f"count is a whole number from 0 to n, and n is 1 or more; got count={count} and n={n}.")
    count, n, tail = int(count), int(n), (1 - _share("confidence", confidence)) / 2
    return (float(betaincinv(count, n - count + 1, tail)) if count else 0.0,
            float(betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0)


def images_needed(rate: float, confidence: float | None = None) -> int:
    """The fewest good images, not trained on, from which a threshold can keep false alarms to `rate`.

    On average 1 / rate - 1; with a confidence c, log(1 - c) / log(1 - rate). Raises ValueError outside (0, 1).
    """
    rate = _share("rate", rate)
    if confidence is None:
        return math.ceil(1 / rate - 1 - 1e-9)
    return math.ceil(math.log1p(-_share("confidence", confidence)) / math.log1p(-rate) - 1e-9)


def agreed_size(threshold: Threshold | None, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """The (H, W) at which to use a model: that of its threshold; without one, `size`, (H, W) or the side of a square.

    Raises ValueError where both are missing, or do not agree.
    """
    size = (size, size) if isinstance(size, int) else size and tuple(size)
    if not (threshold or size):
        raise ValueError("Give the size of the images that the model was trained at, such as size=256 (--size "
                         "256), or choose a threshold first, which knows it.")
    if threshold and size not in (None, threshold.size):
        raise ValueError(f"The model's threshold was chosen at {threshold.size[0]} x {threshold.size[1]} pixels and "
                         f"means nothing at {size[0]} x {size[1]}. Leave the size out, or set model.threshold = None "
                         "first.")
    return threshold.size if threshold else size


def _alarms_allowed(n: int, rate: float, confidence: float | None) -> int:
    """How many of n good images may alarm, -1 where even none is too many. The bound rises with their number."""
    _share("rate", rate)
    bounds = [rate_bound(k, n, confidence) for k in range(min(n, math.ceil(n * rate) + 1))]
    return int(np.searchsorted(bounds, rate * (1 + 1e-9), side="right")) - 1


def _above(value: float) -> float:
    return float(value + max(MARGIN * abs(value), LEAST_MARGIN))


def _share(name: str, value: float) -> float:
    if not 0 < value < 1:
        example = "0.95" if name == "confidence" else "0.05"
        raise ValueError(f"{name} lies between 0 and 1, such as {example}; got {value}.")
    return value


def _checked(scores: ArrayLike, maps: ArrayLike) -> tuple[NDArray, NDArray]:
    scores, maps = as_finite(scores, "scores").astype(np.float64), as_finite(maps, "maps")
    if scores.ndim != 1 or not len(scores) or maps.ndim != 3 or len(maps) != len(scores):
        raise ValueError(f"A threshold is chosen from (N,) scores and their (N, H, W) maps, N at least 1; got "
                         f"{scores.shape} and {maps.shape}.")
    return scores, maps
