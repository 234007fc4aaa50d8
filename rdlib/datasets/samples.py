"""Define samples (an image, its mask and its label) and the data sets that a DataLoader reads."""
import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset, default_collate

from rdlib.images import read_image, read_mask, to_pixels
from rdlib.synthetic import Scene
from rdlib.utils.display import Shown
from rdlib.utils.errors import DataError

GOOD = "good"
CONTRACT = ("A data set is an AnomalyDataset, such as load_dataset(...).train or .test. For training, any data set "
            "with a length works. Its items are named tuples like rdlib.datasets.Item, with an .image "
            "(3, H, W) float32, RGB in [0, 1], all of one size. To evaluate a part of an AnomalyDataset, build "
            "AnomalyDataset([data.samples[i] for i in indices], data.size, data.has_masks) instead of a Subset.")
KEEP_BELOW_BYTES = 1_000_000_000  # decoded images are kept in memory if the whole data set needs less


class Item(NamedTuple):
    """An item of a data set. A batch of items has the same fields, with one more dimension in front.

    Args:
        image: (3, H, W) float32, RGB in [0, 1].
        label: 0 normal, 1 anomalous.
        mask: (H, W) bool, True = defect; all False without a mask.
        index: position in the data set.
    """

    image: Tensor
    label: int
    mask: Tensor
    index: int  # type: ignore[assignment]  # it hides tuple.index


class Sample(Protocol):
    """An image and a mask that can be loaded."""

    @property
    def defect(self) -> str:
        """Return "good" or the defect type. It gives the label, since a mask may be empty or vanish when resized."""

    @property
    def name(self) -> str:
        """Return a POSIX path or another short name, for tables and messages."""

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load the (3, H, W) uint8 image and the (H, W) bool mask, resized to (H, W) = `size`."""


@dataclass(frozen=True)
class FileSample:
    """An image file with an optional mask file.

    Args:
        path: the image file.
        name: short name for tables and messages.
        defect: "good" or the defect type.
        mask: the mask file, or the files of its parts; None: an empty mask.
        mask_threshold: mask values above it are defect; None: see `images.read_mask`.
    """

    path: Path
    name: str
    defect: str = GOOD
    mask: Path | tuple[Path, ...] | None = None
    mask_threshold: float | None = None

    @property
    def masks(self) -> tuple[Path, ...]:
        """Return the mask files; their union is the mask."""
        return self.mask if isinstance(self.mask, tuple) else (self.mask,) if self.mask else ()

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load image and mask as `Sample.load` does. Raises DataError if one is unreadable or their sizes differ."""
        image, image_size = read_image(self.path, size)
        mask = torch.zeros(size, dtype=torch.bool)
        for path in self.masks:
            part, mask_size = read_mask(path, size, self.mask_threshold)
            if mask_size != image_size:
                raise DataError(f"The mask {path} is {mask_size[1]} x {mask_size[0]} pixels but its image {self.path} "
                                f"is {image_size[1]} x {image_size[0]}. Export the mask at the size of its image.")
            mask |= part
        return image, mask


@dataclass(frozen=True, eq=False)
class ArraySample:
    """An image in memory from a classification data set. It is anomalous if its class is not the normal one.

    Args:
        pixels: (h, w) gray or (h, w, 3) RGB, uint8.
        name: short name for tables and messages.
        defect: "good", or the name of an anomalous class.
    """

    pixels: np.ndarray
    name: str
    defect: str = GOOD

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load image and mask as `Sample.load` does. The mask is empty: the image is anomalous as a whole, or good."""
        return to_pixels(Image.fromarray(self.pixels), size), torch.zeros(size, dtype=torch.bool)


@dataclass(frozen=True)
class SceneSample:
    """A procedural scene, rendered when it is loaded.

    Args:
        scene: parameters of the image.
        name: short name for tables and messages.
    """

    scene: Scene
    name: str

    @property
    def defect(self) -> str:
        """Return "good" or the defect type."""
        return self.scene.defect or GOOD

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Render image and mask as `Sample.load` does. Raises DataError unless `size` is square."""
        if size[0] != size[1]:
            raise DataError(f"Synthetic images are square, got size={size}. Pass one number, such as size=256.")
        image, mask = self.scene.render(size[0])
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)


