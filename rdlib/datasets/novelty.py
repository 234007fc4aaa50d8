"""Load data for one-class novelty detection: one class is normal, all others are anomalous.

Training uses the train split of the normal class, and testing uses the whole test split. scikit-learn's digits have no
splits, so this kit defines them.
"""
from pathlib import Path

import numpy as np

from rdlib.datasets.downloads import CATEGORIES, SOURCES, data_folder
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, ArraySample
from rdlib.utils.errors import DataError, check_choice

SIZE = 32  # side of the images in the official protocol, in pixels (dataset.py:86-150)
CLASSES = {family: CATEGORIES[family] for family in ("digits", "mnist", "fashion_mnist", "cifar10")}

Split = tuple[np.ndarray, np.ndarray]  # (N, h, w) or (N, h, w, 3) uint8 images, (N,) class numbers


def one_against_rest(family: str, category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read a classification data set with one of its classes as the normal one.

    The defect type of a test image is "good" or the name of its class, so every class has its own result. Masks are
    empty. Gray images get three equal channels.

    Args:
        family: a key of `CLASSES`.
        category: the normal class, by number or name: "3" or "Dress".
        root: torchvision's root, which holds MNIST/raw, FashionMNIST/raw or cifar-10-batches-py. None is the default
            folder, see `data_folder`. The digits need none.
        size: (H, W) of every item, in pixels; the official protocol has 32 x 32.

    Returns:
        Train set of the normal class, and test set of all classes.

    Raises:
        ValueError: unknown class.
        DataError: the files are missing or damaged, or the download failed.
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
    """Read scikit-learn's 1,797 digits, 8 x 8, values 0 to 16; every third image of each class is for testing."""
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
