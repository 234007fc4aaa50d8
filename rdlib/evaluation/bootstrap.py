"""Compute bootstrap intervals of AUROC and AUPRO: how much a result changes with other test images.

Images are drawn with replacement, good and defective ones separately, so both classes keep their size. The number of
times that an image is drawn is its weight, so scores are sorted only once. The image AUROC is exact. For the pixel
metrics, millions of scores are sorted into bins. Every image is then a row of counts, and a resample is a weighted sum
of rows. The error of the bins is measured on the test set itself and reported.
"""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rdlib.evaluation.report import METRICS, Report
from rdlib.metrics import area_up_to, label_regions
from rdlib.utils.arrays import as_array, as_finite, as_truth

BINS = 4096
AT_A_TIME = 100  # resamples whose curves are in memory together: a few arrays (100, BINS)


def bootstrap_intervals(report: Report, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Compute bootstrap intervals of image AUROC, pixel AUROC and AUPRO by resampling the test images.

    Args:
        report: predictions on a test set.
        n_resamples: number of resampled test sets, 1 or more.
        level: share of the resamples inside an interval, in (0, 1).
        seed: seed of the resampling, 0 or more.

    Returns:
        One row per metric, NaN for an undefined metric. `value` is the exact metric, in [0, 1]. `low` and `high` are
        the ends of the interval. `binning` is the error that the bins cause on the whole test set, 0 for the image
        AUROC.

    Raises:
        ValueError: an argument is outside its range, or scores or maps hold NaN or infinity.
    """
    if n_resamples < 1 or not 0 < level < 1:
        raise ValueError(f"n_resamples must be 1 or more and level between 0 and 1, got {n_resamples} and {level}.")
    rows = {name: dict.fromkeys(("value", "low", "high", "binning"), np.nan) for name in METRICS}
    for name, values in resampled_metrics(report, n_resamples, seed).items():
        low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        exact = getattr(report, name)
        rows[name] = {"value": exact, "low": low, "high": high, "binning": abs(values[0] - exact)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def resampled_metrics(report: Report, n_resamples: int, seed: int = 0) -> dict[str, NDArray]:
    """Compute the metrics of resampled test sets.

    Test sets with the same labels are resampled in the same way, so that runs can be averaged.

    Returns (1 + n_resamples,) float64 per metric; the first value is for the test set itself. Undefined metrics are
    left out.
    """
    weights = np.vstack([np.ones(len(report.labels)), resample_weights(report.labels, n_resamples, seed)])
    found = {}
    if not np.isnan(report.image_auroc):
        found["image_auroc"] = weighted_auroc(report.labels, report.scores, weights)
    if report.pixels:
        counts = PixelCounts.of(report.masks, report.maps)
        found["pixel_auroc"], found["aupro"] = counts.metrics(weights, report.fpr_limit)
    return found


def resample_weights(labels: ArrayLike, n_resamples: int, seed: int) -> NDArray:
    """Draw how often each image occurs: (N,) labels -> (R, N) float64 whole numbers. Every class keeps its size."""
    labels, draw = as_truth(labels), np.random.default_rng(seed)
    weights = np.zeros((n_resamples, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = draw.multinomial(len(members), np.full(len(members), 1 / len(members)), n_resamples)
    return weights


def weighted_auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray:
    """Compute exact AUROCs where image i counts weights[r, i] times: (N,), (N,), (R, N) -> (R,).

    A pair of an anomalous and a good image with equal scores counts half.
    """
    bad, scores, weights = as_truth(labels), as_finite(scores, "scores"), as_array(weights)
    good = ~bad
    order = np.argsort(scores[good], kind="stable")
    ranked = scores[good][order]
    below, upto = (np.searchsorted(ranked, scores[bad], side=side) for side in ("left", "right"))
    cumulated = _cumulated(weights[:, good][:, order])
    wins = (cumulated[:, below] + cumulated[:, upto]) / 2
    return (weights[:, bad] * wins).sum(1) / (cumulated[:, -1] * weights[:, bad].sum(1))


@dataclass
class PixelCounts:
    """Pixels of a test set, counted per image and bin of scores, highest scores first."""

    normal: NDArray  # (N, K) float64: normal pixels
    defect: NDArray  # (N, K) float64: defect pixels
    overlap: NDArray  # (N, K) float64: defect pixels, each divided by the area of its region
    regions: NDArray  # (N,) float64: number of regions

    @classmethod
    def of(cls, masks: ArrayLike, maps: ArrayLike, bins: int = BINS) -> "PixelCounts":
        """Count (N, H, W) masks and (N, H, W) float maps, in at most `bins` bins.

        Half of the edges are quantiles of the normal pixels, half of the defect pixels. Each quantile of the defect
        pixels has its own bin. Curves rise only at scores of defect pixels, so up to bins / 4 defect pixels are counted
        without loss.
        """
        masks, maps = as_truth(masks), as_finite(maps, "maps")
        steps = _quantiles(maps[masks], bins // 4)
        edges = np.unique(np.concatenate([_quantiles(maps[~masks], bins // 2 - 1), steps,
                                          np.nextafter(steps, np.inf, dtype=maps.dtype)]))
        shape = len(maps), len(edges) + 1
        normal, defect, overlap, regions = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(maps))
        for i, (mask, scores) in enumerate(zip(masks, maps, strict=True)):
            place = len(edges) - np.searchsorted(edges, scores, side="right")  # 0 holds the highest scores
            normal[i] = np.bincount(place[~mask], minlength=shape[1])
            if mask.any():
                _, regions[i], share = label_regions(mask)
                defect[i] = np.bincount(place[mask], minlength=shape[1])
                overlap[i] = np.bincount(place[mask], share, minlength=shape[1])
        return cls(normal, defect, overlap, regions)

    def metrics(self, weights: NDArray, fpr_limit: float) -> tuple[NDArray, NDArray]:
        """Compute pixel AUROC and AUPRO where image i counts weights[r, i] times: (R, N) -> (R,), (R,).

        Curves are linear inside a bin. The AUPRO of a resample without regions is NaN.
        """
        aurocs, aupros = [], []
        with np.errstate(invalid="ignore"):
            for part in np.array_split(weights, -(-len(weights) // AT_A_TIME)):
                fpr, tpr = (_cumulated(part @ counts) for counts in (self.normal, self.defect))
                fpr, tpr = fpr / fpr[:, -1:], tpr / tpr[:, -1:]
                pro = _cumulated(part @ self.overlap) / (part @ self.regions)[:, None]
                aurocs += [area_up_to(*curve, 1.0) for curve in zip(fpr, tpr, strict=True)]
                aupros += [area_up_to(*curve, fpr_limit) for curve in zip(fpr, pro, strict=True)]
        return np.array(aurocs), np.array(aupros)


def _quantiles(scores: NDArray, n: int) -> NDArray:
    """Choose n of the scores, or all if there are fewer, with equally many others between them."""
    ranked = np.sort(scores)
    return ranked[np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(np.int64)]


def _cumulated(counts: NDArray) -> NDArray:
    """Sum counts up, from 0: (R, K) -> (R, K + 1)."""
    return np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
