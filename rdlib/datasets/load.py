"""Data sets by name: `load_dataset` is the one front door, whatever lies behind it (paper §4)."""
from numbers import Integral
from pathlib import Path

from rdlib import synthetic
from rdlib.datasets import folders, novelty
from rdlib.datasets.downloads import data_root
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, SceneSample

__all__ = ["AnomalyData", "data_root", "load_dataset"]

SIZE = 256  # side of the images in the official protocol


def load_dataset(name: str, root: str | Path | None = None, size: int | tuple[int, int] | None = None, *,
                 n_train: int | None = None, seed: int = 0) -> AnomalyData:
    """The data set `name`, split into train and test.

    Args:
        name: "synthetic/CATEGORY", of `synthetic.CATEGORIES` (embedded, offline); "mvtec/bottle" and its 14 siblings;
            "visa/CATEGORY", of `folders.VISA_CATEGORIES`; "btad/01" to "btad/03"; "magnetic_tile"; "folder:PATH", your
            own images: MVTec AD's layout (train/good, test/..., ground_truth/...) or just a folder of good images.
            One class against the rest, by number or name: "digits/3" (embedded, offline), "mnist/3",
            "fashion_mnist/Dress", "cifar10/cat", "caltech256/american-flag".
        root: the folder that holds the data set, where nothing is downloaded. Default: a folder of its name in
            `data_root()`, filled by download when first used (MVTec AD and magnetic_tile have no direct link).
        size: side of the square, or (H, W), that every image is resized to; default: that of the official protocol, 32
            for one class against the rest, else 256.
        n_train: keep only the first so many training images.
        seed: of the synthetic scenes.

    Raises:
        ValueError: an unknown name, or n_train below 1.
        DataError: folders or files that are missing; the message says which and what to do.
    """
    if n_train is not None and n_train < 1:
        raise ValueError(f"n_train is a number of images to keep, 1 or more; got {n_train}.")
    family, _, category = name.partition("/")
    size = _height_and_width(family, size)
    if name.startswith("folder:"):
        data = folders.own_folder(Path(name.removeprefix("folder:")).expanduser(), size)
    elif family == "synthetic":
        data = _synthetic(category, size, seed)
    elif family in ON_DISK:
        data = ON_DISK[family](category, root, size)
    elif name == "magnetic_tile":
        data = folders.magnetic_tile(root, size)
    elif family in novelty.FAMILIES:
        data = novelty.one_against_rest(family, category, root, size)
    else:
        raise ValueError(f"There is no data set '{name}'. Choose synthetic/CATEGORY, mvtec/CATEGORY, visa/CATEGORY, "
                         f"btad/CATEGORY, magnetic_tile, {'/CLASS, '.join(novelty.FAMILIES)}/CLASS or folder:PATH.")
    data.train.samples = data.train.samples[:n_train]
    return data


ON_DISK = {"mvtec": folders.mvtec, "visa": folders.visa, "btad": folders.btad}


def _height_and_width(family: str, size: int | tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        size = novelty.SIZE if family in novelty.FAMILIES else SIZE
    return (int(size), int(size)) if isinstance(size, Integral) else tuple(size)


def _synthetic(category: str, size: tuple[int, int], seed: int) -> AnomalyData:
    def part(name: str) -> AnomalyDataset:
        scenes = synthetic.scene_list(category, name, seed)
        return AnomalyDataset([SceneSample(scene, f"{category}/{name}/{scene.defect or GOOD}/{i:03d}")
                               for i, scene in enumerate(scenes)], size)

    return AnomalyData(f"synthetic/{category}", part("train"), part("test"))
