"""Load any data set by its name: scenes, photographs, industrial data sets in folders, one class against the rest."""
import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rdlib import synthetic
from rdlib.datasets.downloads import CATEGORIES, NOT_FOUND, SOURCES, data_folder, data_root
from rdlib.datasets.layouts import own_folder, read, train_and_test
from rdlib.datasets.photos import patch_list
from rdlib.datasets.roles import Entry, Roles, Settings, Size, as_data, warn
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, ArraySample, SceneSample
from rdlib.images import subfolders
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError, check_argument, check_choice, checked, nearest

__all__ = ["AnomalyData", "data_root", "load_dataset"]

SIZE, SMALL = 256, 32  # side of the images in the official protocol, in pixels; of one class against the rest
CLASSES = {family: CATEGORIES[family] for family in ("digits", "mnist", "fashion_mnist", "cifar10")}
THRESHOLDS = {"visa": 0, "magnetic_tile": 127}  # VisA's masks hold numbers of defect types, those of the tiles noise

Split = tuple[np.ndarray, np.ndarray]  # (N, h, w) or (N, h, w, 3) uint8 images, (N,) class numbers


@checked
def load_dataset(name: str, root: str | Path | None = None, size: Size | None = None, *, n_train: int | None = None,
                 seed: int = 0, white: float | None = None, mask_threshold: float | None = None,
                 keep_defects: bool = False) -> AnomalyData:
    """Load a data set by its name, split into train and test. One warning says what was left out and looks wrong.

    Args:
        name: "synthetic/CATEGORY", see `synthetic.CATEGORIES`, needs no download. "photo/brick", "photo/grass" and
            "photo/gravel" are photographs that come with scikit-image, with painted defects. "mvtec/CATEGORY",
            "visa/CATEGORY", "btad/CATEGORY" and "magnetic_tile" are on disk. "folder:PATH": your own images;
            data/README.md lists the layouts that are recognized, and `folder_dataset` reads all others.
            One class against the rest, by number or name: "digits/3" (no download), "mnist/3",
            "fashion_mnist/Dress" or "cifar10/cat".
        root: the folder that holds the data set. Default: a folder of its name in `data_root()`. A missing data set is
            downloaded into the default folder only. MVTec AD and magnetic_tile are never downloaded.
        size: side of a square, or (H, W), that every image is resized to, in pixels; or "fit", the size of about
            256 * 256 pixels that keeps the images' shape. Default, as in the official protocol: 32 for one class
            against the rest, else 256.
        n_train: number of training images to keep, from the first on, 1 or more. Default: all.
        seed: seed of the synthetic scenes, of the patches of photographs, and of good images held out to test with, 0
            or more.
        white: value of white in image files of more than 8 bits; None: found from the training images.
        mask_threshold: values of mask files above it are defect; None: decided from all masks.
        keep_defects: keep at least one pixel of every outlined defect when masks shrink.

    Returns:
        Train and test set; `test` is None for a folder of good images.

    Raises:
        ValueError: unknown name, or `n_train` below 1.
        DataError: folders or files are missing or damaged, or a download failed.
    """
    family, _, category = name.partition("/")
    usual = SMALL if family in CLASSES else SIZE
    threshold = THRESHOLDS.get(family) if mask_threshold is None else mask_threshold
    how = Settings(usual if size is None else size, seed, white, threshold, keep_defects)
    square = as_size(usual if isinstance(how.size, str) and how.size == "fit" else how.size)  # where images are square
    if name.startswith("folder:"):
        place = check_argument("PATH in folder:PATH", name.removeprefix("folder:"), str | Path)
        data = own_folder(Path(place).expanduser(), how)
    elif family in ("synthetic", "photo"):
        scenes: Callable = synthetic.scene_list if family == "synthetic" else patch_list
        train, test = (
            AnomalyDataset([SceneSample(scene, f"{category}/{part}/{scene.defect or GOOD}/{i:03d}")
                            for i, scene in enumerate(scenes(category, part, seed))], square)
            for part in ("train", "test"))
        data = AnomalyData(name, train, test)
    elif family in ("mvtec", "visa", "btad"):
        data = _category(family, category, root, how)
    elif name == "magnetic_tile":
        data = _magnetic_tile(data_folder(family, root), how)
    elif family in CLASSES:
        data = _one_against_rest(family, category, root, square)
    else:
        raise ValueError(f"There is no data set '{name}'. Choose synthetic/CATEGORY, photo/NAME, mvtec/CATEGORY, "
                         f"visa/CATEGORY, btad/CATEGORY, magnetic_tile, {'/CLASS, '.join(CLASSES)}/CLASS or "
                         f"folder:PATH.{nearest(family, ['synthetic', 'photo', *CATEGORIES, 'magnetic_tile'])}")
    data.train.samples = data.train.samples[:n_train]
    return warn(data)


