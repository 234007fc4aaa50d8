"""One threshold on a test set: the confusion matrix of its images, and the share of its pixels that is marked."""
from dataclasses import dataclass

import numpy as np

from rdlib.evaluation.report import Report
from rdlib.utils.arrays import as_finite


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold on maps and scores does to a test set (a value >= threshold is called anomalous)."""

    threshold: float
    tp: int  # anomalous images called anomalous
    fn: int  # anomalous images called normal
    fp: int  # good images called anomalous
    tn: int  # good images called normal
    pixel_fpr: float  # share of the normal pixels marked; NaN without masks
    pro: float  # mean share of the true regions marked; NaN without masks

    @property
    def tpr(self) -> float:
        """Share of the anomalous images called anomalous; NaN where there are none."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else np.nan

    @property
    def fpr(self) -> float:
        """Share of the good images called anomalous; NaN where there are none."""
        good = self.fp + self.tn
        return self.fp / good if good else np.nan


def operating_point(report: Report, threshold: float) -> OperatingPoint:
    """Confusion matrix of the images, and the points on ROC and PRO curve, at one threshold on maps and scores.

    Raises ValueError where scores are not the maps' maxima: one threshold cannot serve both then.
    """
    if not np.allclose(as_finite(report.scores, "scores"), report.maps.max((1, 2)), rtol=1e-4):
        raise ValueError("One threshold serves pixels and images only where the score is the map's maximum: build the "
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
