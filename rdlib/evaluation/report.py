"""Evaluate a model on a test set: one pass over the images gives a report with maps, scores and metrics."""
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from rdlib.anomaly_map import check_finite
from rdlib.datasets.items import ItemSample, Seeded, check_dataset, known_samples, labelled_item, read_with, unpacked
from rdlib.datasets.samples import GOOD, AnomalyDataset
from rdlib.datasets.workers import read_batches
from rdlib.detector import Scorer
from rdlib.evaluation.original import SIZES, at_original, check_at
from rdlib.metrics import PixelRanking, aupro_per_image, auroc, average_precision, f1_max
from rdlib.threshold import agreed_size
from rdlib.utils.arrays import as_array, as_finite, as_size, as_truth
from rdlib.utils.display import Shown
from rdlib.utils.errors import DataError, NotFiniteError, check_choice, check_number, checked
from rdlib.utils.files import written_atomically

METRICS = ("image_auroc", "pixel_auroc", "aupro")  # what the paper reports
ALL_METRICS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro",
               "aupro_per_image")
STORED = ("maps", "scores", "masks", "fpr_limit", "seconds", "unknown")  # fields in a report's file


def _of_images(metric: Callable[[NDArray, NDArray], float]) -> cached_property[float]:
    """Define a metric of labels and scores; NaN unless both classes are present."""
    return cached_property(lambda own: metric(own.labels, own.scores) if 0 < own.labels.mean() < 1 else np.nan)


def _of_pixels(metric: Callable[[PixelRanking], float]) -> cached_property[float]:
    """Define a metric of the ranked pixels; NaN without `Report.pixels`."""
    return cached_property(lambda report: metric(report.pixels) if report.pixels else np.nan)


