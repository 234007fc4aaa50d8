"""One-class novelty detection: one class of a classification set is normal, all others are anomalous (paper §4).

Train is the train split of the normal class, test the whole test split. MNIST, Fashion-MNIST and CIFAR-10 come with
splits; those of scikit-learn's digits and of Caltech-256, which have none, are this kit's own.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rdlib.datasets.downloads import Download, data_folder
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, ArraySample, FileSample
from rdlib.images import list_images
from rdlib.utils.errors import DataError

SIZE = 32  # side of the images in the official protocol (dataset.py:86-150)
FIRST_TEST_IMAGE = 60  # of each class of Caltech-256, by name: before it train, from it on test
DIGITS = tuple("0123456789")
CLASSES = {
    "digits": DIGITS,
    "mnist": DIGITS,
    "fashion_mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
FAMILIES = (*CLASSES, "caltech256")
NORMALIZED = ("cifar10", "caltech256")  # the official code leaves the grey sets as they are


def _idx(files: dict[str, tuple[str, int]], url: str, licence: str, folder: str) -> tuple[Download, ...]:
    return tuple(Download(f"{url}{name}", sha256, size, name, licence, folder, "digits/3")
                 for name, (sha256, size) in files.items())


# Hashes: TensorFlow Datasets (MNIST, Fashion-MNIST), Keras and torchvision (CIFAR-10), torchvision (Caltech-256).
DOWNLOADS = {
    "mnist": _idx({
        "train-images-idx3-ubyte.gz": ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        "train-labels-idx1-ubyte.gz": ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        "t10k-images-idx3-ubyte.gz": ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        "t10k-labels-idx1-ubyte.gz": ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    }, "https://ossci-datasets.s3.amazonaws.com/mnist/", "CC BY-SA 3.0", "MNIST/raw"),
    "fashion_mnist": _idx({
        "train-images-idx3-ubyte.gz": ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        "train-labels-idx1-ubyte.gz": ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        "t10k-images-idx3-ubyte.gz": ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        "t10k-labels-idx1-ubyte.gz": ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    }, "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/"
       "data/fashion/", "MIT", "FashionMNIST/raw"),
    "cifar10": (Download(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071, "cifar-10-python.tar.gz",
        "none stated; cite Krizhevsky 2009", offline="digits/3"),),
    "caltech256": (Download(
        "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
        "08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e", 1_183_006_720, "256_ObjectCategories.tar",
        "CC BY 4.0", "caltech256", "digits/3"),),
}
BY_HAND = """{family} is not at {folder}, or is damaged ({error}).
1. Leave root= out: it is then downloaded ({size:.0f} MB; licence: {licence}).
2. Or unpack {urls} into {folder}; root= is {root}, as torchvision has it.
3. Offline, use load_dataset("digits/3") meanwhile."""

Split = tuple[np.ndarray, np.ndarray]  # (N, h, w) or (N, h, w, 3) uint8 images, (N,) classes


def one_against_rest(family: str, category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """The class `category` of `family`, by number or by name, as the normal one.

    The defect of a test image is "good" or the name of its class, so that every class has its own result. There are no
    masks. Images are resized to `size`, grey ones get three equal channels.

    Args:
        family: one of `FAMILIES`.
        category: "3", "Dress" or "american-flag"; numbers count from 0, those of Caltech-256 from 1, as in its folders.
        root: torchvision's root: the folder that holds MNIST/raw, FashionMNIST/raw, cifar-10-batches-py or
            caltech256/256_ObjectCategories.
        size: (H, W) of every item; the official protocol has 32 x 32.

    Raises:
        ValueError: an unknown class.
        DataError: data that are missing or damaged and cannot be downloaded.
    """
    if family == "caltech256":
        return _caltech256(category, root, size)
    names = CLASSES[family]
    normal = _number(family, category, names, first=0)
    if family == "digits":
        train, test = _digits()
    else:
        train, test = _torchvisions(family, root)

    def part(split: Split, folder: str) -> list[ArraySample]:
        return [ArraySample(image, f"{folder}/{i:05d}", GOOD if label == normal else names[label])
                for i, (image, label) in enumerate(zip(*split, strict=True))]

    good = [sample for sample in part(train, "train") if sample.defect == GOOD]
    return AnomalyData(f"{family}/{names[normal]}", AnomalyDataset(good, size),
                       AnomalyDataset(part(test, "test"), size, has_masks=False), family in NORMALIZED)


def _number(family: str, category: str, names: Sequence[str], first: int) -> int:
    """The place of a class in `names`, from its number, counted from `first`, or its name."""
    numbers = {str(i): i - first for i in range(first, first + len(names))}
    numbers |= {name.casefold(): i for i, name in enumerate(names)}
    number = numbers.get(category.casefold(), numbers.get(category.lstrip("0")))
    if number is None:
        raise ValueError(f"There is no data set '{family}/{category}'. Choose {first} to {first + len(names) - 1}, or "
                         f"one of {', '.join(names)}.")
    return number


def _digits() -> tuple[Split, Split]:
    """scikit-learn's 1,797 digits, 8 x 8, values 0 to 16; every third image of each class is for testing."""
    from sklearn.datasets import load_digits  # here: slow to import, and no other data set needs it
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    is_test = np.zeros(len(images), bool)
    for digit in range(10):
        is_test[np.flatnonzero(digits.target == digit)[2::3]] = True
    return (images[~is_test], digits.target[~is_test]), (images[is_test], digits.target[is_test])


