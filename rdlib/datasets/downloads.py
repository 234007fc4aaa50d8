"""List the downloads with address, SHA-256, size and license, and find the folders for data."""
import os
from pathlib import Path

from rdlib.utils.files import Source, provide


def _idx(base: str, *files: tuple[str, str, int]) -> tuple[tuple[str, str, int], ...]:
    """List files of MNIST's format: (name, SHA-256, size in bytes) each, below the address `base`."""
    return tuple((f"{base}{name}-ubyte.gz", sha256, size) for name, sha256, size in files)


# Hashes: anomalib (VisA, BTAD), TensorFlow Datasets (MNIST, Fashion-MNIST), Keras and torchvision (CIFAR-10).
# The size of BTAD's archive was reported by a user.
SOURCES = {
    "visa": Source("VisA", "CC BY 4.0", (
        ("https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
         "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362", 1_929_840_640),)),
    "btad": Source("BTAD", "CC BY-NC-SA 4.0", (
        ("https://avires.dimi.uniud.it/papers/btad/btad.zip",
         "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a", 1_229_193_337),)),
    "mnist": Source("MNIST", "CC BY-SA 3.0", _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ("train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542)),
        "MNIST/raw", "digits/3"),
    "fashion_mnist": Source("Fashion-MNIST", "MIT", _idx(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/"
        "data/fashion/",
        ("train-images-idx3", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("train-labels-idx1", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("t10k-images-idx3", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("t10k-labels-idx1", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148)),
        "FashionMNIST/raw", "digits/3"),
    "cifar10": Source("CIFAR-10", "none stated; cite Krizhevsky 2009", (
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
         "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071),), offline="digits/3"),
}


def data_root() -> Path:
    """Return the folder for data sets and downloads: $RDLIB_DATA, or ~/.cache/rdlib."""
    return Path(os.environ.get("RDLIB_DATA", "~/.cache/rdlib")).expanduser()


def data_folder(family: str, root: str | Path | None) -> Path:
    """Return the folder of a data set: `root`, or by default the folder `family` in `data_root()`.

    A data set of `SOURCES` is downloaded into the default folder if it is missing. Raises DataError if the download
    fails.
    """
    if root is not None:
        return Path(root).expanduser()
    home = data_root() / family
    if family in SOURCES:
        provide(SOURCES[family], home / SOURCES[family].folder)
    return home
