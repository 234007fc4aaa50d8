"""One image with its mask and label, and the list of them that a DataLoader reads."""
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate

from rdlib.images import read_image, read_mask, to_pixels
from rdlib.synthetic import Scene
from rdlib.utils.errors import DataError

GOOD = "good"
CONTRACT = ("A data set is an AnomalyDataset, such as load_dataset(...).train and .test. To train on, any other will "
            "do that has a length and whose items are named tuples like rdlib.datasets.samples.Item, with an .image (3, H, W) "
            "float32, RGB in [0, 1], all of one size. To evaluate a part of an AnomalyDataset, do not take a Subset, "
            "but AnomalyDataset([data.samples[i] for i in indices], data.size, data.has_masks).")
KEEP_BELOW_BYTES = 1_000_000_000  # decoded images are kept in memory while a set needs less than this


class Item(NamedTuple):
    """One element of a data set, and, after collation, one batch."""

    image: Tensor  # (3, H, W) float32 RGB in [0, 1]
    label: int  # 0 normal, 1 anomalous
    mask: Tensor  # (H, W) bool, True = defect; all False where there is none
    index: int  # place in the data set


class Sample(Protocol):
    """Something that can be loaded as an image and a mask."""

    label: int
    defect: str  # "good", or the kind of defect
    name: str

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(3, H, W) uint8 image and (H, W) bool mask at `size`."""


@dataclass(frozen=True)
class FileSample:
    """An image file and, if it has one, its mask file."""

    path: Path
    name: str
    defect: str = GOOD
    mask: Path | None = None
    mask_threshold: float | None = None

    @property
    def label(self) -> int:
        """From the folder, not from the mask: a mask may be empty or lost at low resolution."""
        return int(self.defect != GOOD)

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Raises DataError for unreadable files and for a mask of another size than its image."""
        image, image_size = read_image(self.path, size)
        if self.mask is None:
            return image, torch.zeros(size, dtype=torch.bool)
        mask, mask_size = read_mask(self.mask, size, self.mask_threshold)
        if mask_size != image_size:
            raise DataError(f"The mask {self.mask} is {mask_size[1]} x {mask_size[0]} pixels but its image {self.path} "
                            f"is {image_size[1]} x {image_size[0]}. Masks must be drawn on the image they belong to.")
        return image, mask


@dataclass(frozen=True, eq=False)
class ArraySample:
    """An image in memory, from a set that has classes and no masks: anomalous if its class is not the normal one."""

    pixels: np.ndarray  # (h, w) grey or (h, w, 3) RGB, uint8
    name: str
    defect: str = GOOD

    @property
    def label(self) -> int:
        """0 normal, 1 anomalous."""
        return int(self.defect != GOOD)

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The mask is empty: nothing in the image is wrong, it is another thing."""
        return to_pixels(Image.fromarray(self.pixels), size), torch.zeros(size, dtype=torch.bool)


@dataclass(frozen=True)
class SceneSample:
    """A procedural scene, rendered when it is asked for."""

    scene: Scene
    name: str

    @property
    def defect(self) -> str:
        """ "good", or the kind of defect."""
        return self.scene.defect or GOOD

    @property
    def label(self) -> int:
        """0 normal, 1 anomalous."""
        return int(self.scene.defect is not None)

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Raises DataError unless `size` is square."""
        if size[0] != size[1]:
            raise DataError(f"Synthetic images are square; got the size {size}. Give one number.")
        image, mask = self.scene.render(size[0])
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)