def _torchvisions(family: str, root: str | Path | None) -> tuple[Split, Split]:
    from torchvision import datasets as torchvision_sets  # here: slow to import, and a worker needs none of it
    kind = {"mnist": torchvision_sets.MNIST, "fashion_mnist": torchvision_sets.FashionMNIST,
            "cifar10": torchvision_sets.CIFAR10}[family]
    root = data_folder(family, root, DOWNLOADS[family])
    try:
        train, test = (kind(root, train=part) for part in (True, False))
    except (RuntimeError, ValueError, AssertionError, OSError) as error:
        raise _missing(family, root, error) from error
    return tuple((np.asarray(part.data), np.asarray(part.targets)) for part in (train, test))


def _missing(family: str, root: Path, error: object) -> DataError:
    downloads = DOWNLOADS[family]
    return DataError(BY_HAND.format(
        family=family, folder=root / downloads[0].folder, root=root, error=error, licence=downloads[0].licence,
        size=sum(download.size for download in downloads) / 1e6,
        urls=", ".join(download.url for download in downloads)))


def _caltech256(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """NUMBER.NAME/*.jpg; the first 60 images of a class by name are for training, the others for testing.

    Its 257th class, clutter, is anomalous like the others.
    """
    root = data_folder("caltech256", root, DOWNLOADS["caltech256"])
    folder = root / "caltech256" / "256_ObjectCategories"
    kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not kinds:
        raise _missing("caltech256", root, f"no {folder}")
    names = [kind.name.partition(".")[2] or kind.name for kind in kinds]
    normal = _number("caltech256", category, names, first=1)

    def part(i: int, images: slice) -> list[FileSample]:
        return [FileSample(path, f"{kinds[i].name}/{path.name}", GOOD if i == normal else names[i])
                for path in list_images(kinds[i])[images]]

    train, test = part(normal, slice(FIRST_TEST_IMAGE)), [
        sample for i in range(len(kinds)) for sample in part(i, slice(FIRST_TEST_IMAGE, None))]
    if not train:
        raise DataError(f"{kinds[normal]} holds no images. Unpack the archive again.")
    return AnomalyData(f"caltech256/{names[normal]}", AnomalyDataset(train, size),
                       AnomalyDataset(test, size, has_masks=False), normalize=True)
