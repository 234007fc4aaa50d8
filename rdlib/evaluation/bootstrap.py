"""Compute bootstrap intervals of AUROC and AUPRO: how much a result changes with other test images.

Images are drawn with replacement, good and defective ones separately, so both classes keep their size. The number of
times that an image is drawn is its weight, so scores are sorted only once, into bins. Every image is then a row of
counts, and a resample is a weighted sum of rows. For the image AUROC, an image counts as one pixel; up to 1,024
defective images are counted without loss. The error of the bins is measured on the test set itself and reported.
"""
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rdlib.evaluation.report import METRICS, Report
from rdlib.metrics import area_up_to, label_regions
from rdlib.utils.arrays import as_finite, as_truth
from rdlib.utils.errors import checked

BINS = 4096
AT_A_TIME = 100  # resamples whose curves are in memory together: a few arrays (100, BINS)


@checked
def bootstrap_intervals(report: Report, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Compute bootstrap intervals of image AUROC, pixel AUROC and AUPRO by resampling the test images.

    Args:
        report: predictions on a test set.
        n_resamples: number of resampled test sets, 1 or more.
        level: share of the resamples inside an interval, in (0, 1).
        seed: seed of the resampling, 0 or more.

    Returns:
        One row per metric, NaN for an undefined metric. `value` is the exact metric, in [0, 1]. `low` and `high` are
        the ends of the interval. `binning` is the error that the bins cause on the whole test set.

    Raises:
        ValueError: an argument is outside its range, or scores or maps hold NaN or infinity.
    """
    rows = {name: dict.fromkeys(("value", "low", "high", "binning"), np.nan) for name in METRICS}
    for name, values in resampled_metrics(report, n_resamples, seed).items():
        low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        value = getattr(report, name)
        rows[name] = {"value": value, "low": low, "high": high, "binning": abs(values[0] - value)}
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
        counts = pixel_counts(report.labels[:, None, None], report.scores[:, None, None])
        found["image_auroc"], _ = pixel_metrics(counts, weights, report.fpr_limit)
    if report.pixels:
        counts = pixel_counts(*report.pixel_arrays())
        found["pixel_auroc"], found["aupro"] = pixel_metrics(counts, weights, report.fpr_limit)
    return found


def resample_weights(labels: ArrayLike, n_resamples: int, seed: int) -> NDArray:
    """Draw how often each image occurs: (N,) labels -> (R, N) float64 whole numbers. Every class keeps its size."""
    labels, draw = as_truth(labels), np.random.default_rng(seed)
    weights = np.zeros((n_resamples, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = draw.multinomial(len(members), np.full(len(members), 1 / len(members)), n_resamples)
    return weights


Counts = tuple[NDArray, NDArray, NDArray, NDArray]


def pixel_counts(masks: ArrayLike, maps: ArrayLike, unknown: ArrayLike = False) -> Counts:
    """Count the pixels of a test set per image and bin of scores: (N, H, W) masks and (N, H, W) float maps.

    Pixels in the masks `unknown` are not counted.

    Half of the edges of at most `BINS` bins are quantiles of the normal pixels, half of the defect pixels. Each
    quantile of the defect pixels has its own bin. Curves rise only at scores of defect pixels, so up to BINS / 4 defect
    pixels are counted without loss.

    Returns four float64 arrays. Three are (N, K), the highest scores first: normal pixels, defect pixels, and defect
    pixels each divided by the area of its region. The fourth, (N,), has the number of regions.
    """
    masks, maps = as_truth(masks), as_finite(maps, "maps")
    masks, normals = masks & ~as_truth(unknown), ~(masks | as_truth(unknown))
    steps = _quantiles(maps[masks], BINS // 4)
    edges = np.unique(np.concatenate([_quantiles(maps[normals], BINS // 2 - 1), steps,
                                      np.nextafter(steps, np.inf, dtype=maps.dtype)]))
    (normal, defect, overlap), regions = np.zeros((3, len(maps), len(edges) + 1)), np.zeros(len(maps))
    for i, (mask, rest, scores) in enumerate(zip(masks, normals, maps, strict=True)):
        place = len(edges) - np.searchsorted(edges, scores, side="right")  # 0 holds the highest scores
        normal[i] = np.bincount(place[rest], minlength=len(edges) + 1)
        defect[i] = np.bincount(place[mask], minlength=len(edges) + 1)
        _, regions[i], shares = label_regions(mask)
        overlap[i] = np.bincount(place[mask], shares, minlength=len(edges) + 1)
    return normal, defect, overlap, regions


def pixel_metrics(counts: Counts, weights: NDArray, fpr_limit: float) -> tuple[NDArray, NDArray]:
    """Compute pixel AUROC and AUPRO where image i counts weights[r, i] times: (R, N) -> (R,), (R,).

    Curves are linear inside a bin. The AUPRO of a resample without regions is NaN.
    """
    *pixels, regions = counts
    aurocs, aupros = [], []
    with np.errstate(invalid="ignore"):
        for part in np.array_split(weights, -(-len(weights) // AT_A_TIME)):
            fpr, tpr, pro = (np.cumsum(np.pad(part @ count, ((0, 0), (1, 0))), axis=1) for count in pixels)
            fpr, tpr, pro = fpr / fpr[:, -1:], tpr / tpr[:, -1:], pro / (part @ regions)[:, None]
            aurocs += [area_up_to(*curve, 1.0) for curve in zip(fpr, tpr, strict=True)]
            aupros += [area_up_to(*curve, fpr_limit) for curve in zip(fpr, pro, strict=True)]
    return np.array(aurocs), np.array(aupros)


def _quantiles(scores: NDArray, n: int) -> NDArray:
    """Choose n of the scores, or all if there are fewer, with equally many others between them."""
    ranked = np.sort(scores)
    return ranked[np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(np.int64)]
