"""Compute AUROC, average precision, F1 and PRO of scores and anomaly maps, exactly, over a whole test set.

The truth comes first and the scores second, as in scikit-learn. Both are (N,) for images or (N, H, W) for pixels:
arrays, lists or tensors of any device and dtype. Labels are bool or 0 and 1; masks may also be 0 and 255. Higher scores
are more anomalous. Every function raises ValueError for other values, for shapes that differ, and for scores that are
NaN or infinite. It also raises ValueError if one of the two classes is missing.

Functions import scikit-learn themselves, since the import is slow and training and prediction do not need it.
"""
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rdlib.utils.arrays import as_array, as_finite, as_truth, numbered_regions
from rdlib.utils.errors import checked


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the area under the ROC curve. Chance is 0.5.

    Args:
        labels: (N,) labels, or (N, H, W) masks; 1, True and 255 = anomalous.
        scores: scores of the same shape.

    Returns:
        The area, in [0, 1].

    Raises:
        ValueError: shapes differ, other labels, scores that are not finite numbers, or only one class.
    """
    from sklearn.metrics import roc_auc_score
    return float(roc_auc_score(*_checked(labels, scores)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Compute the average precision. Chance is the share of anomalous samples.

    Args:
        labels: (N,) labels, or (N, H, W) masks; 1, True and 255 = anomalous.
        scores: scores of the same shape.

    Returns:
        The average precision, in [0, 1].

    Raises:
        ValueError: shapes differ, other labels, scores that are not finite numbers, or only one class.
    """
    from sklearn.metrics import average_precision_score
    return float(average_precision_score(*_checked(labels, scores)))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Compute the highest F1 of all thresholds, and its threshold.

    The threshold is chosen with these labels. The F1 is therefore an upper bound, not an estimate for new images.

    Args:
        labels: (N,) labels, or (N, H, W) masks; 1, True and 255 = anomalous.
        scores: scores of the same shape.

    Returns:
        F1 in [0, 1], and the threshold in the unit of the scores; score >= threshold is anomalous.

    Raises:
        ValueError: shapes differ, other labels, scores that are not finite numbers, or only one class.
    """
    from sklearn.metrics import precision_recall_curve
    precision, recall, thresholds = precision_recall_curve(*_checked(labels, scores))
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))  # the last point, recall 0, has no threshold
    return float(f1[best]), float(thresholds[best])


class PixelRanking:
    """A ranking of all pixels of a test set, from which every pixel metric is computed exactly.

    TPR and PRO change only at scores of defect pixels, and the curves are linear in between. So it is enough to count
    the normal pixels above those scores. Sorting plain numbers once is much faster than sorting (score, label) pairs
    for every metric.

    Args:
        masks: (N, H, W) bool, or 0 and 1, or 0 and 255; True, 1 and 255 = defect. An empty mask adds normal pixels
            but no region.
        maps: (N, H, W) scores.
        unknown: (N, H, W) masks of the pixels to leave out; None if all pixels count.

    Raises:
        ValueError: shapes differ, masks of other values, non-finite maps, no defect pixel, or no normal pixel.
    """

    def __init__(self, masks: ArrayLike, maps: ArrayLike, unknown: ArrayLike | None = None):
        masks, maps, normal = _classes(masks, maps, unknown)
        normal = np.sort(maps[normal])
        defect, shares = maps[masks], region_shares(masks)
        order = np.argsort(-defect)
        ranked = defect[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # equal scores have one threshold
        self.thresholds = ranked[last]  # (T,) the distinct scores of defect pixels, descending
        self.normals = normal.size
        self.tp = last + 1  # (T,) defect pixels >= threshold: TP
        # (T,) PRO. float64: a float32 sum stops growing at 2**24 pixels.
        self.overlap = np.minimum(np.cumsum(shares[order], dtype=np.float64)[last], 1.0)
        self.fp = self.normals - np.searchsorted(normal, self.thresholds, side="left")  # normal >= threshold: FP
        self.fp_above = self.normals - np.searchsorted(normal, self.thresholds, side="right")

    def _curve(self, height: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Return fpr, `height` and thresholds at every corner: for each threshold just above it, and at it."""
        def corners(start: float, above: NDArray, at: NDArray, end: float) -> NDArray:
            return np.concatenate([[start], np.column_stack([above, at]).ravel(), [end]])
        return (corners(0, self.fp_above / self.normals, self.fp / self.normals, 1),
                corners(0, np.append(0, height[:-1]), height, 1),
                corners(np.inf, np.nextafter(self.thresholds, np.inf), self.thresholds, -np.inf))

    def roc_curve(self) -> tuple[NDArray, NDArray, NDArray]:
        """Compute the ROC curve: fpr, tpr and thresholds of its corners, float64; score >= threshold is anomalous."""
        return self._curve(self.tp / self.tp[-1])

    def pro_curve(self) -> tuple[NDArray, NDArray, NDArray]:
        """Compute the PRO curve: fpr, pro and thresholds of its corners, see the function `pro_curve`."""
        return self._curve(self.overlap)

    def auroc(self) -> float:
        """Compute the pixel AUROC, in [0, 1]."""
        return _area(*self.roc_curve()[:2])

    def average_precision(self) -> float:
        """Compute the pixel average precision, in [0, 1]."""
        precision = self.tp / (self.tp + self.fp)
        return float(np.sum(np.diff(self.tp, prepend=0) / self.tp[-1] * precision))

    def f1_max(self) -> tuple[float, float]:
        """Compute the highest pixel F1, in [0, 1], and its threshold, see the function `f1_max`."""
        f1 = 2 * self.tp / (self.tp + self.fp + self.tp[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    @checked
    def aupro(self, fpr_limit: float = 0.3) -> float:
        """Compute the area under the PRO curve up to `fpr_limit`, in [0, 1], see the function `aupro`.

        Raises ValueError for a limit outside (0, 1].
        """
        fpr, pro, _ = self.pro_curve()
        return area_up_to(fpr, pro, fpr_limit)


def label_regions(mask: ArrayLike) -> tuple[NDArray, int, NDArray]:
    """Find the regions of a mask: its 8-neighbor components.

    Args:
        mask: (H, W) bool with P True pixels.

    Returns:
        Regions, (H, W) int32: 0 for normal pixels, else the region's number from 1 on.
        The number of regions.
        Shares, (P,) float64: 1 / (area in pixels) of each True pixel's region, in the order of `image[mask]`.
    """
    components, count = numbered_regions(mask := as_truth(mask))
    return components, count, 1 / np.bincount(components.ravel())[components[mask]]


def region_shares(masks: ArrayLike) -> NDArray:
    """Compute the share of PRO that each defect pixel adds: 1 / (area of its region * number of regions).

    (N, H, W) bool with P True pixels -> (P,) float64, in the order of `maps[masks]`, sum 1.
    """
    _, counts, shares = zip(*(label_regions(mask) for mask in as_truth(masks) if mask.any()), strict=True)
    return np.concatenate(shares) / sum(counts)


def pro_curve(masks: ArrayLike, maps: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Compute the PRO curve: per-region overlap against false-positive rate (Bergmann et al., the MVTec AD paper).

    At each threshold, PRO is the mean of the regions' marked shares, over all 8-neighbor regions of all masks. FPR is
    the marked share of all normal pixels, those of good images included.

    Args:
        masks: (N, H, W) bool, or 0 and 1, or 0 and 255; True, 1 and 255 = defect.
        maps: (N, H, W) scores.

    Returns:
        fpr, pro, thresholds of the curve's corners: float64, from (0, 0) to (1, 1), thresholds descending.

    Raises:
        ValueError: shapes differ, masks of other values, non-finite maps, no defect pixel, or no normal pixel.
    """
    return PixelRanking(masks, maps).pro_curve()


def aupro(masks: ArrayLike, maps: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Compute the area under the PRO curve from FPR 0 to `fpr_limit`, divided by the limit (MVTec AD's definition).

    Exact: every distinct score is a threshold, and the curve is interpolated at the limit.

    Args:
        masks: (N, H, W) bool, or 0 and 1, or 0 and 255; True, 1 and 255 = defect.
        maps: (N, H, W) scores.
        fpr_limit: upper limit of the FPR, in (0, 1].

    Returns:
        The area, in [0, 1].

    Raises:
        ValueError: shapes differ, masks of other values, non-finite maps, no defect pixel, no normal pixel, or a limit
            outside (0, 1].
    """
    return PixelRanking(masks, maps).aupro(fpr_limit)


def area_up_to(fpr: ArrayLike, height: ArrayLike, fpr_limit: float) -> float:
    """Compute the area under a curve from FPR 0 to the limit, divided by the limit.

    Args:
        fpr: (K,) false-positive rates in [0, 1], ascending.
        height: (K,) values of the curve at these rates.
        fpr_limit: upper limit of the FPR, in (0, 1].

    Returns:
        The area, in [0, 1] for a curve in [0, 1].
    """
    return _area(*curve_up_to(fpr, height, fpr_limit)) / fpr_limit


def curve_up_to(fpr: ArrayLike, height: ArrayLike, fpr_limit: float) -> tuple[NDArray, NDArray]:
    """Cut a curve of (K,) ascending false-positive rates off at the limit, where it is interpolated."""
    fpr, height = as_array(fpr), as_array(height)
    inside = fpr <= fpr_limit
    return np.append(fpr[inside], fpr_limit), np.append(height[inside], np.interp(fpr_limit, fpr, height))


@checked
def aupro_per_image(masks: ArrayLike, maps: ArrayLike, n_thresholds: int = 200,
                    unknown: ArrayLike | None = None) -> float:
    """Compute the official code's PRO (test.py:356-382), to compare with the paper; not MVTec AD's definition.

    Each image with a mask has its own curve, over `n_thresholds` equal steps from its smallest to its largest score.
    Only points with FPR < 0.3 count, and the FPR axis is stretched until the last of them lies at 1. The result is the
    mean area over images. It ignores differences of scale between images, so it can be far higher than `aupro`.
    Images whose curve has no width, for which the official code fails, are left out.

    Args:
        masks: (N, H, W) bool, or 0 and 1, or 0 and 255; True, 1 and 255 = defect.
        maps: (N, H, W) scores.
        n_thresholds: number of steps of a curve, 1 or more.
        unknown: (N, H, W) masks of the pixels to leave out; None if all pixels count.

    Returns:
        The mean area, in [0, 1].

    Raises:
        ValueError: shapes differ, masks of other values, non-finite maps, no defect pixel, no normal pixel, no image
            whose curve has a width, or `n_thresholds` below 1.
    """
    masks, maps, normal = _classes(masks, maps, unknown)
    areas = [area for mask, scores, rest in zip(masks, maps, normal, strict=True) if mask.any()
             and (area := _official_area(mask, scores, rest, n_thresholds)) is not None]
    if not areas:
        raise ValueError("No image has both a mask and a PRO curve of any width. Use aupro, one curve for all images.")
    return float(np.mean(areas))


def _official_area(mask: NDArray, scores: NDArray, normal: NDArray, n_thresholds: int) -> float | None:
    known = scores[mask | normal]
    low, high = known.min(), known.max()
    if low == high:
        return None
    # In the map's own dtype; official maps are float64. Rounding decides whether np.arange adds a last threshold.
    thresholds = np.arange(low, high, (high - low) / n_thresholds, dtype=scores.dtype)
    fpr = _share_above(scores[normal], thresholds)
    components, count, _ = label_regions(mask)
    pro = np.mean([_share_above(scores[components == i], thresholds) for i in range(1, count + 1)], axis=0)
    kept = fpr < 0.3
    width = fpr[kept].max(initial=0)
    return _area(fpr[kept] / width, pro[kept]) if width > 0 and kept.sum() > 1 else None


def _area(x: NDArray, y: NDArray) -> float:
    from sklearn.metrics import auc
    return float(auc(x, y))


def _share_above(scores: NDArray, thresholds: NDArray) -> NDArray:
    """Compute, for each threshold, the share of scores above it."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="right") / max(scores.size, 1)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray, NDArray]:
    labels, scores, _ = _classes(labels, scores, None, pixels=False)
    return labels.ravel(), scores.ravel()


def _classes(truth: ArrayLike, scores: ArrayLike, unknown: ArrayLike | None,
             pixels: bool = True) -> tuple[NDArray, NDArray, NDArray]:
    """Check the input. Return where it is anomalous, the scores, and where it is normal; an unknown pixel is neither.

    Raises ValueError for shapes that differ, other values, or one class; of `pixels`, unless they are (N, H, W).
    """
    truth, scores = as_truth(truth), as_finite(scores, "scores")
    scores = scores.astype(np.result_type(scores.dtype, np.float32), copy=False)  # differences of integers may wrap
    hidden = np.zeros_like(truth) if unknown is None else as_truth(unknown)
    if pixels and scores.ndim != 3:
        raise ValueError(f"Maps must be (N, H, W), got {scores.shape}. Pass a single map as map[None].")
    if not truth.shape == scores.shape == hidden.shape:
        raise ValueError(f"Pass truth and scores of the same shape; got {truth.shape} and {scores.shape}.")
    truth, normal = truth & ~hidden, ~(truth | hidden)
    if not (truth.any() and normal.any()):
        raise ValueError(f"Both classes are needed, but all labels are {'anomalous' if truth.any() else 'normal'}.")
    return truth, scores, normal