@dataclass(repr=False)
class Report(Shown):
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
        threshold: the model's threshold for the scores, if it has one.
        unknown: (N, H, W) bool array or tensor, True where pixel metrics leave a pixel out; None: nowhere.
        at: "model", or "original" for pixel metrics at the files' own sizes, see `evaluate`. The arrays have the
            model's size in both cases. Pixel metrics read the files.

    Raises:
        ValueError: masks have other values than bool, 0 and 1, or 0 and 255; the shapes or numbers of images differ;
            the limit lies outside (0, 1]; or `at` is unknown or does not fit the test set.
    """

    dataset: AnomalyDataset
    maps: NDArray
    scores: NDArray
    masks: NDArray
    fpr_limit: float
    seconds: float
    threshold: float | None = None
    unknown: NDArray = None  # type: ignore[assignment]  # replaced in __post_init__
    at: str = "model"

    def __post_init__(self) -> None:
        self.maps, self.scores, self.masks = as_array(self.maps), as_array(self.scores), as_truth(self.masks)
        self.unknown = np.zeros_like(self.masks) if self.unknown is None else as_truth(self.unknown)
        self.fpr_limit = check_number("fpr_limit", self.fpr_limit, "(0, 1]")
        check_at(self.at, self.dataset)
        n, shapes = len(self.labels), [each.shape for each in (self.maps, self.masks, self.unknown, self.scores)]
        if len(shapes[0]) != 3 or shapes != [(n, *shapes[0][1:])] * 3 + [(n,)]:
            raise ValueError(f"A report of {n} images needs maps, masks and unknown ({n}, H, W) and scores ({n},); got "
                             f"{', '.join(map(str, shapes))}. Pass those of the same images.")

    def summary(self) -> dict[str, object]:
        """Return what `repr` shows."""
        shown = {name: f"{getattr(self, name):.3f}" for name in METRICS if not np.isnan(getattr(self, name))}
        hidden = self.unknown.any((1, 2)).sum() if self.dataset.has_masks else 0
        return {"images": f"{len(self.labels)}, {self.labels.sum()} of them anomalous", **shown,
                "at": "original, the sizes of the files" if self.at == "original" else None,
                "unknown": f"{hidden} of {len(self.masks)} masks, in part or whole" if hidden else None,
                "threshold": None if self.threshold is None else f"{self.threshold:.4g}"}

    @property
    def labels(self) -> NDArray:
        """Return the labels (N,) int64: 0 normal, 1 anomalous."""
        return as_truth(self.dataset.labels).astype(np.int64)

    @property
    def defect_types(self) -> NDArray:
        """Return the defect types (N,) str, "good" for good images."""
        return np.array(self.dataset.defect_types)

    def table(self) -> pd.DataFrame:
        """Return one row an image: name, defect type, score and, with a threshold, whether it is called anomalous."""
        names = [sample.name for sample in self.dataset.samples]
        table = pd.DataFrame({"name": names, "defect": self.defect_types, "score": self.scores})
        return table if self.threshold is None else table.assign(anomalous=self.scores.astype(float) >= self.threshold)

    def save(self, path: str | Path) -> None:
        """Save everything but the images atomically to one compressed NumPy file (.npz).

        Other programs read it with numpy.load. The threshold is NaN if there is none.
        """
        arrays = {name: getattr(self, name) for name in ("labels", "defect_types", *STORED)}
        with written_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays, names=self.table()["name"].tolist(), has_masks=self.dataset.has_masks,
                                at=self.at, threshold=np.array(self.threshold, np.float64))

    @classmethod
    def load(cls, path: str | Path, dataset: Dataset | DataLoader | None = None) -> "Report":
        """Read a report that `save` wrote. A foreign file can hold numbers but no code.

        Args:
            path: the file.
            dataset: the test set, as for `evaluate`; None if its images, which the file lacks, are not needed. A report
                at="original" needs it for its pixel metrics.

        Returns:
            The report.

        Raises:
            DataError: the file is missing, damaged or no report, or `dataset` has other images.
            ValueError: `dataset` is empty or of another form, or it lacks the mask files that at="original" needs.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                maps, scores, masks, limit, seconds, unknown = (file[name] for name in STORED)
                names, kinds, truth = (file[name] for name in ("names", "defect_types", "labels"))
                has_masks, threshold, at = file["has_masks"], file["threshold"].item(), file["at"].item()
                known = [*zip(names.tolist(), kinds.tolist(), strict=True)]
                dtypes = [each.dtype.kind for each in (masks, unknown, has_masks, names, kinds)]
                if dtypes != [*"bbbUU"] or not maps.size or truth.ndim != 1 or ((kinds != GOOD) != truth).any():
                    raise ValueError("masks that are not bool, no names, or labels that contradict the defect types")
                as_finite(maps, "maps"), as_finite(scores, "scores")
                check_choice("at", at, SIZES)
                threshold = None if threshold != threshold else check_number("threshold", threshold, "(-inf, inf)")
                size, outlined = maps.shape[1:], has_masks.item()
                report = cls(AnomalyDataset([ItemSample(*pair) for pair in known], size, outlined), maps, scores, masks,
                             limit.item(), check_number("seconds", seconds.item(), "[0, inf)"), threshold, unknown)
        except Exception as error:  # errors about damaged files have no common base
            raise DataError(f"{path} cannot be read as a report ({error!r}). Check it, or save it again.") from error
        if dataset is not None:
            dataset = unpacked(dataset)[0] if isinstance(dataset, DataLoader) else dataset
            check_dataset(dataset, labelled_item)
            items = Seeded(dataset, 0, labelled_item)
            labels = (items[index].label for index in range(len(items)))
            report.dataset = test = known_samples(dataset) or AnomalyDataset(items.samples(labels), size, outlined)
            found, here = tuple(items[0].image.shape[1:]), [(sample.name, sample.defect) for sample in test.samples]
            if (found, here) != (size, known):
                raise DataError(f"{path} belongs to another test set: {len(known)} images of {size} there, {len(here)} "
                                f"of {found} here; or names, defect types or their order differ.")
        return replace(report, at=at)

    def image(self, index: int) -> NDArray:
        """Return a test image for matplotlib: (H, W, 3) float32 in [0, 1]."""
        return self.dataset[index].image.permute(1, 2, 0).numpy()

    def pixel_arrays(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return what pixel metrics are computed from: masks, maps and unknown pixels, each (N, H, W), see `at`."""
        return at_original(self.dataset, self.maps) if self.at == "original" else (self.masks, self.maps, self.unknown)

    @cached_property
    def pixels(self) -> PixelRanking | None:
        """Rank all known pixels for the pixel metrics and curves. None unless they hold normal and defect pixels."""
        masks, maps, unknown = self.pixel_arrays()
        known = masks[~unknown]
        both = known.any() and not known.all()
        return PixelRanking(masks, maps, unknown) if self.dataset.has_masks and both else None

    # AUROC, average precision, and the highest F1 of all thresholds: of the image scores, and of all known pixels
    image_auroc = _of_images(auroc)
    image_ap = _of_images(average_precision)
    image_f1_max = _of_images(lambda labels, scores: f1_max(labels, scores)[0])
    pixel_auroc = _of_pixels(PixelRanking.auroc)
    pixel_ap = _of_pixels(PixelRanking.average_precision)
    pixel_f1_max = _of_pixels(lambda pixels: pixels.f1_max()[0])

    @cached_property
    def aupro(self) -> float:
        """Compute the exact AUPRO up to `fpr_limit`, as MVTec AD defines it."""
        return self.pixels.aupro(self.fpr_limit) if self.pixels else np.nan

    @cached_property
    def aupro_per_image(self) -> float:
        """Compute the official code's AUPRO per image. Compare it with the paper's AUPRO, not with `aupro`."""
        if self.pixels is None:
            return np.nan
        masks, maps, unknown = self.pixel_arrays()
        try:
            return aupro_per_image(masks, maps, unknown=unknown)
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
            index = np.flatnonzero((self.defect_types == kind) | (self.defect_types == GOOD))
            part = replace(self, dataset=self.dataset.subset(index), maps=self.maps[index], scores=self.scores[index],
                           masks=self.masks[index], unknown=self.unknown[index])
            rows[kind] = {"images": int((self.defect_types == kind).sum())} | {m: getattr(part, m) for m in METRICS}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("defect")


@checked
def evaluate(model: Scorer, dataset: Dataset | DataLoader | None, *, batch_size: int = 32, fpr_limit: float = 0.3,
             precision: str = "float32", num_workers: int = 0, progress: bool = True,
             at: Literal["model", "original"] = "model") -> Report:
    """Evaluate a model on a test set, in batches on the model's device. Warn if its training is unfinished.

    Args:
        model: `Detector` or `OnnxDetector`; its mode is restored afterwards.
        dataset: test images, with or without masks, of the size that the model was trained at: an `AnomalyDataset`, or
            another map-style data set whose items have a label (and a mask), such as a `Subset` or `ConcatDataset`. Of
            a `DataLoader`, the data set, its order, the batch size and the number of workers are used.
        batch_size: images at a time. It affects speed and memory; results differ only by rounding.
        fpr_limit: upper limit of the FPR for AUPRO, in (0, 1]; MVTec AD uses 0.3.
        precision: precision of the networks: "float32", "bf16" or "auto". Maps and scores are always float32.
        num_workers: number of processes that read images.
        progress: show a progress bar.
        at: size of masks and maps for pixel metrics. "model" resizes masks to the maps' size. "original" is MVTec AD's
            own protocol: masks keep the size of their file, and maps are resized to it bilinearly, as the images were.
            It needs files. Image scores are the same.

    Returns:
        The report.

    Raises:
        ValueError: `dataset` is empty, of another form or of a wrong size; `precision` or `at` is unknown; or
            at="original" lacks mask files.
        DataError: an image or mask cannot be read.
        NotFiniteError: maps or scores are NaN or infinite; the message names the images.
    """
    began = time.perf_counter()
    model.warn_if_unfinished("evaluated")
    if isinstance(dataset, DataLoader):
        dataset, batch_size, num_workers = unpacked(dataset)
    found: Any = [] if dataset is None else read_with(dataset, model.config.white)
    collate, test = check_dataset(found, labelled_item), known_samples(found)
    check_at(at, test)
    items = Seeded(found if test is None else test, 0, labelled_item)
    n, size = len(items), agreed_size(model.image_size, as_size(items[0].image.shape[1:]))
    maps, scores = np.empty((n, *size), np.float32), np.empty(n, np.float32)
    masks, unknown, labels = np.empty((n, *size), bool), np.empty((n, *size), bool), np.empty(n, int)
    with tqdm(total=n, unit="image", desc="testing", disable=not progress or None, leave=False) as bar:
        for item in read_batches(items, batch_size, collate, num_workers):
            where: Sequence[int] = item.index.numpy()
            try:
                check_finite(*(predicted := model.predict(item.image, batch_size, precision)))
                maps[where], scores[where] = map(as_array, predicted)
            except NotFiniteError as error:
                bad = [int(where[i]) for i in error.indices]
                raise NotFiniteError(bad, [f"{i} ({test.samples[i].name})" if test else str(i) for i in bad]) from None
            masks[where], unknown[where], labels[where] = item.mask, item.unknown, item.label
            bar.update(len(where))
    if test is None:
        outlined = [not hidden.all() for hidden in unknown[labels == 1]]
        test = AnomalyDataset(items.samples(labels), size, any(outlined) or not outlined)
    return Report(test, maps, scores, masks, fpr_limit, time.perf_counter() - began,
                  model.threshold.score if model.threshold else None, unknown, at)