def _category(family: str, category: str, root: str | Path | None, how: Settings) -> AnomalyData:
    """Read a category of MVTec AD, of VisA (Zou et al., ECCV 2022) in its one-class split, or of BTAD (Mishra et al.).

    Any folder in MVTec AD's root is a category; the user has to accept its license first, so nothing is downloaded.
    VisA has the published layout, or the one like MVTec AD that the authors' script writes. Raises ValueError for an
    unknown category of VisA or BTAD. Raises DataError if files are missing or a download failed.
    """
    if family in SOURCES:
        check_choice(f"category of {SOURCES[family].title}", category, CATEGORIES[family])
    root = data_folder(family, root)
    if family == "visa" and not (root / category / "train").is_dir():
        return as_data(f"visa/{category}", "", _visa_split(category, root), root, how, [root / category])
    for folder in (root / category, root / "BTech_Dataset_transformed" / category):  # as BTAD's archive has it
        if category and folder.is_dir():
            return read(f"{family}/{category}", folder, train_and_test(folder), how)
    if family in SOURCES:
        raise SOURCES[family].missing(root, f"no folder {category}")
    known = dict.fromkeys([*CATEGORIES[family], *(path.name for path in subfolders(root))])
    raise DataError(NOT_FOUND[family].format(folder=root / (category or "CATEGORY"), categories=", ".join(known),
                                             nearest=nearest(category, known)))


def _visa_split(category: str, root: Path) -> Roles:
    """Read the images of a category from VisA's table. The only defect type is "bad"."""
    split, roles = root / "split_csv" / "1cls.csv", dict[str, list[Entry]](train=[], test=[])
    if not split.exists():
        raise SOURCES["visa"].missing(root, f"no {split}")
    lines, real = split.read_text(encoding="utf-8-sig", errors="backslashreplace").split("\n"), root.resolve()
    rows = csv.DictReader(lines, restval="")
    try:
        for row in rows:
            if row.get("object") == category:
                check_choice("split", row["split"], roles)
                check_choice("label", row["label"], ("normal", "anomaly"))
                kind, mask = ("bad", row["mask"]) if row["label"] == "anomaly" else (GOOD, "")
                if kind == "bad" and row["split"] == "train":
                    raise DataError(f"{row['image']} is an anomaly in train, but only normal images are trained on")
                image, *masks = paths = [root / row["image"], *[root / mask] * bool(mask)]
                if wrong := [path for path in paths if not (path.is_file() and path.resolve().is_relative_to(real))]:
                    raise DataError(f"{wrong[0]} is no file in {root}")
                roles[row["split"]].append((image, kind, tuple(masks)))
    except (ValueError, OSError, KeyError, csv.Error) as error:
        raise DataError(f"{split}, line {rows.reader.line_num}: {error}. Unpack the archive again.") from error
    return Roles(roles["train"], roles["test"])


