"""Compute an operating point: the confusion matrix of a test set at one threshold, and the marked pixels."""
from dataclasses import dataclass

import numpy as np

from rdlib.evaluation.report import Report
from rdlib.utils.arrays import as_finite


@dataclass(frozen=True)
class OperatingPoint:
    """Results of one threshold on maps and scores of a test set. A value >= threshold is called anomalous."""

    threshold: float
    tp: int  # anomalous images called anomalous
    fn: int  # anomalous images called normal
    fp: int  # good images called anomalous
    tn: int  # good images called normal
    pixel_fpr: float  # marked share of the normal pixels; NaN without masks
    pro: float  # marked share of a true region, averaged over regions; NaN without masks

    @property
    def tpr(self) -> float:
        """Compute the share of the anomalous images called anomalous; NaN without any."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else np.nan

    @property
    def fpr(self) -> float:
        """Compute the share of the good images called anomalous; NaN without any."""
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else np.nan


def operating_point(report: Report, threshold: float) -> OperatingPoint:
    """Compute the confusion matrix of the images, and the points on ROC and PRO curve, at one threshold.

    Args:
        report: predictions of a model with score "max".
        threshold: threshold for both maps and scores.

    Returns:
        The operating point.

    Raises:
        ValueError: the scores are not the maxima of the maps, so that one threshold cannot serve both.
    """
    if not np.allclose(as_finite(report.scores, "scores"), report.maps.max((1, 2)), rtol=1e-4):
        raise ValueError("One threshold serves pixels and images only if the score is the map's maximum. Build the "
                         "model with score='max'.")
    bad, called = report.labels == 1, report.scores >= threshold
    pixel_fpr = pro = np.nan
    if ranking := report.pixels:
        rank = int(np.searchsorted(-ranking.thresholds, -threshold, side="right"))
        marked_defect = ranking.tp[rank - 1] if rank else 0
        pro = float(ranking.overlap[rank - 1]) if rank else 0.0
        pixel_fpr = float((np.count_nonzero(report.maps >= threshold) - marked_defect) / ranking.normals)
    return OperatingPoint(float(threshold), int((bad & called).sum()), int((bad & ~called).sum()),
                          int((~bad & called).sum()), int((~bad & ~called).sum()), pixel_fpr, pro)
