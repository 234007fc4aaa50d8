"""Load any data set by its name."""
from pathlib import Path

from rdlib import synthetic
from rdlib.datasets import folders, novelty
from rdlib.datasets.assemble import Settings
from rdlib.datasets.downloads import data_root
from rdlib.datasets.layouts import own_folder
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, SceneSample
from rdlib.datasets.shapes import Size
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import nearest

__all__ = ["AnomalyData", "data_root", "load_dataset"]

SIZE = 256  # side of the images in the official protocol, in pixels
ON_DISK = {"mvtec": folders.mvtec, "visa": folders.visa, "btad": folders.btad}


def load_dataset(name: str, root: str | Path | None = None, size: Size | None = None, *, n_train: int | None = None,
                 seed: int = 0, white: float | None = None, mask_threshold: float | None = None,
                 keep_defects: bool = False) -> AnomalyData:
    """Load a data set by its name, split into train and test. One warning says what was left out and looks wrong.

    Args:
        name: "synthetic/CATEGORY", see `synthetic.CATEGORIES`, needs no download. "mvtec/CATEGORY", "visa/CATEGORY",
            "btad/CATEGORY" and "magnetic_tile": see `datasets.folders`. "folder:PATH": your own images; data/README.md
            lists the layouts that are recognized, and `folder_dataset` reads all others.
            One class against the rest, by number or name: "digits/3" (no download), "mnist/3",
            "fashion_mnist/Dress" or "cifar10/cat".
        root: the folder that holds the data set. Default: a folder of its name in `data_root()`. A missing data set is
            downloaded into the default folder only. MVTec AD and magnetic_tile are never downloaded.
        size: side of a square, or (H, W), that every image is resized to, in pixels; or "fit", the size of about
            256 * 256 pixels that keeps the images' shape. Default, as in the official protocol: 32 for one class
            against the rest, else 256.
        n_train: number of training images to keep, from the first on, 1 or more. Default: all.
        seed: seed of the synthetic scenes, and of good images held out to test with, 0 or more.
        white: value of white in image files of more than 8 bits; None: found from the training images.
        mask_threshold: values of mask files above it are defect; None: decided from all masks.
        keep_defects: keep at least one pixel of every outlined defect when masks shrink.

    Returns:
        Train and test set; `test` is None for a folder of good images.

    Raises:
        ValueError: unknown name, or `n_train` below 1.
        DataError: folders or files are missing or damaged, or a download failed.
    """
    if n_train is not None and n_train < 1:
        raise ValueError(f"n_train must be 1 or more, got {n_train}. Leave it out for all training images.")
    family, _, category = name.partition("/")
    how = Settings(SIZE if size is None else size, seed, white, mask_threshold, keep_defects)
    usual = novelty.SIZE if family in novelty.CLASSES else SIZE
    square = as_size(usual if size is None or size == "fit" else size)  # where images are square
    if name.startswith("folder:"):
        data = own_folder(Path(name.removeprefix("folder:")).expanduser(), how)
    elif family == "synthetic":
        data = _synthetic(category, square, seed)
    elif family in ON_DISK:
        data = ON_DISK[family](category, root, how)
    elif name == "magnetic_tile":
        data = folders.magnetic_tile(root, how)
    elif family in novelty.CLASSES:
        data = novelty.one_against_rest(family, category, root, square)
    else:
        raise ValueError(f"There is no data set '{name}'. Choose synthetic/CATEGORY, mvtec/CATEGORY, visa/CATEGORY, "
                         f"btad/CATEGORY, magnetic_tile, {'/CLASS, '.join(novelty.CLASSES)}/CLASS or folder:PATH."
                         f"{nearest(family, ['synthetic', *ON_DISK, 'magnetic_tile', *novelty.CLASSES])}")
    data.train.samples = data.train.samples[:n_train]
    return data


def _synthetic(category: str, size: tuple[int, int], seed: int) -> AnomalyData:
    train, test = (AnomalyDataset([SceneSample(scene, f"{category}/{part}/{scene.defect or GOOD}/{i:03d}") for i, scene
                                   in enumerate(synthetic.scene_list(category, part, seed))], size)
                   for part in ("train", "test"))
    return AnomalyData(f"synthetic/{category}", train, test)
