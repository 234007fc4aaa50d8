"""How far a result would move with other test images: bootstrap intervals of AUROC and AUPRO.

Images are drawn anew with replacement, good and defective ones apart, so that both classes keep their size. A drawn
image counts as often as it is drawn, which is a weight: nothing is ranked again. The image AUROC is exact. For the
pixel metrics, millions of scores are sorted once into bins; every image then is a row of counts, and a resample is a
weighted sum of rows. What the bins cost is measured on the test set itself and reported.
"""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label as connected_components

from rdlib.evaluation.report import Report
from rdlib.metrics import EIGHT_NEIGHBOURS
from rdlib.utils.arrays import as_array, as_finite, as_truth

METRICS = ("image_auroc", "pixel_auroc", "aupro")
BINS = 4096
AT_A_TIME = 100  # resamples whose curves are held in memory together: (100, BINS) numbers, a few times


def bootstrap_intervals(report: Report, n_resamples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Percentile intervals over test images of the image AUROC, the pixel AUROC and the AUPRO up to the report's limit.

    Returns:
        One row a metric ("image_auroc", "pixel_auroc", "aupro"): `value`, the exact metric; `low` and `high`, the
        interval; `binning`, by how much the binned metric of the test set as it is differs from the exact one (0 for
        the image AUROC). A metric that has no meaning for this report has NaN.

    Raises:
        ValueError: n_resamples below 1, or a level outside (0, 1).
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
    """The metrics of resampled test sets, (1 + n_resamples,) float64 each, the first of the test set as it is; metrics
    without meaning are left out. Test sets with the same labels are resampled alike, so that runs can be averaged."""
    weights = np.vstack([np.ones(len(report.labels)), resample_weights(report.labels, n_resamples, seed)])
    found = {}
    if not np.isnan(report.image_auroc):
        found["image_auroc"] = weighted_auroc(report.labels, report.scores, weights)
    if report.pixels:
        counts = PixelCounts.of(report.masks, report.maps)
        found["pixel_auroc"], found["aupro"] = counts.metrics(weights, report.fpr_limit)
    return found


def resample_weights(labels: ArrayLike, n_resamples: int, seed: int) -> NDArray:
    """How often each image is drawn: (N,) labels -> (R, N) float64 whole numbers; every class keeps its size."""
    labels, draw = as_truth(labels), np.random.default_rng(seed)
    weights = np.zeros((n_resamples, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = draw.multinomial(len(members), np.full(len(members), 1 / len(members)), n_resamples)
    return weights


def weighted_auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray:
    """The exact AUROC where image i counts weights[r, i] times: (N,), (N,), (R, N) -> (R,). Equal scores count half."""
    bad, scores, weights = as_truth(labels), as_finite(scores, "scores"), as_array(weights)
    good = ~bad
    order = np.argsort(scores[good], kind="stable")
    ranked = scores[good][order]
    below, upto = (np.searchsorted(ranked, scores[bad], side=side) for side in ("left", "right"))
    areas = []
    for part in np.array_split(weights, -(-len(weights) // AT_A_TIME)):
        cumulated = np.pad(np.cumsum(part[:, good][:, order], axis=1), ((0, 0), (1, 0)))
        wins = (cumulated[:, below] + cumulated[:, upto]) / 2
        areas.append((part[:, bad] * wins).sum(1) / (cumulated[:, -1] * part[:, bad].sum(1)))
    return np.concatenate(areas)


@dataclass
class PixelCounts:
    """A test set's pixels as counts per image and bin of score, from the highest scores down."""

    normal: NDArray  # (N, K) float64: normal pixels
    defect: NDArray  # (N, K) float64: defect pixels
    overlap: NDArray  # (N, K) float64: defect pixels, each over the area of its region
    regions: NDArray  # (N,) float64: regions

    @classmethod
    def of(cls, masks: ArrayLike, maps: ArrayLike, bins: int = BINS) -> "PixelCounts":
        """Count (N, H, W) masks and (N, H, W) float maps, in at most `bins` bins.

        Half of the bins part the normal pixels equally, half the defect ones. The scores that part the latter have bins
        to themselves, so that nothing is lost where there are at most bins / 4 defect pixels: curves rise only there.
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
                components, regions[i] = connected_components(mask, EIGHT_NEIGHBOURS)
                share = 1 / np.bincount(components.ravel())[components[mask]]
                defect[i] = np.bincount(place[mask], minlength=shape[1])
                overlap[i] = np.bincount(place[mask], share, minlength=shape[1])
        return cls(normal, defect, overlap, regions)

    def metrics(self, weights: NDArray, fpr_limit: float) -> tuple[NDArray, NDArray]:
        """Pixel AUROC and AUPRO where image i counts weights[r, i] times: (R, N) -> (R,), (R,). Curves run straight
        through a bin. NaN for a resample without any region."""
        aurocs, aupros = [], []
        with np.errstate(invalid="ignore"):
            for part in np.array_split(weights, -(-len(weights) // AT_A_TIME)):
                fpr, tpr = (_shares(part @ counts) for counts in (self.normal, self.defect))
                pro = _from_zero(part @ self.overlap) / (part @ self.regions)[:, None]
                aurocs.append(_area_up_to(fpr, tpr, 1.0))
                aupros.append(_area_up_to(fpr, pro, fpr_limit))
        return np.concatenate(aurocs), np.concatenate(aupros)


def _quantiles(scores: NDArray, n: int) -> NDArray:
    """n of the scores, or all if there are fewer, that part the others into equally large groups."""
    ranked = np.sort(scores)
    return ranked[np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(np.int64)]


def _from_zero(counts: NDArray) -> NDArray:
    """Cumulated counts with a 0 before them: (R, K) -> (R, K + 1)."""
    return np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))


def _shares(counts: NDArray) -> NDArray:
    """Cumulated counts as shares of all, from 0 to 1: (R, K) -> (R, K + 1)."""
    cumulated = _from_zero(counts)
    return cumulated / cumulated[:, -1:]


def _area_up_to(fpr: NDArray, height: NDArray, limit: float) -> NDArray:
    """The area of every curve (R, K + 1) from FPR 0 to the limit, cut exactly there, divided by the limit: (R,)."""
    x0, x1, y0, y1 = fpr[:, :-1], fpr[:, 1:], height[:, :-1], height[:, 1:]
    width = np.clip(limit - x0, 0, x1 - x0)
    share = np.divide(width, x1 - x0, out=np.zeros_like(width), where=x1 > x0)
    return (width * (y0 + share * (y1 - y0) / 2)).sum(1) / limit
