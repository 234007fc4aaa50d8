"""Compute an operating point: the confusion matrix of a test set at one threshold, and the marked pixels."""
from dataclasses import dataclass

import numpy as np

from rdlib.evaluation.report import Report
from rdlib.utils.arrays import as_finite


@dataclass(frozen=True)
class OperatingPoint:
    """The results of one threshold on maps and scores of a test set. A value >= threshold is called anomalous.

    Args:
        threshold: the threshold, in the unit of maps and scores.
        tp: number of anomalous images called anomalous.
        fn: number of anomalous images called normal.
        fp: number of good images called anomalous.
        tn: number of good images called normal.
        pixel_fpr: marked share of the normal pixels, in [0, 1]; NaN without masks.
        pro: marked share of a true region, in [0, 1], averaged over regions; NaN without masks.
    """

    threshold: float
    tp: int
    fn: int
    fp: int
    tn: int
    pixel_fpr: float
    pro: float

    @property
    def tpr(self) -> float:
        """Compute the share of anomalous images called anomalous; NaN without anomalous images."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else np.nan

    @property
    def fpr(self) -> float:
        """Compute the share of good images called anomalous; NaN without good images."""
        return self.fp / (self.fp + self.tn) if self.fp + self.tn else np.nan


def operating_point(report: Report, threshold: float) -> OperatingPoint:
    """Compute the confusion matrix of the images, and the points on the ROC and the PRO curve, at one threshold.

    Args:
        report: predictions of a model with score "max".
        threshold: threshold for both maps and scores, in their unit.

    Returns:
        The operating point.

    Raises:
        ValueError: the scores are not the maxima of the maps, or scores or maps hold NaN or infinity.
    """
    if not np.allclose(as_finite(report.scores, "scores"), report.maps.max((1, 2)), rtol=1e-4):
        raise ValueError("These scores are not the maxima of the maps, so one threshold cannot serve images and "
                         "pixels. Build the model with score='max'.")
    bad, called = report.labels == 1, report.scores >= threshold
    pixel_fpr = pro = np.nan
    if ranking := report.pixels:
        rank = int(np.searchsorted(-ranking.thresholds, -threshold, side="right"))
        marked_defect = ranking.tp[rank - 1] if rank else 0
        pro = float(ranking.overlap[rank - 1]) if rank else 0.0
        pixel_fpr = float((np.count_nonzero(report.maps >= threshold) - marked_defect) / ranking.normals)
    return OperatingPoint(float(threshold), int((bad & called).sum()), int((bad & ~called).sum()),
                          int((~bad & called).sum()), int((~bad & ~called).sum()), pixel_fpr, pro)
