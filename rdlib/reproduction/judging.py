"""Judge a trained model: its metrics by every way to score the maps, on resampled test images too, and its scores."""
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from rdlib.anomaly_map import SCALES, fuse, gaussian_smooth, image_score
from rdlib.datasets.samples import AnomalyDataset
from rdlib.detector import Detector, Distillation
from rdlib.evaluation.bootstrap import resampled_metrics
from rdlib.evaluation.report import METRICS, Report, evaluate
from rdlib.reproduction.measures import measure_on_twins
from rdlib.reproduction.record import RESAMPLES
from rdlib.training.run import MovingAverage

SCALE_SETS = {"".join(map(str, scales)): scales for n in SCALES for scales in combinations(SCALES, n)}
MAIN = "123"  # the paper's anomaly map: all scales, added, smoothed
AVERAGED = f"{MAIN} averaged"  # the same, with the averaged weights of a run with `ema`


def judge(model: Detector, test: AnomalyDataset, average: MovingAverage | None) -> dict[str, Any]:
    """Evaluate a trained model. Return the parts of a result from "metrics" to "measures", see `execute`.

    With an average, the model holds the averaged weights before, and those of the last step afterwards.
    """
    averaged = {}
    if average:
        averaged = {AVERAGED: evaluate(model, test, progress=False)}
        average.swap()
    reports = evaluate_all(model, test) | averaged
    report = reports[MAIN]
    shown = {name: {metric: getattr(each, metric) for metric in METRICS} for name, each in reports.items()}
    resampled = {name: {metric: np.round(1e4 * values[1:]).astype(int).tolist() for metric, values in
                        resampled_metrics(each, RESAMPLES).items()} for name, each in reports.items()}
    return {"metrics": report.metrics, "per_defect": report.per_defect().to_dict(orient="index"), "scored_by": shown,
            "bootstrap": resampled, "scores": _scores_by_type(report), "measures": measure_on_twins(model, test)}


def evaluate_all(model: Detector, test: AnomalyDataset) -> dict[str, Report]:
    """Evaluate one trained model by every way to score its maps.

    The names are the sets of scales, "1" to "123", then "123 multiply" (maps multiplied) and "123 unsmoothed". The
    other image score is "123 sum" or "123 max". A memory bank has only "123".
    """
    evaluated = evaluate(model, test, progress=False)
    if not isinstance(model, Distillation):
        return {MAIN: evaluated}
    maps = torch.cat([model.scale_maps(item.image).cpu() for item in DataLoader(test, 32, generator=torch.Generator())])

    def report(scales: tuple[int, ...] = SCALES, fusion: str = "add", sigma: float = model.config.sigma,
               score: str = model.config.score) -> Report:
        fused = torch.cat([gaussian_smooth(fuse(part, fusion, scales), sigma) for part in maps.split(32)])
        return replace(evaluated, maps=fused.numpy(), scores=image_score(fused, score).numpy())

    other = "sum" if model.config.score == "max" else "max"
    return {name: report(scales) for name, scales in SCALE_SETS.items()} | {
        f"{MAIN} multiply": report(fusion="multiply"), f"{MAIN} unsmoothed": report(sigma=0),
        f"{MAIN} {other}": report(score=other)}


def _scores_by_type(report: Report) -> dict[str, list[float]]:
    """Return the image scores of each defect type in the order of the test set, as decimals that give the float32."""
    return {kind: [float(str(score)) for score in report.scores[report.defect_types == kind]]
            for kind in dict.fromkeys(report.defect_types.tolist())}
