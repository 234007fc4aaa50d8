"""Compute the teacher's features of a training set batch by batch: once and cached, or every time.

The teacher never changes, so without augmentation its features do not change either. After the first epoch, a cache
saves the teacher's share of every training step.
"""
from collections.abc import Generator, Iterable
from itertools import tee
from math import isfinite
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from rdlib.datasets.items import Seeded, augments, check_dataset, known_samples
from rdlib.datasets.workers import read_batches
from rdlib.detector import Distillation, Features
from rdlib.utils.errors import shown, warn
from rdlib.utils.hardware import autocast, available_memory

MEMORY_SHARE = 0.4  # of the free memory that cache="auto" may take

Schedule = Iterable[tuple[int, Tensor]]  # epoch and chunk of every step, (B,) int64 indices into the data set
Batch = tuple[Tensor | None, Features]  # images (B, 3, H, W), None if the student ignores them; teacher's t1, t2, t3


class LiveFeatures:
    """Recompute the teacher's features for every batch.

    Args:
        model: model whose teacher computes the features, on the model's device.
        dataset: data set of items with an `.image`.
        seed: seed of random augmentation, together with the epoch.
        precision: precision of the teacher, "float32" or "bf16".
        num_workers: number of processes that read images.

    Raises:
        ValueError: the data set is of another form, see `check_dataset`.
    """

    def __init__(self, model: Distillation, dataset: Dataset, seed: int, precision: str, num_workers: int = 0):
        self.model, self.dataset, self.seed, self.precision = model, dataset, seed, precision
        self.collate, self.num_workers = check_dataset(dataset), num_workers

    def images(self, schedule: Schedule) -> Generator[Tensor]:
        """Yield the images (B, 3, H, W) of each chunk of a schedule, on the model's device."""
        batches = ([(epoch, index) for index in chunk.tolist()] for epoch, chunk in schedule)
        cuda = self.model.device.type == "cuda"
        for item in read_batches(Seeded(self.dataset, self.seed), batches, self.collate, self.num_workers, cuda):
            yield item.image.to(self.model.device, non_blocking=cuda)

    def batches(self, schedule: Schedule) -> Generator[Batch]:
        """Yield the `Batch` of each chunk of a schedule, on the model's device.

        The model is told the size of the images and the range of their values, as far as they have been read.
        """
        schedule, read = tee(schedule)
        for images, (_, chunk) in zip(self.images(read), schedule, strict=True):
            known = self.model.config
            self.model.set_trained(images.shape[2:], widened(known.value_range, images, chunk), known.white)
            with autocast(self.precision, self.model.device):
                features = self.model.extract_features(images)
            yield images, features


class CachedFeatures:
    """Compute the features of all images once, and keep them in main memory in the dtype of the computation.

    For an augmented data set, teacher and student see the images of epoch 0 in every epoch.

    Args:
        source: object that computes the features.
        batch_size: number of images at a time, 1 or more.
        progress: show a progress bar.
    """

    def __init__(self, source: LiveFeatures, batch_size: int, progress: bool = True):
        self.source, self.kept = source, list[Tensor]()
        n = len(Seeded(source.dataset, source.seed))
        chunks = torch.arange(n).split(batch_size)
        bar = tqdm(chunks, unit="batch", desc="teacher features", disable=not progress or None, leave=False)
        for chunk, (_, features) in zip(bar, source.batches((0, chunk) for chunk in chunks), strict=True):
            if not self.kept:
                # Channels last: a batch is then gathered in the layout that convolutions are fastest with.
                self.kept = [f.new_empty((n, *f.shape[2:], f.shape[1]), device="cpu") for f in features]
                bar.set_description(f"teacher features, {sum(f.nbytes for f in self.kept) / 1e6:.1f} MB of memory")
            for kept, f in zip(self.kept, features, strict=True):
                kept[chunk] = f.permute(0, 2, 3, 1).to(kept.device)

    def batches(self, schedule: Schedule) -> Generator[Batch]:
        """Yield the `Batch` of each chunk, as `LiveFeatures` does."""
        schedule, read = tee(schedule)
        images = self.source.images((0, chunk) for _, chunk in read) if self.source.model.student_sees_images else None
        for _, chunk in schedule:
            t1, t2, t3 = (kept[chunk].to(self.source.model.device).permute(0, 3, 1, 2) for kept in self.kept)
            yield next(images) if images else None, (t1, t2, t3)


def wants_cache(source: LiveFeatures, cache: bool | Literal["auto"]) -> bool:
    """Decide whether to cache the features of a source.

    With cache="auto", they are cached if the images never change and the features take less than `MEMORY_SHARE` of the
    free memory.
    """
    if cache != "auto" or augments(source.dataset):
        return cache != "auto" and bool(cache)
    images, itemsize = Seeded(source.dataset, source.seed), 2 if source.precision == "bf16" else 4
    features = source.model.extract_features(images[0].image[None].to(source.model.device))
    return len(images) * sum(f.numel() for f in features) * itemsize < MEMORY_SHARE * available_memory()


def warn_of_defects(dataset: Dataset) -> None:
    """Warn if images of a training set are labelled defective, as far as its labels are known."""
    known = known_samples(dataset)
    if known and (defective := sum(known.labels)):
        warn(f"{defective} of the {len(known)} training images are labelled defective. A model that is trained on "
             "defects overlooks them: train on good images only, such as data.train.")


def widened(known: tuple[float, float] | None, images: Tensor, indices: Iterable = (0,)) -> tuple[float, float]:
    """Widen a range of values, smallest and largest, to those of further images; None is no value so far.

    Raises ValueError, with the images' `indices` in the data set, if values are NaN or infinite.
    """
    low, high = (value.item() for value in images.aminmax())
    if not isfinite(high - low):
        batch = images.reshape(-1, *images.shape[-3:])
        bad = [int(index) for index, image in zip(indices, batch, strict=True) if not image.isfinite().all()]
        raise ValueError(f"Training images hold NaN or infinity: those at the indices {shown(bad, 5)} of the data set. "
                         "Leave them out, or mend them.")
    return (min(known[0], low), max(known[1], high)) if known else (low, high)
