"""Industrial data sets as they lie on disk: an image, its mask and its label from folders and names (paper §4)."""
import csv
import random
from pathlib import Path

from rdlib.datasets.downloads import Download, data_folder
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample
from rdlib.images import EXTENSIONS, list_images
from rdlib.utils.errors import DataError

# Hashes: anomalib's data modules have both; the size of BTAD's archive is a reader's account.
VISA = Download(
    "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362", 1_929_840_640, "VisA_20220922.tar", "CC BY 4.0")
MVTEC_CATEGORIES = ("carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut",
                    "pill", "screw", "toothbrush", "transistor", "zipper")
VISA_CATEGORIES = ("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
                   "pcb3", "pcb4", "pipe_fryum")
BTAD = Download(
    "https://avires.dimi.uniud.it/papers/btad/btad.zip",
    "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a", 1_229_193_337, "btad.zip", "CC BY-NC-SA 4.0")
BTAD_CATEGORIES = ("01", "02", "03")

MVTEC_BY_HAND = """MVTec AD is not at {folder}.
1. Accept the licence (CC BY-NC-SA 4.0) at https://www.mvtec.com/company/research/datasets/mvtec-ad and download it.
2. Unpack it so that {folder}/train/good exists, or pass root= (or set RDLIB_DATA) to where it is.
3. Offline, use load_dataset("synthetic/weave") meanwhile."""
BY_HAND = """{name} is not at {folder}.
1. Leave root= out: it is then downloaded ({size:.1f} GB, {licence}). Or get {url} yourself.
2. Unpack that so that {folder} exists, or pass root= (or set RDLIB_DATA) to where it is.
3. Offline, use load_dataset("synthetic/weave") meanwhile."""
TILE_BY_HAND = """The magnetic-tile images are not at {root}.
1. Get the repository abin24/Magnetic-tile-defect-datasets from GitHub.
2. Put its folders MT_Free, MT_Blowhole, MT_Break, MT_Crack, MT_Fray and MT_Uneven there, or pass root=.
3. Offline, use load_dataset("synthetic/weave") meanwhile."""


