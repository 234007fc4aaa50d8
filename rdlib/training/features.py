"""The teacher's features of a training set, batch by batch: computed once and cached, or every time.

The teacher never changes, so without augmentation its features do not change either. A cache saves the teacher's
share of every training step after the first epoch.
"""
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from rdlib.datasets.samples import Seeded, augments
from rdlib.detector import Distillation, Features
from rdlib.utils.hardware import autocast, available_memory

MEMORY_SHARE = 0.4  # of the free memory that cache="auto" may take

Batch = tuple[Tensor | None, Features]  # images (B, 3, H, W), None where the student does not look at them; f1, f2, f3


class FeatureSource(Protocol):
    """A source of the teacher's features of chosen images."""

    def batches(self, chunks: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """Yield the `Batch` of each chunk, (B,) int64 indices into the data set, on the model's device."""


class LiveFeatures:
    """Read the images and compute the teacher's features for every batch.

    Args:
        model: its teacher computes, on the model's device.
        dataset: items with an `.image`.
        seed: of a random augmentation, together with the epoch.
        precision: of the teacher, "float32" or "bf16".
        num_workers: processes that read images.
        collate: makes a batch of items, see `check_dataset`.
    """

    def __init__(self, model: Distillation, dataset: Dataset, seed: int, precision: str, num_workers: int = 0,
                 collate: Callable = default_collate):
        self.model, self.dataset, self.seed = model, dataset, seed
        self.precision, self.num_workers, self.collate = precision, num_workers, collate

    def images(self, chunks: Sequence[Tensor], epoch: int) -> Iterator[Tensor]:
        """Yield the images (B, 3, H, W) of each chunk, on the model's device."""
        loader = DataLoader(Seeded(self.dataset, self.seed, epoch), batch_sampler=[c.tolist() for c in chunks],
                            num_workers=self.num_workers, collate_fn=self.collate,
                            generator=torch.Generator())  # else torch draws from its global one
        for item in loader:
            yield item.image.to(self.model.device)

    def batches(self, chunks: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """See `FeatureSource`."""
        for images in self.images(chunks, epoch):
            with autocast(self.precision, self.model.device):
                features = self.model.extract_features(images)
            yield images, features


class CachedFeatures:
    """Compute the features of all images once, and keep them in main memory in the dtype they are computed in.

    Of an augmented data set the images of epoch 0 are kept, for teacher and student.
    """

    def __init__(self, source: LiveFeatures, batch_size: int, progress: bool = True):
        self.source, self.device = source, source.model.device
        self.kept: list[Tensor] = []
        n = len(source.dataset)
        chunks = torch.arange(n).split(batch_size)
        done = 0
        with tqdm(total=n, unit="image", desc="teacher features", disable=not progress, leave=False) as bar:
            for _, features in source.batches(chunks, epoch=0):
                if not self.kept:
                    # Channels last in memory: a batch is then gathered in the layout that the convolutions want.
                    self.kept = [f.new_empty((n, *f.shape[2:], f.shape[1]), device="cpu") for f in features]
                for kept, f in zip(self.kept, features, strict=True):
                    kept[done:done + len(f)] = f.permute(0, 2, 3, 1)
                done += len(features[0])
                bar.update(len(features[0]))

    def batches(self, chunks: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """See `FeatureSource`."""
        seen = self.source.images(chunks, epoch=0) if self.source.model.student_sees_images else repeat(None)
        for chunk, images in zip(chunks, seen):  # noqa: B905 - one of the two may be endless
            yield images, tuple(kept[chunk].to(self.device).permute(0, 3, 1, 2) for kept in self.kept)


def fits_in_memory(model: Distillation, dataset: Dataset, dtype: torch.dtype) -> bool:
    """Return whether the features of all images take less than `MEMORY_SHARE` of the free memory."""
    features = model.extract_features(dataset[0].image[None].to(model.device))
    needed = len(dataset) * sum(f.numel() for f in features) * dtype.itemsize
    return needed < MEMORY_SHARE * available_memory()


def wants_cache(model: Distillation, dataset: Dataset, cache: bool | Literal["auto"],
                dtype: torch.dtype) -> bool:
    """Decide whether to cache the features: as told, or, with "auto", if the images never change and memory allows."""
    if cache != "auto":
        return bool(cache)
    return not augments(dataset) and fits_in_memory(model, dataset, dtype)
