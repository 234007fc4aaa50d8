"""Judging a model on a test set: one pass over the images, one report with maps, scores and every metric."""
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


@dataclass
class Report:
    """What a model said of a test set. Metrics are computed when first asked for, and NaN where they have no meaning:
    image metrics without both classes, pixel metrics unless the masks have both normal and defect pixels. Maps, scores
    and masks may be given as tensors."""

    dataset: AnomalyDataset
    maps: NDArray  # (N, H, W) float32, higher is more anomalous
    scores: NDArray  # (N,) float32, higher is more anomalous
    masks: NDArray  # (N, H, W) bool, True = defect
    fpr_limit: float  # of AUPRO
    seconds: float  # reading, prediction and smoothing, without the metrics

    def __post_init__(self) -> None:
        self.maps, self.scores, self.masks = as_array(self.maps), as_array(self.scores), as_truth(self.masks)

    @property
    def labels(self) -> NDArray:
        """(N,) int64: 0 normal, 1 anomalous."""
        return as_truth(self.dataset.labels).astype(np.int64)

    @property
    def defect_types(self) -> NDArray:
        """(N,) str: "good" or the kind of defect."""
        return np.array(self.dataset.defect_types)

    def image(self, index: int) -> NDArray:
        """The index-th test image as matplotlib shows it: (H, W, 3) float32 in [0, 1]."""
        return self.dataset[index].image.permute(1, 2, 0).numpy()

    @cached_property
    def _has_classes(self) -> bool:
        return len(set(self.labels)) == 2

    @cached_property
    def pixels(self) -> PixelRanking | None:
        """The ranking of all pixels, behind every pixel metric and curve; None without ground truth."""
        both = self.masks.any() and not self.masks.all()
        return PixelRanking(self.masks, self.maps) if self.dataset.has_masks and both else None

    @cached_property
    def image_auroc(self) -> float:
        """AUROC of the image scores."""
        return auroc(self.labels, self.scores) if self._has_classes else np.nan

    @cached_property
    def image_ap(self) -> float:
        """Average precision of the image scores."""
        return average_precision(self.labels, self.scores) if self._has_classes else np.nan

    @cached_property
    def image_f1_max(self) -> float:
        """The best F1 that any threshold on the image scores reaches."""
        return f1_max(self.labels, self.scores)[0] if self._has_classes else np.nan

    @cached_property
    def pixel_auroc(self) -> float:
        """AUROC over all pixels, good images included."""
        return self.pixels.auroc() if self.pixels else np.nan

    @cached_property
    def pixel_ap(self) -> float:
        """Average precision over all pixels."""
        return self.pixels.average_precision() if self.pixels else np.nan

    @cached_property
    def pixel_f1_max(self) -> float:
        """The best F1 that any threshold on the pixels reaches."""
        return self.pixels.f1_max()[0] if self.pixels else np.nan

    @cached_property
    def aupro(self) -> float:
        """Exact AUPRO up to `fpr_limit`, MVTec AD's definition."""
        return self.pixels.aupro(self.fpr_limit) if self.pixels else np.nan

    @cached_property
    def aupro_per_image(self) -> float:
        """The official code's per-image PRO, comparable with the paper's numbers and not with `aupro`."""
        try:
            return aupro_per_image(self.masks, self.maps) if self.pixels else np.nan
        except ValueError:  # no image has a curve of any width: the maps are perfect, or flat
            return np.nan

    METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro",
               "aupro_per_image")

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric by name."""
        return {name: float(getattr(self, name)) for name in self.METRICS}

    def per_defect(self) -> pd.DataFrame:
        """One row a kind of defect, judged against all good images: count, image AUROC, pixel AUROC, AUPRO."""
        rows = {}
        for kind in sorted(set(self.dataset.defect_types) - {GOOD}):
            part = self._only(np.flatnonzero((self.defect_types == kind) | (self.defect_types == GOOD)))
            rows[kind] = {"images": int((self.defect_types == kind).sum()), "image_auroc": part.image_auroc,
                          "pixel_auroc": part.pixel_auroc, "aupro": part.aupro}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defect")

    def _only(self, index: NDArray) -> "Report":
        dataset = AnomalyDataset([self.dataset.samples[i] for i in index], self.dataset.size, self.dataset.has_masks)
        return Report(dataset, self.maps[index], self.scores[index], self.masks[index], self.fpr_limit, self.seconds)


def evaluate(model: Scorer, dataset: AnomalyDataset, *, batch_size: int = 32, fpr_limit: float = 0.3,
             precision: str = "float32", num_workers: int = 0, progress: bool = True) -> Report:
    """Predict every image of a test set, in batches on the model's device, and report.

    Args:
        model: a `Detector`, left in the mode it was in, or an `OnnxDetector`.
        dataset: test images, with masks if there are any, of the size of the model's threshold, if there is one.
        batch_size: images at a time; it changes speed and memory, and the result by no more than rounding.
        fpr_limit: AUPRO's, in (0, 1]; 0.3 is MVTec AD's.
        precision: of the networks: "float32", "bf16" or "auto", as in `fit`; maps and scores are float32 all the same.
        num_workers: processes that read images.
        progress: show a progress bar.

    Raises:
        ValueError: an empty data set, one that is no `AnomalyDataset`, or images of another size.
        DataError: unreadable images or masks.
        NotFiniteError: maps or scores are NaN or infinite; the message names the images.
    """
    began = time.perf_counter()
    collate = None if dataset is None else check_dataset(dataset, test=True)
    if dataset is None or not len(dataset):
        raise ValueError("There are no test images. Put them in test/good and test/NAME_OF_DEFECT beside train/good.")
    n, (height, width) = len(dataset), agreed_size(model.threshold, dataset.size)
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
