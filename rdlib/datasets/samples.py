"""Define samples (an image, its mask and its label) and the data sets that list them."""
import copy
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info, random_split

from rdlib.datasets.depth import Depth
from rdlib.images import read_image, to_pixels
from rdlib.masks import UNKNOWN, MaskRule, load_mask, mask_rule
from rdlib.synthetic import Scene
from rdlib.utils.arrays import as_finite
from rdlib.utils.display import Shown
from rdlib.utils.errors import DataError, checked

GOOD = "good"
END_BYTES = 65_536  # at either end of a file, by which `recipe` knows it
KEEP_BELOW_BYTES = 1_000_000_000  # decoded images are kept in memory if the whole data set needs less


class Item(NamedTuple):
    """An item of a data set. A batch of items has the same fields, with one more dimension in front.

    Args:
        image: (3, H, W) float32, RGB in [0, 1].
        label: 0 normal, 1 anomalous.
        mask: (H, W) bool, True = defect; all False without a mask.
        index: position in the data set.
        unknown: (H, W) bool, True where nobody says whether a pixel is normal; pixel metrics leave these pixels out.
    """

    image: Tensor
    label: int
    mask: Tensor
    index: int  # type: ignore[assignment]  # it hides tuple.index
    unknown: Tensor


class Sample(Protocol):
    """An image and a mask that can be loaded."""

    @property
    def defect(self) -> str:
        """Return "good" or the defect type. It gives the label, since a mask may be empty or vanish when resized."""

    @property
    def name(self) -> str:
        """Return a POSIX path or another short name, for tables and messages."""

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load the (3, H, W) image and the (H, W) mask, resized to (H, W) = `size`.

        The image is uint8, or float32 in [0, 1]. The mask is uint8: 0 normal, 1 defect, 2 unknown; or bool.
        """


@dataclass(frozen=True)
class FileSample:
    """An image file with an optional mask file.

    Args:
        path: the image file.
        name: short name for tables and messages.
        defect: "good" or the defect type.
        mask: the mask file, or the files of its parts; None: all pixels are normal in a good image, else unknown.
        rule: how to read the values of the mask files; None: decide from these files alone, see `masks.mask_rule`.
        depth: value of white in files of more than 8 bits a channel, shared by all samples of a data set.
        keep_defects: keep at least one pixel of every outlined defect when the mask shrinks.
    """

    path: Path
    name: str
    defect: str = GOOD
    mask: Path | tuple[Path, ...] | None = None
    rule: MaskRule | None = None
    depth: Depth | None = field(default=None, compare=False, repr=False)
    keep_defects: bool = False

    @property
    def masks(self) -> tuple[Path, ...]:
        """Return the mask files; their union is the mask."""
        return self.mask if isinstance(self.mask, tuple) else (self.mask,) if self.mask else ()

    def load(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Load image and mask as `Sample.load` does. Raises DataError if one is unreadable or their sizes differ."""
        image, own = read_image(self.path, size, lambda: self.depth.white if self.depth else None)
        return image, self.load_mask(size, own)

    def load_mask(self, size: tuple[int, int], own: tuple[int, int]) -> Tensor:
        """Load the mask as `load` does, where `own` is the (height, width) of the image file. Raises DataError too."""
        if not self.masks:
            return torch.full(size, UNKNOWN * (self.defect != GOOD), dtype=torch.uint8)
        rule = self.rule or mask_rule(self.masks)
        parts, sizes = zip(*(load_mask(path, size, rule, self.keep_defects) for path in self.masks), strict=True)
        for path, (height, width) in zip(self.masks, sizes, strict=True):
            if (height, width) != own:
                raise DataError(f"The mask {path} is {width} x {height} pixels but its image {self.path} is "
                                f"{own[1]} x {own[0]}. Save both at one size, upright without EXIF.")
        found = torch.stack(parts)  # where the parts disagree, defect comes before unknown, unknown before normal
        return torch.where((found == 1).any(0), 1, found.amax(0)).to(torch.uint8)


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
    """A procedural scene or a patch of a photograph, rendered when it is loaded.

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
            raise DataError(f"Images of this data set are square, got size={size}. Pass one number, such as size=256.")
        image, mask = self.scene.render(size[0])
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)


def recipe(sample: Sample) -> object:
    """Return what decides a sample's image, without decoding or drawing it; None if that is not known.

    Of a file, this is its length, `END_BYTES` bytes at either end, and the value of white of its data set.
    """
    if type(sample) is FileSample:
        with suppress(OSError, ValueError):  # a missing or empty file is an error when it is decoded
            content = np.memmap(sample.path, mode="c")
            return [len(content), content[:END_BYTES], content[-END_BYTES:], sample.depth and sample.depth.white]
    if type(sample) is ArraySample:
        return sample.pixels
    return repr(sample.scene) if type(sample) is SceneSample else None


class AnomalyDataset(Shown, Dataset[Item]):
    """A list of samples at one size, for torch's DataLoader. The main process keeps decoded images of small data sets.

    Args:
        samples: images with masks and labels.
        size: (H, W) of every item, in pixels.
        has_masks: False if defective images have no masks; pixel metrics are then left out.
        transform: function that changes an image, (3, H, W) float32 to the same, such as an augmentation. It is meant
            for training: masks are not changed. In training, random changes follow the seed and the epoch.
    """

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int], has_masks: bool = True,
                 transform: Callable[[Tensor], Tensor] | None = None):
        self.samples, self.size, self.has_masks, self.transform = list(samples), size, has_masks, transform
        self._kept: dict[int, tuple[Sample, tuple[int, int], Tensor, Tensor]] = {}  # by index

    def summary(self) -> dict[str, object]:
        """Return what `repr` shows: numbers of images by type, masks, and size."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(Counter(self.defect_types).items()))
        return {"items": f"{len(self)} images ({kinds}), {'with' if self.has_masks else 'without'} masks",
                "size": f"{self.size[0]} x {self.size[1]}"}

    @property
    def labels(self) -> list[int]:
        """Return 0 (normal) or 1 (anomalous) for every item."""
        return [int(defect != GOOD) for defect in self.defect_types]

    @property
    def defect_types(self) -> list[str]:
        """Return "good" or the defect type for every item."""
        return [sample.defect for sample in self.samples]

    @property
    def white(self) -> float | None:
        """Return the value of white in files of more than 8 bits a channel; None without such files.

        Raises DataError if the samples have several.
        """
        depths = {depth for sample in self.samples if (depth := getattr(sample, "depth", None))}
        if len(found := sorted({depth.white for depth in depths} - {None})) > 1:
            raise DataError(f"The images have several values of white: {found}. Give one white= (--white) for all.")
        return found[0] if found else None

    def read_with(self, white: float | None) -> "AnomalyDataset":
        """Return a data set that reads its files with a model's `white`; itself if that changes nothing.

        Raises ValueError if its user has given another white.
        """
        depths = [sample.depth for sample in self.samples if isinstance(sample, FileSample)]
        if white and (others := {depth.given for depth in depths if depth and depth.given} - {white}):
            raise ValueError(f"The images were loaded with white={others.pop():g}, but the model was trained with "
                             f"white={white:g}. Load them with white={white:g}, or without white= (--white).")
        if white is None or all(depth and depth.known == white for depth in depths):
            return self
        part, depth = copy.copy(self), Depth()
        depth.known = float(white)
        part.samples = [replace(one, depth=depth) if isinstance(one, FileSample) else one for one in self.samples]
        return part

    def subset(self, indices: Sequence[int] | np.ndarray | Tensor) -> "AnomalyDataset":
        """Return the items at `indices` (or where a bool mask is True) as a data set of the same kind, in this order.

        Raises IndexError for indices outside the data set.
        """
        chosen, part = as_finite(indices, "indices").ravel(), copy.copy(self)
        part.samples = [self.samples[i] for i in np.arange(len(self))[chosen if len(chosen) else []]]
        return part

    @checked
    def split(self, fraction: float, seed: int = 0) -> tuple["AnomalyDataset", "AnomalyDataset"]:
        """Hold out random items, such as good images to choose a threshold on.

        Args:
            fraction: share of the items to hold out, in (0, 1); rounded to whole items.
            seed: seed of the choice. Equal seeds choose equal items.

        Returns:
            The rest and the part held out, each in the order of the data set.

        Raises:
            ValueError: `fraction` is outside (0, 1), or one of the two would be empty.
        """
        n = round(len(self) * fraction)
        if not 0 < n < len(self):
            raise ValueError(f"Choose a fraction in (0, 1), with items on both sides; got {fraction} of {len(self)}.")
        part, rest = random_split(self, [n, len(self) - n], torch.Generator().manual_seed(seed))
        return self.subset(sorted(rest.indices)), self.subset(sorted(part.indices))

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}  # a worker process, or a copy, gets no decoded images

    def __getitem__(self, index: int) -> Item:
        sample, kept = self.samples[index], self._kept.get(index)
        same = kept and kept[0] is sample and kept[1] == self.size  # both may have been changed
        image, mask = kept[2:] if kept and same else sample.load(self.size)
        if get_worker_info() is None and len(self) * (image.nbytes + mask.nbytes) < KEEP_BELOW_BYTES:
            self._kept[index] = sample, self.size, image, mask
        image = image.float() / 255 if image.dtype == torch.uint8 else image.float().clone()
        image = self.transform(image) if self.transform else image
        label = int(sample.defect != GOOD)
        return Item(image, label, mask == 1, index, (mask == UNKNOWN) | bool(label and not self.has_masks))


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
        warned: those of the notes that a warning has told.
    """

    name: str
    train: AnomalyDataset
    test: AnomalyDataset | None
    normalize: bool = True
    validation: AnomalyDataset | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """Return layout, numbers of images, defect types and notes."""
        return {"name": self.name, "layout": self.layout, "train": f"{len(self.train)} good images",
                "validation": f"{len(self.validation)} good images" if self.validation else None,
                "test": self.test.summary()["items"] if self.test else "no images",
                **{f"note {i}": note for i, note in enumerate(self.notes, 1)}}
