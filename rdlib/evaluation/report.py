"""Evaluate a model on a test set: one pass over the images gives a report with maps, scores and metrics."""
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from rdlib.anomaly_map import check_finite
from rdlib.datasets.samples import GOOD, AnomalyDataset, check_dataset
from rdlib.detector import Scorer
from rdlib.metrics import PixelRanking, aupro_per_image, auroc, average_precision, f1_max
from rdlib.threshold import agreed_size
from rdlib.utils.arrays import as_array, as_truth
from rdlib.utils.errors import NotFiniteError

METRICS = ("image_auroc", "pixel_auroc", "aupro")  # what the paper reports
ALL_METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro",
               "aupro_per_image")


@dataclass(repr=False)
class Report:
    """A model's predictions on a test set, with metrics computed on first access.

    Image metrics are NaN unless both classes are present. Pixel metrics are NaN unless the masks have normal and defect
    pixels.

    Args:
        dataset: the test set of N images.
        maps: (N, H, W) float32 array or tensor; higher is more anomalous.
        scores: (N,) float32 array or tensor; higher is more anomalous.
        masks: (N, H, W) bool array or tensor, True = defect.
        fpr_limit: upper limit of the FPR for AUPRO, in (0, 1].
        seconds: time for reading, prediction and smoothing, without the metrics.

    Raises:
        ValueError: masks have other values than bool, 0 and 1, or 0 and 255.
    """

    dataset: AnomalyDataset
    maps: NDArray
    scores: NDArray
    masks: NDArray
    fpr_limit: float
    seconds: float

    def __post_init__(self) -> None:
        self.maps, self.scores, self.masks = as_array(self.maps), as_array(self.scores), as_truth(self.masks)

    def __repr__(self) -> str:
        metrics = ", ".join(f"{name} {getattr(self, name):.3f}" for name in METRICS)
        return f"Report({len(self.labels)} images, {self.labels.sum()} of them anomalous, {metrics})"

    @property
    def labels(self) -> NDArray:
        """Return the labels (N,) int64: 0 normal, 1 anomalous."""
        return as_truth(self.dataset.labels).astype(np.int64)

    @property
    def defect_types(self) -> NDArray:
        """Return the defect types (N,) str, "good" for good images."""
        return np.array(self.dataset.defect_types)

    def image(self, index: int) -> NDArray:
        """Return a test image for matplotlib: (H, W, 3) float32 in [0, 1]."""
        return self.dataset[index].image.permute(1, 2, 0).numpy()

    @cached_property
    def _has_classes(self) -> bool:
        return len(set(self.labels)) == 2

    @cached_property
    def pixels(self) -> PixelRanking | None:
        """Rank all pixels for the pixel metrics and curves. None unless the masks have normal and defect pixels."""
        both = self.masks.any() and not self.masks.all()
        return PixelRanking(self.masks, self.maps) if self.dataset.has_masks and both else None

    @cached_property
    def image_auroc(self) -> float:
        """Compute the AUROC of the image scores."""
        return auroc(self.labels, self.scores) if self._has_classes else np.nan

    @cached_property
    def image_ap(self) -> float:
        """Compute the average precision of the image scores."""
        return average_precision(self.labels, self.scores) if self._has_classes else np.nan

    @cached_property
    def image_f1_max(self) -> float:
        """Compute the highest F1 over all thresholds on the image scores."""
        return f1_max(self.labels, self.scores)[0] if self._has_classes else np.nan

    @cached_property
    def pixel_auroc(self) -> float:
        """Compute the AUROC over all pixels, good images included."""
        return self.pixels.auroc() if self.pixels else np.nan

    @cached_property
    def pixel_ap(self) -> float:
        """Compute the average precision over all pixels."""
        return self.pixels.average_precision() if self.pixels else np.nan

    @cached_property
    def pixel_f1_max(self) -> float:
        """Compute the highest F1 over all thresholds on the pixels."""
        return self.pixels.f1_max()[0] if self.pixels else np.nan

    @cached_property
    def aupro(self) -> float:
        """Compute the exact AUPRO up to `fpr_limit`, as MVTec AD defines it."""
        return self.pixels.aupro(self.fpr_limit) if self.pixels else np.nan

    @cached_property
    def aupro_per_image(self) -> float:
        """Compute the official code's AUPRO per image. Compare it with the paper's AUPRO, not with `aupro`."""
        try:
            return aupro_per_image(self.masks, self.maps) if self.pixels else np.nan
        except ValueError:  # no image has a curve of any width: the maps are perfect, or flat
            return np.nan

    @property
    def metrics(self) -> dict[str, float]:
        """Return every metric by its name."""
        return {name: float(getattr(self, name)) for name in ALL_METRICS}

    def per_defect(self) -> pd.DataFrame:
        """Evaluate each defect type against all good images.

        Returns:
            One row per defect type. `images` counts its images; `image_auroc`, `pixel_auroc` and `aupro` are metrics.
        """
        rows = {}
        for kind in sorted(set(self.dataset.defect_types) - {GOOD}):
            part = self._only(np.flatnonzero((self.defect_types == kind) | (self.defect_types == GOOD)))
            rows[kind] = {"images": int((self.defect_types == kind).sum())} | {m: getattr(part, m) for m in METRICS}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defect")

    def _only(self, index: NDArray) -> "Report":
        dataset = AnomalyDataset([self.dataset.samples[i] for i in index], self.dataset.size, self.dataset.has_masks)
        return Report(dataset, self.maps[index], self.scores[index], self.masks[index], self.fpr_limit, self.seconds)


