"""Measure what a student does with defects, on drawn scenes and on the same scenes without their defects."""
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rdlib.anomaly_map import scale_maps
from rdlib.datasets.samples import AnomalyDataset, SceneSample
from rdlib.detector import Detector, Distillation, Features, eval_mode
from rdlib.model import ReverseDistillation


def good_twins(test: AnomalyDataset) -> tuple[AnomalyDataset, AnomalyDataset]:
    """Return the defective scenes of a drawn test set, and the same scenes without their defects, in the same order."""
    defective = test.subset(np.array(test.labels) == 1)
    twins = [replace(sample, scene=replace(sample.scene, defect=None)) for sample in defective.samples
             if isinstance(sample, SceneSample)]
    return defective, AnomalyDataset(twins, test.size)


def measure_on_twins(model: Detector, test: AnomalyDataset) -> dict[str, float]:
    """Compare a model's features of defective scenes and of their good twins.

    Inside the defects, d(a, b) is the distance between the teacher's features of a and the student's of b, see
    `scale_maps`, summed over scales, mean over pixels.

    Args:
        model: a trained teacher-student model.
        test: a test set of drawn scenes.

    Returns:
        "imitation" is 1 - d(defect, defect) / d(defect, twin): 0 if the student is blind to the defect, 1 if it follows
        the teacher. "floor" is d(twin, twin) / d(defect, twin): how far the student is from the teacher without any
        defect. Of a reverse student, "shift f3", "phi", "g3", "g2" and "g1" are how far a defect moves the teacher's
        t3, the embedding and the student's features, as a multiple of the distance between two good scenes. The
        result is empty for other models and data.
    """
    defective, twins = good_twins(test)
    if not isinstance(model, Distillation) or not 1 < len(twins) == len(defective):
        return {}
    distances, layers = list[Tensor](), list[list[list[Tensor]]]()
    for batch in torch.arange(len(twins)).split(25):
        images = [torch.stack([part[i].image for i in batch.tolist()]).to(model.device) for part in (defective, twins)]
        inside = torch.stack([defective[i].mask for i in batch.tolist()])
        with eval_mode(model, model.device):
            (teacher, seeing), (own, blind) = map(model, images)
            pairs: tuple[tuple[Features, Features], ...] = (teacher, seeing), (teacher, blind), (own, blind)
            distances.append(torch.stack([scale_maps(*pair, images[0].shape[-2:]).sum(1).cpu()[inside]
                                          for pair in pairs]))
            if isinstance(model, ReverseDistillation):
                moved = [(own[2], teacher[2]), (model.ocbe(own), model.ocbe(teacher)),
                         *((blind[i], seeing[i]) for i in (2, 1, 0))]
                layers.append([[each.flatten(1).cpu() for each in pair] for pair in moved])
    both, apart, floor = torch.cat(distances, dim=1).double().mean(1).tolist()
    shifts = {name: _shift_over_spread(*map(torch.cat, zip(*(part[k] for part in layers), strict=True)))
              for k, name in enumerate(("f3", "phi", "g3", "g2", "g1")) if layers}
    return {"imitation": 1 - both / apart, "floor": floor / apart,
            **{f"shift {name}": value for name, value in shifts.items()}}


def _shift_over_spread(good: Tensor, bad: Tensor) -> float:
    """Divide the root mean square distance of (N, D) pairs by that between two good scenes."""
    n, shift = len(good), (bad - good).square().sum(1).mean()
    return (shift / (torch.cdist(good, good).square().sum() / (n * (n - 1)))).sqrt().item()
