"""Read the items of any map-style data set as an `Item`, seeded, and refuse other data sets in words."""
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from rdlib.datasets.samples import GOOD, AnomalyDataset, Item
from rdlib.images import as_images
from rdlib.masks import UNKNOWN
from rdlib.utils.arrays import as_array, as_truth
from rdlib.utils.errors import DataError

CONTRACT = ('A data set is an AnomalyDataset, as of load_dataset("folder:PATH") or folder_dataset(good=...), or '
            "another map-style one, such as a Subset or list. Its items are images of one size, (3, H, W), float32 "
            "in [0, 1] or uint8, or tuples that begin with one, or objects with .image. To evaluate, they need labels "
            "0 or 1: (image, label), (image, label, mask), or .label and .mask.")


def image_item(found: Any, index: int) -> Item:
    """Take the image of an item of any data set. Its label and mask are not looked at, since training needs none."""
    image = _image(found, index)
    blank = torch.zeros(image.shape[1:], dtype=torch.bool)
    return Item(image, 0, blank, index, blank)


def labelled_item(found: Any, index: int) -> Item:
    """Take image, label and mask of an item of any data set. Pixels of an anomalous item without mask are unknown.

    Raises ValueError for a missing label, and for other labels or masks.
    """
    image, (_, label, mask) = _image(found, index), parts(found)
    if label is None or as_array(label).size != 1:
        raise ValueError(f"Item {index} of the data set, a {type(found).__name__}, has no label. {CONTRACT}")
    label = int(as_truth(as_array(label).reshape(1))[0])
    unknown = getattr(found, "unknown", None)
    unknown = np.full(image.shape[1:], mask is None and label == 1) if unknown is None else as_truth(unknown)
    mask = np.zeros(image.shape[1:], bool) if mask is None else as_truth(mask)
    for part in (mask, unknown):
        if part.shape[-2:] != image.shape[1:] or part.size != image[0].numel():
            raise ValueError(f"The mask of item {index} of the data set is {part.shape}, but its image is "
                             f"{tuple(image.shape)}. Resize them together. {CONTRACT}")
    mask, unknown = (torch.from_numpy(part.copy()).view(image.shape[1:]) for part in (mask & ~unknown, unknown))
    return Item(image, label, mask, index, unknown)


def parts(found: Any) -> tuple[Any, Any, Any]:
    """Split an item of any data set into image, label and mask, None where it has none."""
    if isinstance(found, tuple | list) and not hasattr(found, "image"):
        return (*found[:3], None, None, None)[:3]
    return getattr(found, "image", found), getattr(found, "label", None), getattr(found, "mask", None)


def _image(found: Any, index: int) -> Tensor:
    try:
        if not isinstance(image := parts(found)[0], Tensor | np.ndarray) or len(batch := as_images(image)) != 1:
            raise ValueError(f"a {type(image).__name__}, not one tensor or array.")
        return batch[0].detach().float().cpu()
    except ValueError as error:
        raise ValueError(f"Item {index} of the data set, a {type(found).__name__}, has no image to use: {error} "
                         f"{CONTRACT}") from error


def check_dataset(dataset: Any, as_item: Callable[[Any, int], Item] = image_item) -> Callable[[list[Item]], Item]:
    """Check that a data set can be trained on or evaluated. Only its first item is read.

    Args:
        dataset: any object; to train, it may be empty; to evaluate, it may be a `DataLoader`.
        as_item: how to read its items.

    Returns:
        The `collate_fn` for a DataLoader of its items. It requires images of one size.

    Raises:
        ValueError: the data set has no length or no indices, or its first item is of another form.
    """
    if as_item is labelled_item and isinstance(dataset, DataLoader):
        collate, dataset = getattr(dataset.collate_fn, "func", dataset.collate_fn), dataset.dataset
        if collate.__module__ not in (default_collate.__module__, __name__):
            raise ValueError("This DataLoader's collate_fn would not be called. Let the data set do its work.")
    kind, indexed = type(dataset).__name__, hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset | Tensor | np.ndarray | str) or not indexed:
        raise ValueError(f"This {kind} has no length and indices of images. Of load_dataset(...), pass data.train or "
                         f"data.test; of a DataLoader, loader.dataset; of a batch of images, list(batch). {CONTRACT}")
    if not len(dataset) and as_item is labelled_item:
        raise ValueError("The test set has no images. Put them in test/good and test/NAME_OF_DEFECT beside train/good.")
    if not len(dataset):
        return default_collate
    try:
        return partial(_collate, Seeded(dataset, 0, as_item)[0].image.shape)
    except (LookupError, NotImplementedError) as error:
        raise ValueError(f"This {kind} has no item at index 0 ({type(error).__name__}: {error}). {CONTRACT}") from error


def _collate(shape: Sequence[int], items: list[Item]) -> Item:
    """Collate items whose images all have one `shape`."""
    if other := [item.image.shape for item in items if item.image.shape != shape]:
        raise ValueError(f"The images of the data set differ in size: the first is {shape[1]} x {shape[2]} pixels, "
                         f"another {other[0][1]} x {other[0][2]}. Resize them to one size.")
    return default_collate(items)