def evaluate(model: Scorer, dataset: AnomalyDataset | None, *, batch_size: int = 32, fpr_limit: float = 0.3,
             precision: str = "float32", num_workers: int = 0, progress: bool = True) -> Report:
    """Evaluate a model on a test set, in batches on the model's device.

    Args:
        model: `Detector` or `OnnxDetector`; its mode is restored afterwards.
        dataset: test images, with or without masks. If the model has a threshold, they must have its size.
        batch_size: images at a time. It affects speed and memory; results differ only by rounding.
        fpr_limit: upper limit of the FPR for AUPRO, in (0, 1]; MVTec AD uses 0.3.
        precision: precision of the networks: "float32", "bf16" or "auto". Maps and scores are always float32.
        num_workers: number of processes that read images.
        progress: show a progress bar.

    Returns:
        The report.

    Raises:
        ValueError: `dataset` is empty, no `AnomalyDataset` or of a wrong size, or `precision` is unknown.
        DataError: an image or mask cannot be read.
        NotFiniteError: maps or scores are NaN or infinite; the message names the images.
    """
    began = time.perf_counter()
    collate = None if dataset is None else check_dataset(dataset, test=True)
    if dataset is None or not len(dataset):
        raise ValueError("The test set has no images. Put them in test/good and test/NAME_OF_DEFECT beside train/good.")
    n, (height, width) = len(dataset), agreed_size(model.image_size, dataset.size)
    maps, scores = np.empty((n, height, width), np.float32), np.empty(n, np.float32)
    masks = np.empty((n, height, width), bool)
    loader = DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate, generator=torch.Generator())
    with tqdm(total=n, unit="image", desc="testing", disable=not progress, leave=False) as bar:
        for item in loader:
            where: Sequence[int] = item.index.numpy()
            try:
                predicted = model.predict(item.image, batch_size, precision)
                check_finite(*predicted)
            except NotFiniteError as error:
                bad = [int(where[i]) for i in error.indices]
                raise NotFiniteError(bad, [f"{i} ({dataset.samples[i].name})" for i in bad]) from None
            maps[where], scores[where], masks[where] = *map(as_array, predicted), as_truth(item.mask)
            bar.update(len(where))
    return Report(dataset, maps, scores, masks, fpr_limit, time.perf_counter() - began)