def mvtec(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """MVTec AD, a category of it. Raises DataError where it is not there: its licence has to be accepted first."""
    root = data_folder("mvtec", root)
    folder = root / category
    if not category or not folder.is_dir():
        raise DataError(MVTEC_BY_HAND.format(folder=folder if category else root / "CATEGORY"))
    return mvtec_layout(f"mvtec/{category}", folder, size)


def own_folder(folder: Path, size: tuple[int, int]) -> AnomalyData:
    """Images of the user's: in MVTec AD's layout, or good ones alone. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    if any((folder / part).is_dir() for part in ("train", "test", "ground_truth")):
        return mvtec_layout(f"folder:{folder.name}", folder, size)
    return AnomalyData(f"folder:{folder.name}", AnomalyDataset(_good(folder, folder), size), None)


def visa(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """VisA (Zou et al., ECCV 2022), its one-class split; as published, or as its authors' script makes it MVTec-like.

    Masks hold the numbers of kinds of defect: all above 0 is foreground. Raises ValueError, DataError.
    """
    _check("visa", category, VISA_CATEGORIES)
    root = data_folder("visa", root, (VISA,))
    if (root / category / "train").is_dir():
        return mvtec_layout(f"visa/{category}", root / category, size, mask_threshold=0)
    split = root / "split_csv" / "1cls.csv"
    if not (root / category / "Data").is_dir() or not split.is_file():
        missing = split if (root / category / "Data").is_dir() else root / category
        raise DataError(BY_HAND.format(name="VisA", folder=missing, url=VISA.url, size=VISA.size / 1e9,
                                       licence=VISA.licence))
    train, test = _visa_split(category, split, root)
    return AnomalyData(f"visa/{category}", AnomalyDataset(train, size), AnomalyDataset(test, size))


def _visa_split(category: str, split: Path, root: Path) -> tuple[list[FileSample], list[FileSample]]:
    """Train and test as VisA's table has them, in the order of the MVTec-like layout, whose only defect is "bad"."""
    parts: dict[str, list[FileSample]] = {"train": [], "test": []}
    with split.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            try:
                if row["object"] != category:
                    continue
                image, bad = root / row["image"], row["label"] != "normal"
                mask = root / row["mask"] if bad else None
                part = parts[row["split"]]
            except (KeyError, TypeError) as error:
                raise DataError(f"{split} is not VisA's table of object, split, label, image, mask: get it again from "
                                "github.com/amazon-science/spot-diff.") from error
            for path in (image, mask):
                if path is not None and not path.is_file():
                    raise DataError(f"{path} is named in {split} but is not there. Unpack the archive again.")
            part.append(FileSample(image, row["image"], "bad" if bad else GOOD, mask, mask_threshold=0))
    if not all(parts.values()):
        raise DataError(f"{split} has no train or no test images of {category}. Get it again.")
    train, test = (sorted(part, key=lambda sample: (sample.defect, sample.path.name)) for part in parts.values())
    return train, test


def btad(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """BTAD (Mishra et al., 2021): train/ok, test/ok, test/ko, ground_truth/ko. Raises ValueError, DataError."""
    _check("btad", category, BTAD_CATEGORIES)
    root = data_folder("btad", root, (BTAD,))
    inner = root / "BTech_Dataset_transformed"  # the folder that the archive holds
    folder = (inner if inner.is_dir() else root) / category
    if not folder.is_dir():
        raise DataError(BY_HAND.format(name="BTAD", folder=folder, url=BTAD.url, size=BTAD.size / 1e9,
                                       licence=BTAD.licence))
    return mvtec_layout(f"btad/{category}", folder, size, good="ok")


def _check(family: str, category: str, categories: tuple[str, ...]) -> None:
    if category not in categories:
        raise ValueError(f"There is no data set '{family}/{category}'. Choose one of {', '.join(categories)}.")


def _good(folder: Path, root: Path) -> list[FileSample]:
    samples = [FileSample(path, str(path.relative_to(root))) for path in list_images(folder)]
    if not samples:
        raise DataError(f"{folder} holds no images. Put good images there (png, jpg, bmp, tif or webp).")
    return samples


def mvtec_layout(name: str, folder: Path, size: tuple[int, int], good: str = GOOD,
                 mask_threshold: float | None = None) -> AnomalyData:
    """train/good/*, test/good/*, test/DEFECT/*, ground_truth/DEFECT/STEM_mask.* or STEM.*, in the order of names.

    Args:
        name: what the data set is called.
        folder: where it lies.
        size: (H, W) of every item.
        good: what this set calls its folders of good images.
        mask_threshold: foreground is what exceeds it; see `images.read_mask`.

    Raises:
        DataError: folders, images or masks that are missing; the message says which and what to do.
    """
    if not (folder / "train" / good).is_dir():
        raise DataError(f"{folder} has no folder train/{good}. Put the good training images there, the test images in "
                        f"test/{good} and test/NAME_OF_DEFECT, the masks in ground_truth/NAME_OF_DEFECT.")
    train = AnomalyDataset(_good(folder / "train" / good, folder), size)
    if not (folder / "test").is_dir():
        return AnomalyData(name, train, None)
    has_masks = (folder / "ground_truth").is_dir()
    samples = []
    for kind in sorted(path for path in (folder / "test").iterdir() if path.is_dir()):
        images = list_images(kind)
        masks = _masks(images, folder / "ground_truth" / kind.name) if has_masks and kind.name != good else {}
        defect = GOOD if kind.name == good else kind.name
        samples += [FileSample(path, str(path.relative_to(folder)), defect, masks.get(path), mask_threshold)
                    for path in images]
    if not samples:
        raise DataError(f"{folder}/test holds no images. Put them in test/{good} and test/NAME_OF_DEFECT, "
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


def magnetic_tile(root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """MT_KIND/Imgs/*.jpg with masks *.png beside them; 80 % of the good ones train, in an order that is fixed.

    Raises DataError where folders or files are missing.
    """
    root = data_folder("magnetic_tile", root)
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
