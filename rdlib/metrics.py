"""How good scores and maps are (paper §4): AUROC, average precision, F1, and PRO, exact over the whole test set.

Truth comes first and scores second, as in scikit-learn. Both are (N,) for images or (N, H, W) for pixels, as arrays,
lists or tensors of any device and dtype. Labels are bool or 0 and 1; masks may also be 0 and 255. Higher scores are
more anomalous. Anything else, and scores that are NaN or infinite, is a ValueError.

scikit-learn is imported by the functions that need it: that is slow, and neither training nor predicting needs it.
"""
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label as connected_components

from rdlib.utils.arrays import as_finite, as_truth

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance. Raises ValueError unless both classes are there."""
    from sklearn.metrics import roc_auc_score
    return float(roc_auc_score(*_checked(labels, scores)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Precision averaged over recall, in [0, 1]; chance is the share of positives. Raises as `auroc`."""
    from sklearn.metrics import average_precision_score
    return float(average_precision_score(*_checked(labels, scores)))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """The highest F1 that any threshold reaches, in [0, 1], and that threshold (score >= threshold is anomalous).

    The threshold is chosen on the labels it is judged by, so this is an upper bound, not a forecast. Raises as `auroc`.
    """
    from sklearn.metrics import precision_recall_curve
    precision, recall, thresholds = precision_recall_curve(*_checked(labels, scores))
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))  # the last point, recall 0, belongs to no threshold
    return float(f1[best]), float(thresholds[best])


