"""Compute a fingerprint of all images of a data set, by which a checkpoint knows them again."""
import re
from bisect import bisect_right
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset
from tqdm.auto import tqdm

from rdlib.datasets.items import Seeded
from rdlib.datasets.samples import AnomalyDataset, recipe
from rdlib.utils.arrays import digest

READS = 8  # of an image, to see whether it changes without following the seed


def images_digest(dataset: Any) -> str | None:
    """Compute a fingerprint of all images of a data set, without decoding files or drawing scenes.

    Of a data set of another kind, every image is read in epoch 0; twice if it may be augmented. With a `transform`, its
    `repr` counts. Since it may be another one, the first and the last image are read as well, `READS` times; they count
    if they follow the seed.

    Returns:
        SHA-256 in hexadecimal; None if two reads of an image differ, so that its images cannot be compared.
    """
    items, found = Seeded(dataset, 0), list[str]()
    origins = [_origin(dataset, index) for index in range(len(items))]
    last = {id(origin): i for i, (origin, _) in enumerate(origins)}
    bar = tqdm(origins, "fingerprint of images", unit="image", leave=False, delay=3, disable=None)
    for i, (origin, index) in enumerate(bar):
        known = type(origin).__getitem__ is AnomalyDataset.__getitem__
        source = recipe(origin.samples[index]) if known else None
        if (read := source is None or origin.transform is not None and i in (0, last[id(origin)])):
            image = items[i].image
            again = (READS if known else 2) - 1
            read = not items.augmented or all(torch.equal(image, items[i].image) for _ in range(again))
            if source is None and not read:
                return None
        found.append(digest([source, image if read else None, [*origin.size, _described(origin)] if known else None]))
    return digest(found)


def _described(dataset: AnomalyDataset) -> str:
    """Describe a data set's transform, without addresses in memory."""
    return re.sub(r" at 0x\w+", "", repr(dataset.transform))


def _origin(dataset: Any, index: Any) -> tuple[Any, Any]:
    """Return the data set and the index that an item comes from, inside torch's `Subset` and `ConcatDataset`."""
    if type(dataset) is Subset:
        return _origin(dataset.dataset, dataset.indices[index])
    if type(dataset) is ConcatDataset:
        part = bisect_right(dataset.cumulative_sizes, index % len(dataset))
        return _origin(dataset.datasets[part], index % len(dataset) - [0, *dataset.cumulative_sizes][part])
    return dataset, index