class AnomalyDataset(Dataset[Item]):
    """A list of samples at one size, as torch's DataLoader likes it; decoded images are kept while they are few.

    Args:
        samples: what it holds.
        size: (H, W) of every item.
        has_masks: False where the defective images come without ground truth: no pixel metrics then.
    """

    augmented = False  # the same pixels every time, so the teacher's features may be kept

    def __init_subclass__(cls, **options) -> None:
        """A subclass that reads items in its own way is taken to augment them, unless it says otherwise."""
        super().__init_subclass__(**options)
        if "__getitem__" in vars(cls) and "augmented" not in vars(cls):
            cls.augmented = True

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int], has_masks: bool = True):
        self.samples, self.size, self.has_masks = list(samples), size, has_masks
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._keeps = len(self.samples) * size[0] * size[1] * 4 < KEEP_BELOW_BYTES

    @property
    def labels(self) -> list[int]:
        """0 normal, 1 anomalous, one per item."""
        return [sample.label for sample in self.samples]

    @property
    def defect_types(self) -> list[str]:
        """ "good" or the kind of defect, one per item."""
        return [sample.defect for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        if index not in self._kept:
            loaded = self.samples[index].load(self.size)
            if not self._keeps:
                return self._item(index, *loaded)
            self._kept[index] = loaded
        return self._item(index, *self._kept[index])

    def _item(self, index: int, image: Tensor, mask: Tensor) -> Item:
        return Item(image.float() / 255, self.samples[index].label, mask.clone(), index)


def check_dataset(dataset: object, *, test: bool = False) -> Callable[[list[Item]], Item]:
    """Raise ValueError, saying what a data set must be, unless `dataset` is one. Only its first item is read.

    Args:
        dataset: to train on; it may be empty.
        test: it is to be evaluated, so it needs all that an `AnomalyDataset` has.

    Returns:
        The `collate_fn` for a DataLoader. It refuses items of another kind, and images of another size than the first.
    """
    needed = ("__len__", "__getitem__") + ("samples", "size", "labels", "defect_types", "has_masks") * test
    if missing := [name for name in needed if not hasattr(dataset, name)]:
        raise ValueError(f"This {type(dataset).__name__} lacks {', '.join(missing)}. {CONTRACT}")
    if not len(dataset):
        return default_collate
    first = Seeded(dataset, 0, 0)[0]
    collate = partial(_collate, getattr(getattr(first, "image", None), "shape", None))
    collate([first])
    if test and first.image.shape[1:] != tuple(dataset.size):
        raise ValueError(f"The data set says that its images are {dataset.size[0]} x {dataset.size[1]} pixels, but the "
                         f"first is {first.image.shape[1]} x {first.image.shape[2]}. Give it their size. {CONTRACT}")
    return collate


def _collate(shape: Sequence[int], items: list[Item]) -> Item:
    """A batch of items whose images all have one `shape`."""
    for item in items:
        image = getattr(item, "image", None)
        if not (isinstance(item, tuple) and isinstance(image, Tensor) and image.ndim == 3 and len(image) == 3
                and image.dtype == torch.float32):
            found = ("is no named tuple" if not isinstance(item, tuple) else "has no .image tensor" if
                     not isinstance(image, Tensor) else f"has an image {tuple(image.shape)} {image.dtype}")
            raise ValueError(f"An item of the data set, a {type(item).__name__}, {found}. {CONTRACT}")
        if image.shape != shape:
            raise ValueError(f"The images of the data set differ in size: the first is {shape[1]} x {shape[2]} pixels, "
                             f"another {image.shape[1]} x {image.shape[2]}. Resize them to one size. {CONTRACT}")
    return default_collate(items)


def augments(dataset: Dataset) -> bool:
    """Whether an image may look different each time it is read.

    A data set says so by its attribute `augmented`; torch's `Subset` by that of the set it is taken from. One that says
    nothing is taken to augment, since what wraps another set usually does so.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return bool(getattr(dataset, "augmented", True))


class Seeded(Dataset[Item]):
    """A data set whose augmentation follows from seed, epoch and place alone, in whichever process it is read.

    Holds for augmentation that draws from the global generators of torch, numpy or Python. They are put back after
    each item.
    """

    def __init__(self, dataset: Dataset[Item], seed: int, epoch: int):
        self.dataset, self.seed, self.epoch, self.augmented = dataset, seed, epoch, augments(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        if not self.augmented:
            return self.dataset[index]
        with _seeded(self.seed, self.epoch, index):
            return self.dataset[index]


@contextmanager
def _seeded(*numbers: int) -> Iterator[None]:
    """Seed the global generators from non-negative `numbers` inside the block, and put them back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@dataclass(frozen=True)
class AnomalyData:
    """A data set as one-class learning uses it: good images to train, good and defective ones to test."""

    name: str
    train: AnomalyDataset
    test: AnomalyDataset | None  # None where a folder holds good images only
    normalize: bool = True  # whether the official protocol takes off ImageNet's mean and deviation
