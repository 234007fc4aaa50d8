"""Warn if a folder's scores do not look like those of the good images that the threshold was chosen on.

Both tests allow for chance in the scored images and in the good ones. If all are drawn in the same way, each test warns
of less than one folder in 100.
"""
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

from rdlib.threshold import Threshold

CHANCE = 1e-3  # largest probability of a difference by chance that is called a change
LEAST = 20  # images not called anomalous, to compare their scores


def drift_warnings(scores: NDArray, threshold: Threshold) -> Iterator[str]:
    """Yield warnings about the share of alarms and about the scores (N,) of the images that are not anomalous."""
    n, passed = len(scores), np.sort(scores[scores < threshold.score])
    alarms = n - len(passed)
    if _too_many(alarms, n, threshold):
        promise = (f"at most {100 * threshold.rate:.15g} % were promised" if threshold.rate else
                   f"{threshold.alarms} of the threshold's {threshold.good} good images do")
        yield (f"{alarms} of {n} images alarm where {promise}: light or lens may have changed, or "
               f"{'most' if alarms > n / 2 else 'some'} of these are defective. Look at the overlays.")
    if shift := _shift(passed, threshold):
        cause = "these images were trained on" if shift == "lower" else "small defects are missed"
        yield (f"The {len(passed)} images that do not alarm score {shift} than the good images that the threshold was "
               f"chosen on: light or lens may have changed, or {cause}. Choose the threshold on images like these.")


def _too_many(alarms: int, n: int, threshold: Threshold) -> bool:
    """Tell whether there are more alarms than promised, and more than by chance if all images are good.

    If k of m good images alarm, the number of alarms among n later ones is beta-binomial, of Beta(k + 1, m - k). Its
    tail allows for a threshold that was chosen on few images, where that of the binomial distribution does not.
    """
    from scipy.stats import betabinom  # here: slow to import
    a, b = threshold.alarms + 1, threshold.good - threshold.alarms
    return b > 0 and alarms > n * (threshold.rate or 0) and betabinom.sf(alarms - 1, n, a, b) < CHANCE


def _shift(passed: NDArray, threshold: Threshold) -> str:
    """Return "lower" or "higher" if sorted scores below the threshold differ from the good ones there, else "".

    This is the test of Kolmogorov and Smirnov for two samples, at the stored quantiles; ties count for no difference.
    The q-th quantile of m scores is the (1 + (m - 1) q)-th in order, and m - k of them lie below the threshold.
    """
    quantiles, n, m = np.array(threshold.quantiles), len(passed), threshold.good - threshold.alarms
    below = quantiles < threshold.score
    if n < LEAST or m < 1 or not below.any():
        return ""
    expected = ((1 + (threshold.good - 1) * np.linspace(0, 1, len(quantiles))) / m).clip(max=1)[below]
    left, right = (np.searchsorted(passed, quantiles[below], side) / n for side in ("left", "right"))
    lower, higher = (left - expected).max(), (expected - right).max()
    changed = kolmogorov(np.sqrt(n * m / (n + m)) * max(lower, higher, 0)) < CHANCE
    return ("lower" if lower > higher else "higher") if changed else ""