def augments(dataset: Any) -> bool:
    """Return whether an image may differ between two reads, so that its features must not be cached.

    A `transform` of an `AnomalyDataset` may change it, and so may a data set whose attribute `augmented` is True.
    Without the attribute, a data set counts as augmented unless it reads its items as `AnomalyDataset` does. For
    torch's `Subset` and `ConcatDataset`, the data sets inside decide. Lists and `TensorDataset` do not augment.
    """
    kind = type(dataset)  # not a subclass of these, which may augment
    if kind is Subset or kind is ConcatDataset:
        return any(map(augments, [dataset.dataset] if kind is Subset else dataset.datasets))
    if kind in (list, tuple, TensorDataset):
        return False
    transforms = isinstance(dataset, AnomalyDataset) and dataset.transform is not None
    return transforms or bool(getattr(dataset, "augmented", kind.__getitem__ is not AnomalyDataset.__getitem__))


class Seeded(Dataset[Item]):
    """The items of any data set, read by `as_item`, by index (in epoch 0) or by (epoch, index).

    Random augmentation depends only on seed, epoch and index, in any worker process, if it draws from the global
    generators of torch, NumPy or Python. Their states are restored after each item.
    """

    def __init__(self, dataset: Any, seed: int, as_item: Callable[[Any, int], Item] = image_item):
        self.dataset, self.seed, self.as_item = dataset, seed, as_item
        self.augmented = augments(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, where: int | tuple[int, int]) -> Item:
        epoch, index = where if isinstance(where, tuple) else (0, where)
        try:
            with _seeded(self.seed, epoch, index) if self.augmented else nullcontext():
                return self.as_item(self.dataset[index], index)
        except StopIteration as error:  # torch would take it as the end of the data
            raise DataError(f"Item {index} of the data set raised StopIteration, perhaps by next(...) on a stream that "
                            "has ended. Every index below len(...) needs an image.") from error

    def samples(self, labels: Iterable[int]) -> list["ItemSample"]:
        """Return the items as samples, with their labels 0 and 1."""
        return [ItemSample(f"item {i}", "anomalous" if label else GOOD, i, self) for i, label in enumerate(labels)]


@contextmanager
def _seeded(*numbers: int) -> Generator[None, None, None]:
    """Seed the global generators from non-negative `numbers` inside the block; restore their states afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@dataclass(frozen=True, eq=False)
class ItemSample:
    """An item of another data set; or the name and defect type of an image that is not at hand.

    Args:
        name: short name for tables and messages.
        defect: "good" or the defect type.
        index: position of the item in `items`.
        items: the data set, read by `labelled_item`; None if there is no image.
    """

    name: str
    defect: str
    index: int = 0
    items: Seeded | None = None

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load image and mask as `Sample.load` does, at their own size. Raises DataError if there is no image."""
        if self.items is None:
            raise DataError(f"The image {self.name} is not at hand. Load the report with Report.load(path, data.test).")
        item = self.items[self.index]
        return item.image, torch.where(item.unknown, UNKNOWN, item.mask.to(torch.uint8))


def unpacked(loader: DataLoader) -> tuple[Dataset, int, int]:
    """Return a loader's data set in the loader's order, its batch size and its number of workers.

    Raises ValueError if the data set cannot be evaluated.
    """
    check_dataset(loader, labelled_item)
    batches = [[index] for index in loader.sampler] if loader.batch_sampler is None else list(loader.batch_sampler)
    order = [int(index) for batch in batches for index in batch]
    return Subset(loader.dataset, order), max(map(len, batches), default=1), loader.num_workers


def known_samples(dataset: Any) -> AnomalyDataset | None:
    """Return the samples of an `AnomalyDataset`, or of a `Subset` or `ConcatDataset` of such; None for other data."""
    if isinstance(dataset, AnomalyDataset):
        return dataset
    if type(dataset) is Subset and (whole := known_samples(dataset.dataset)) is not None:
        return whole.subset(dataset.indices)
    sets: list[Any] = [known_samples(part) for part in dataset.datasets] if type(dataset) is ConcatDataset else [None]
    if not all(type(part) is AnomalyDataset and not part.transform and part.size == sets[0].size for part in sets):
        return None
    has_masks = all(part.has_masks or not any(part.labels) for part in sets)
    return AnomalyDataset([sample for part in sets for sample in part.samples], sets[0].size, has_masks)


def white_of(dataset: Any) -> float | None:
    """Return the value of white in the files of any data set, see `AnomalyDataset.white`; None if it is unknown."""
    return getattr(known_samples(dataset), "white", None)


def read_with(dataset: Any, white: float | None) -> Any:
    """Return any data set so that it reads its files with a model's `white`, see `AnomalyDataset.read_with`."""
    known = None if white is None else known_samples(dataset)
    return dataset if known is None else known.read_with(white)