class AnomalyDataset(Dataset[Item]):
    """A list of samples at one size, for torch's DataLoader. Small data sets stay decoded in memory.

    Args:
        samples: images with masks and labels.
        size: (H, W) of every item, in pixels.
        has_masks: False if defective images have no masks; pixel metrics are then left out.
    """

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int], has_masks: bool = True):
        self.samples, self.size, self.has_masks = list(samples), size, has_masks
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._keeps = len(self.samples) * size[0] * size[1] * 4 < KEEP_BELOW_BYTES

    @property
    def labels(self) -> list[int]:
        """Return 0 (normal) or 1 (anomalous) for every item."""
        return [int(defect != GOOD) for defect in self.defect_types]

    @property
    def defect_types(self) -> list[str]:
        """Return "good" or the defect type for every item."""
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
        label = int(self.samples[index].defect != GOOD)
        return Item(image.float() / 255, label, mask.clone(), index)


def check_dataset(dataset: Any, *, test: bool = False) -> Callable[[list[Item]], Item]:
    """Check that a data set can be trained on or evaluated. Only its first item is read.

    Args:
        dataset: any object; it may be empty.
        test: True to evaluate it, which needs all attributes of an `AnomalyDataset`.

    Returns:
        The `collate_fn` for a DataLoader. It checks every item in the same way and requires images of one size.

    Raises:
        ValueError: attributes are missing, the first item is not like `Item`, or its size is not that of the data set.
    """
    needed = ("__len__", "__getitem__") + ("samples", "size", "labels", "defect_types", "has_masks") * test
    if missing := [name for name in needed if not hasattr(dataset, name)]:
        raise ValueError(f"This {type(dataset).__name__} lacks {', '.join(missing)}. {CONTRACT}")
    if not len(dataset):
        return default_collate
    first = Seeded(dataset, 0, 0)[0]
    collate = partial(_collate, getattr(getattr(first, "image", None), "shape", ()))
    collate([first])
    if test and first.image.shape[1:] != tuple(dataset.size):
        raise ValueError(f"The data set's size is {dataset.size[0]} x {dataset.size[1]} pixels, but its first image is "
                         f"{first.image.shape[1]} x {first.image.shape[2]}. Set size to that of the images. {CONTRACT}")
    return collate


def _collate(shape: Sequence[int], items: list[Item]) -> Item:
    """Collate items whose images all have one `shape`."""
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
    """Return whether an image may differ between two reads, so that its features must not be cached.

    The attribute `augmented` decides. For torch's `Subset`, the attribute of the data set inside decides. Without the
    attribute, a data set counts as augmented unless it reads its items as `AnomalyDataset` does.
    """
    while type(dataset) is Subset:  # not a subclass of it, which may augment
        dataset = dataset.dataset
    return bool(getattr(dataset, "augmented", type(dataset).__getitem__ is not AnomalyDataset.__getitem__))


class Seeded(Dataset[Item]):
    """A data set whose augmentation depends only on seed, epoch and index, in any worker process.

    This holds for augmentation that draws from the global generators of torch, NumPy or Python. Their states are
    restored after each item.
    """

    def __init__(self, dataset: Dataset[Item], seed: int, epoch: int):
        self.dataset, self.seed, self.epoch, self.augmented = dataset, seed, epoch, augments(dataset)

    def __len__(self) -> int:
        return len(cast(Sized, self.dataset))  # torch's Dataset has no __len__, ours all do

    def __getitem__(self, index: int) -> Item:
        if not self.augmented:
            return self.dataset[index]
        with _seeded(self.seed, self.epoch, index):
            return self.dataset[index]


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


@dataclass(frozen=True, repr=False)
class AnomalyData(Shown):
    """A data set for one-class learning.

    Args:
        name: name of the data set, such as "synthetic/weave".
        train: good images.
        test: good and defective images, or None for a folder of good images.
        normalize: whether the official protocol normalizes with ImageNet's mean and standard deviation.
        validation: further good images, to choose the threshold; None: hold out a part of `train`.
        layout: how the folder was read, in words.
        notes: what was held out or left out, in words, with numbers.
    """

    name: str
    train: AnomalyDataset
    test: AnomalyDataset | None
    normalize: bool = True
    validation: AnomalyDataset | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """Return layout, numbers of images, defect types and notes."""
        test = "no images"
        if self.test is not None:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(Counter(self.test.defect_types).items()))
            test = f"{len(self.test)} images ({kinds}), {'with' if self.test.has_masks else 'without'} masks"
        return {"name": self.name, "layout": self.layout, "train": f"{len(self.train)} good images",
                "validation": f"{len(self.validation)} good images" if self.validation else None, "test": test,
                **{f"note {i}": note for i, note in enumerate(self.notes, 1)}}