def _magnetic_tile(root: Path, how: Settings) -> AnomalyData:
    """Read the magnetic-tile images MT_TYPE/Imgs/*.jpg and the masks *.png beside them.

    In a fixed random order, the first 80 % of the good images are for training and the others for testing. Raises
    DataError if folders or files are missing.
    """
    images = {kind: sorted((root / f"MT_{kind}" / "Imgs").glob("*.jpg"), key=lambda path: path.name)
              for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")}
    if not all(images.values()):
        raise DataError(NOT_FOUND["magnetic_tile"].format(root=root))
    places = [paths[0].parent for paths in images.values()]
    good: list[Entry] = [(path, GOOD, ()) for path in images.pop("Free")]
    random.Random(0).shuffle(good)
    test: list[Entry] = [(path, kind.lower(), (path.with_suffix(".png"),)) for kind, paths in images.items()
                         for path in paths]
    if missing := [path for path, *_ in test if not path.with_suffix(".png").is_file()]:
        raise DataError(f"{missing[0]} has no mask {missing[0].with_suffix('.png')}. Download the folder again.")
    cut, black = int(0.8 * len(good)), [path.with_suffix(".png") for path, *_ in good]
    roles = Roles(good[:cut], good[cut:] + test, seen=black, as_listed=True)
    return as_data("magnetic_tile", "", roles, root, how, places)


def _one_against_rest(family: str, category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read a classification data set with one of its classes, by number or name, as the normal one.

    Training uses the train split of the normal class, and testing uses the whole test split. The defect type of a test
    image is "good" or the name of its class, so every class has its own result. Masks are empty. Gray images get three
    equal channels. `root` is torchvision's, which holds MNIST/raw, FashionMNIST/raw or cifar-10-batches-py.

    Raises ValueError for an unknown class. Raises DataError if files are missing or damaged, or a download failed.
    """
    names = CLASSES[family]
    numbers = {str(i): i for i in range(len(names))}
    choices = numbers | {name.casefold(): i for i, name in enumerate(names)}
    if category.casefold() not in choices:
        check_choice(f"class of {family}", category, dict.fromkeys([*numbers, *names]))
    normal = choices[category.casefold()]
    train, test = _digits() if family == "digits" else _torchvision_splits(family, root)
    for images, labels in (train, test):
        if len(images) != len(labels) or {*labels} - {*range(len(names))} or normal not in train[1]:
            raise DataError(f"Files of {family} hold {len(images)} images and {len(labels)} labels, with the classes "
                            f"{sorted({*map(int, labels)})}; they need one label an image, 0 to {len(names) - 1}, and "
                            f"training images of class {normal}. Download them again.")

    def samples(split: Split, folder: str) -> list[ArraySample]:
        return [ArraySample(image, f"{folder}/{i:05d}", GOOD if label == normal else names[label])
                for i, (image, label) in enumerate(zip(*split, strict=True))]

    good = [sample for sample in samples(train, "train") if sample.defect == GOOD]
    return AnomalyData(f"{family}/{names[normal]}", AnomalyDataset(good, size),
                       AnomalyDataset(samples(test, "test"), size, has_masks=False),
                       normalize=family == "cifar10")  # the official code does not normalize the gray data sets


def _digits() -> tuple[Split, Split]:
    """Read scikit-learn's 1,797 digits, 8 x 8, values 0 to 16.

    They have no splits, so every third image of each class is for testing.
    """
    from sklearn.datasets import load_digits  # here: slow to import, and no other data set needs it
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    is_test = np.tril(digits.target[:, None] == digits.target).sum(1) % 3 == 0
    return (images[~is_test], digits.target[~is_test]), (images[is_test], digits.target[is_test])


def _torchvision_splits(family: str, root: str | Path | None) -> tuple[Split, Split]:
    from torchvision import datasets  # here: slow to import, and worker processes do not need it
    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[family]
    root = data_folder(family, root)
    try:
        train, test = kind(root, train=True), kind(root, train=False)
    except Exception as error:  # the errors of damaged files share no base class
        raise SOURCES[family].missing(root / SOURCES[family].folder, error) from error
    return (np.asarray(train.data), np.asarray(train.targets)), (np.asarray(test.data), np.asarray(test.targets))
