"""Data sets by name: `load_dataset` is the one front door, whatever lies behind it (paper §4)."""
import os
import random
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from rdlib import synthetic
from rdlib.errors import DataError
from rdlib.images import EXTENSIONS, list_images
from rdlib.samples import GOOD, AnomalyDataset, FileSample, SceneSample


@dataclass(frozen=True)
class AnomalyData:
    """A data set as one-class learning uses it: good images to train, good and defective ones to test."""

    name: str
    train: AnomalyDataset
    test: AnomalyDataset | None  # None where a folder holds good images only


def data_root() -> Path:
    """The folder that data sets and downloads live in: $RDLIB_DATA, or ~/.cache/rdlib."""
    return Path(os.environ.get("RDLIB_DATA", "~/.cache/rdlib")).expanduser()


def load_dataset(name: str, root: str | Path | None = None, size: int | tuple[int, int] = 256, *,
                 n_train: int | None = None, seed: int = 0) -> AnomalyData:
    """The data set `name`, split into train and test.

    Args:
        name: "synthetic/CATEGORY", of `synthetic.CATEGORIES` (embedded, offline); "mvtec/bottle" and its 14 siblings;
            "magnetic_tile"; "folder:PATH", your own images: MVTec AD's layout (train/good, test/..., ground_truth/...)
            or just a folder of good images.
        root: the folder that holds the data set; default: a folder of its name in `data_root()`.
        size: side of the square, or (H, W), that every image is resized to.
        n_train: keep only the first so many training images.
        seed: of the synthetic scenes.

    Raises:
        ValueError: an unknown name, or n_train below 1.
        DataError: folders or files that are missing; the message says which and what to do.
    """
    if n_train is not None and n_train < 1:
        raise ValueError(f"n_train is a number of images to keep, 1 or more; got {n_train}.")
    size = (int(size), int(size)) if isinstance(size, Integral) else tuple(size)
    family, _, category = name.partition("/")
    if name.startswith("folder:"):
        data = _folder(Path(name.removeprefix("folder:")).expanduser(), size)
    elif family == "synthetic":
        data = _synthetic(category, size, seed)
    elif family == "mvtec":
        data = _mvtec(category, Path(root or data_root() / "mvtec").expanduser(), size)
    elif name == "magnetic_tile":
        data = _magnetic_tile(Path(root or data_root() / "magnetic_tile").expanduser(), size)
    else:
        raise ValueError(f"There is no data set '{name}'. Choose synthetic/CATEGORY, mvtec/CATEGORY, magnetic_tile or "
                         "folder:PATH.")
    data.train.samples = data.train.samples[:n_train]
    return data


def _synthetic(category: str, size: tuple[int, int], seed: int) -> AnomalyData:
    def part(name: str) -> AnomalyDataset:
        scenes = synthetic.scene_list(category, name, seed)
        return AnomalyDataset([SceneSample(scene, f"{category}/{name}/{scene.defect or GOOD}/{i:03d}")
                               for i, scene in enumerate(scenes)], size)

    return AnomalyData(f"synthetic/{category}", part("train"), part("test"))


MVTEC_BY_HAND = """MVTec AD is not at {folder}.
1. Accept the licence (CC BY-NC-SA 4.0) at https://www.mvtec.com/company/research/datasets/mvtec-ad and download it.
2. Unpack it so that {folder}/train/good exists, or pass root= (or set RDLIB_DATA) to where it is.
3. Offline, use load_dataset("synthetic/weave") meanwhile."""


def _mvtec(category: str, root: Path, size: tuple[int, int]) -> AnomalyData:
    folder = root / category
    if not category or not folder.is_dir():
        raise DataError(MVTEC_BY_HAND.format(folder=folder if category else root / "CATEGORY"))
    return _mvtec_layout(f"mvtec/{category}", folder, size)


def _folder(folder: Path, size: tuple[int, int]) -> AnomalyData:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    if any((folder / part).is_dir() for part in ("train", "test", "ground_truth")):
        return _mvtec_layout(f"folder:{folder.name}", folder, size)
    return AnomalyData(f"folder:{folder.name}", AnomalyDataset(_good(folder, folder), size), None)