class PixelRanking:
    """Every threshold metric of a set of maps from one ranking of its pixels, exact, in seconds for a whole test set.

    A curve over thresholds rises only at scores that some defect pixel has; between two of them it runs straight. So
    the normal pixels need only be counted above those scores: one sort of plain numbers and a binary search, where
    sorting (score, label) pairs once per metric takes about ten times as long.

    Args:
        masks: (N, H, W), see above; True = defect. An empty mask adds no region.
        maps: (N, H, W) scores.

    Raises:
        ValueError: shapes that differ, masks of other values, non-finite maps, no defect pixel, or no normal pixel.
    """

    def __init__(self, masks: ArrayLike, maps: ArrayLike):
        masks, maps = _checked(masks, maps, flat=False)
        normal = np.sort(maps[~masks])
        defect, shares = maps[masks], region_shares(masks)
        order = np.argsort(-defect)
        ranked = defect[order]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # equal scores fall together
        self.thresholds = ranked[last]  # (T,) the distinct scores of defect pixels, falling
        self.normals = normal.size
        self.tp = last + 1  # (T,) defect pixels >= threshold
        # PRO at each threshold. float64: a float32 sum would stop counting at 2**24 pixels.
        self.overlap = np.minimum(np.cumsum(shares[order], dtype=np.float64)[last], 1.0)
        self.fp = self.normals - np.searchsorted(normal, self.thresholds, side="left")  # normal >= threshold
        self.fp_above = self.normals - np.searchsorted(normal, self.thresholds, side="right")

    def _curve(self, height: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """fpr, `height` and thresholds at every corner: each threshold has the points just before and at its rise."""
        points = 2 * len(self.thresholds)
        fpr, rise, thresholds = np.zeros(points + 2), np.zeros(points + 2), np.empty(points + 2)
        fpr[1:-1:2], fpr[2:-1:2] = self.fp_above / self.normals, self.fp / self.normals
        rise[3:-1:2], rise[2:-1:2] = height[:-1], height
        thresholds[1:-1:2], thresholds[2:-1:2] = np.nextafter(self.thresholds, np.inf), self.thresholds
        fpr[-1], rise[-1], thresholds[0], thresholds[-1] = 1.0, 1.0, np.inf, -np.inf
        return fpr, rise, thresholds

    def roc_curve(self) -> tuple[NDArray, NDArray, NDArray]:
        """fpr, tpr, thresholds of the ROC curve's corners, float64; a score >= threshold is called anomalous."""
        return self._curve(self.tp / self.tp[-1])

    def pro_curve(self) -> tuple[NDArray, NDArray, NDArray]:
        """fpr, pro, thresholds of the PRO curve's corners, see `pro_curve`."""
        return self._curve(self.overlap)

    def auroc(self) -> float:
        """Pixel AUROC, in [0, 1]."""
        return _area(*self.roc_curve()[:2])

    def average_precision(self) -> float:
        """Pixel average precision, in [0, 1]."""
        precision = self.tp / (self.tp + self.fp)
        return float(np.sum(np.diff(self.tp, prepend=0) / self.tp[-1] * precision))

    def f1_max(self) -> tuple[float, float]:
        """The highest pixel F1 and its threshold, see `f1_max`."""
        f1 = 2 * self.tp / (self.tp + self.fp + self.tp[-1])
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def aupro(self, fpr_limit: float = 0.3) -> float:
        """Area under PRO against FPR up to `fpr_limit`, see `aupro`."""
        if not 0 < fpr_limit <= 1:
            raise ValueError(f"fpr_limit is a share of the normal pixels, in (0, 1]; got {fpr_limit}.")
        fpr, pro, _ = self.pro_curve()
        return area_up_to(fpr, pro, fpr_limit)


def region_shares(masks: NDArray) -> NDArray:
    """What each defect pixel adds to PRO when it is marked: 1 / (area of its region * number of regions).

    (N, H, W) bool with P True pixels -> (P,) float64, in the order of `maps[masks]`, summing to 1.
    """
    shares, regions = [], 0
    for mask in masks[masks.any(axis=(1, 2))]:
        components, count = connected_components(mask, EIGHT_NEIGHBOURS)
        areas = np.bincount(components.ravel())
        shares.append(1 / areas[components[mask]])
        regions += count
    return np.concatenate(shares) / regions


def pro_curve(masks: ArrayLike, maps: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """The per-region overlap against the false-positive rate (Bergmann et al., the MVTec AD paper).

    At each threshold, PRO is the mean over all ground-truth regions (8-neighbour components of every mask) of the share
    of the region that is marked; FPR is the share of all normal pixels that is marked, good images included.

    Returns:
        fpr, pro, thresholds of the curve's corners: float64, from (0, 0) to (1, 1), thresholds falling.

    Arguments and errors as in `PixelRanking`.
    """
    return PixelRanking(masks, maps).pro_curve()


def aupro(masks: ArrayLike, maps: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Area under PRO against FPR up to `fpr_limit`, divided by it: in [0, 1], MVTec AD's definition.

    Exact: every distinct score is a threshold, and a point is interpolated at the limit itself. Arguments and errors
    as in `PixelRanking`; also ValueError for a limit outside (0, 1].
    """
    return PixelRanking(masks, maps).aupro(fpr_limit)


def area_up_to(fpr: NDArray, pro: NDArray, fpr_limit: float) -> float:
    """The curve's area from FPR 0 to `fpr_limit`, cut exactly there, divided by the limit."""
    inside = fpr <= fpr_limit
    x, y = np.append(fpr[inside], fpr_limit), np.append(pro[inside], np.interp(fpr_limit, fpr, pro))
    return _area(x, y) / fpr_limit


def aupro_per_image(masks: ArrayLike, maps: ArrayLike, n_thresholds: int = 200) -> float:
    """The official code's PRO (test.py:356-382), for comparison with the paper's numbers; not MVTec AD's definition.

    One curve per image that has a mask, between that image's own smallest and largest score in `n_thresholds` equal
    steps; points with FPR < 0.3 only, none at 0.3, and the FPR axis stretched so that the largest one left becomes 1;
    then the mean over images. A scale that differs between images goes unnoticed, so it can read far higher than
    `aupro`. An image whose curve has no width, where the official code fails, is left out.

    Arguments and errors as in `pro_curve`.
    """
    masks, maps = _checked(masks, maps, flat=False)
    areas = [_official_area(mask, scores, n_thresholds) for mask, scores in zip(masks, maps, strict=True) if mask.any()]
    areas = [area for area in areas if area is not None]
    if not areas:
        raise ValueError("No image has both a mask and a PRO curve of any width.")
    return float(np.mean(areas))


def _official_area(mask: NDArray, scores: NDArray, n_thresholds: int) -> float | None:
    low, high = scores.min(), scores.max()
    if low == high:
        return None
    # np.arange in the map's own dtype, as there: rounding decides whether a last threshold is added.
    thresholds = np.arange(low, high, (high - low) / n_thresholds, dtype=scores.dtype)
    fpr = _share_above(scores[~mask], thresholds)
    components, count = connected_components(mask, EIGHT_NEIGHBOURS)
    pro = np.mean([_share_above(scores[components == i], thresholds) for i in range(1, count + 1)], axis=0)
    kept = fpr < 0.3
    width = fpr[kept].max(initial=0)
    return _area(fpr[kept] / width, pro[kept]) if width > 0 else None


def _area(x: NDArray, y: NDArray) -> float:
    from sklearn.metrics import auc
    return float(auc(x, y))


def _share_above(scores: NDArray, thresholds: NDArray) -> NDArray:
    """For each threshold, the share of scores that exceed it."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="right") / max(scores.size, 1)


def _checked(labels: ArrayLike, scores: ArrayLike, flat: bool = True) -> tuple[NDArray, NDArray]:
    labels, scores = as_truth(labels), as_finite(scores, "scores")
    scores = scores.astype(np.result_type(scores.dtype, np.float32), copy=False)  # differences of integers may wrap
    if not flat and scores.ndim != 3:
        raise ValueError(f"Maps must be (N, H, W), got {scores.shape}. Give a single map as map[None].")
    if labels.shape != scores.shape:
        raise ValueError(f"Truth and scores must agree in shape: {labels.shape} against {scores.shape}.")
    if labels.all() or not labels.any():
        raise ValueError(f"Both classes are needed, but every label is {'anomalous' if labels.any() else 'normal'}. "
                         "Add good and defective test images.")
    return (labels.ravel(), scores.ravel()) if flat else (labels, scores)