def _good(folder: Path, root: Path) -> list[FileSample]:
    samples = [FileSample(path, str(path.relative_to(root))) for path in list_images(folder)]
    if not samples:
        raise DataError(f"{folder} holds no images. Put good images there (png, jpg, bmp, tif or webp).")
    return samples


def _mvtec_layout(name: str, folder: Path, size: tuple[int, int]) -> AnomalyData:
    """train/good/*, test/good/*, test/DEFECT/*, ground_truth/DEFECT/STEM_mask.*"""
    if not (folder / "train" / GOOD).is_dir():
        raise DataError(f"{folder} has no folder train/{GOOD}. Put the good training images there, the test images in "
                        f"test/{GOOD} and test/NAME_OF_DEFECT, the masks in ground_truth/NAME_OF_DEFECT.")
    train = AnomalyDataset(_good(folder / "train" / GOOD, folder), size)
    if not (folder / "test").is_dir():
        return AnomalyData(name, train, None)
    has_masks = (folder / "ground_truth").is_dir()
    samples = []
    for kind in sorted(path for path in (folder / "test").iterdir() if path.is_dir()):
        images = list_images(kind)
        masks = _masks(images, folder / "ground_truth" / kind.name) if has_masks and kind.name != GOOD else {}
        samples += [FileSample(path, str(path.relative_to(folder)), kind.name, masks.get(path)) for path in images]
    if not samples:
        raise DataError(f"{folder}/test holds no images. Put them in test/{GOOD} and test/NAME_OF_DEFECT, "
                        "or remove the folder test to train without one.")
    return AnomalyData(name, train, AnomalyDataset(samples, size, has_masks))


def _masks(images: list[Path], folder: Path, suffixes: set[str] = EXTENSIONS) -> dict[Path, Path]:
    """The mask of every image, found by its name: STEM_mask as in MVTec AD, or STEM alone."""
    files = list_images(folder) if folder.is_dir() else []
    by_stem = {path.stem: path for path in files if path.suffix.lower() in suffixes}
    masks = {path: by_stem.get(f"{path.stem}_mask", by_stem.get(path.stem)) for path in images}
    for path, mask in masks.items():
        if mask is None:
            raise DataError(f"{path} has no mask: expected {folder / (path.stem + '_mask.png')}. Add it (all black if "
                            "the defect cannot be outlined), or remove the folder ground_truth to test without masks.")
    return masks


TILE_BY_HAND = """The magnetic-tile images are not at {root}.
1. Get the repository abin24/Magnetic-tile-defect-datasets from GitHub.
2. Put its folders MT_Free, MT_Blowhole, MT_Break, MT_Crack, MT_Fray and MT_Uneven there, or pass root=.
3. Offline, use load_dataset("synthetic/weave") meanwhile."""


def _magnetic_tile(root: Path, size: tuple[int, int]) -> AnomalyData:
    """MT_KIND/Imgs/*.jpg with masks *.png beside them; 80 % of the good ones train, in an order that is fixed."""
    if not (root / "MT_Free" / "Imgs").is_dir():
        raise DataError(TILE_BY_HAND.format(root=root))
    good = [FileSample(path, path.name) for path in sorted((root / "MT_Free" / "Imgs").glob("*.jpg"))]
    if len(good) < 2:
        raise DataError(f"{root / 'MT_Free' / 'Imgs'} holds {len(good)} images (*.jpg). Get them again.")
    random.Random(0).shuffle(good)
    cut = int(0.8 * len(good))
    test = good[cut:]
    for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven"):
        images = sorted((root / f"MT_{kind}" / "Imgs").glob("*.jpg"))
        if not images:
            raise DataError(f"{root / f'MT_{kind}' / 'Imgs'} holds no images (*.jpg). Get the folder MT_{kind} again.")
        masks = _masks(images, images[0].parent, suffixes={".png"})
        # The masks carry compression noise, so their own maximum says nothing: foreground is above 127.
        test += [FileSample(path, path.name, kind.lower(), masks[path], mask_threshold=127) for path in images]
    return AnomalyData("magnetic_tile", AnomalyDataset(good[:cut], size), AnomalyDataset(test, size))
