"""Read industrial data sets in folders, by name."""
import csv
import random
from pathlib import Path

from rdlib.datasets.downloads import SOURCES, data_folder
from rdlib.datasets.layouts import read, train_and_test
from rdlib.datasets.roles import Entry, Roles, as_data, subfolders
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample
from rdlib.masks import MaskRule
from rdlib.utils.errors import DataError, check_choice, nearest

MVTEC_CATEGORIES = ("carpet", "grid", "leather", "tile", "wood", "bottle", "cable", "capsule", "hazelnut", "metal_nut",
                    "pill", "screw", "toothbrush", "transistor", "zipper")
VISA_CATEGORIES = ("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
                   "pcb3", "pcb4", "pipe_fryum")
BTAD_CATEGORIES = ("01", "02", "03")

MVTEC_NOT_FOUND = """MVTec AD is not at {folder}.
1. Check the name. The categories are {categories}.{nearest}
2. Accept the license (CC BY-NC-SA 4.0) at https://www.mvtec.com/company/research/datasets/mvtec-ad and download it.
3. Unpack it with `rdlib data unpack ARCHIVE`, so that {folder}/train/good exists. Or pass root=, the folder that
   holds the categories, or set RDLIB_DATA, the folder that holds mvtec.
4. Without a network, use load_dataset("synthetic/weave")."""
TILES_NOT_FOUND = """The magnetic-tile images are not at {root}, or not all of them.
1. Download the repository abin24/Magnetic-tile-defect-datasets from GitHub.
2. Copy its folders MT_Free, MT_Blowhole, MT_Break, MT_Crack, MT_Fray and MT_Uneven there, or pass root=, their folder.
3. Without a network, use load_dataset("synthetic/weave")."""


def mvtec(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read a category of MVTec AD. The user has to accept its license first, so nothing is downloaded.

    Any folder in `root` with the layout of MVTec AD is a category. Raises DataError if folders, images or masks are
    missing.
    """
    root = data_folder("mvtec", root)
    folder = root / category
    if not category or not folder.is_dir():
        known = dict.fromkeys([*MVTEC_CATEGORIES, *(path.name for path in subfolders(root))])
        raise DataError(MVTEC_NOT_FOUND.format(folder=folder if category else root / "CATEGORY",
                                               categories=", ".join(known), nearest=nearest(category, known)))
    return read(f"mvtec/{category}", folder, train_and_test(folder), size)


def visa(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read a category of VisA (Zou et al., ECCV 2022), in its one-class split.

    The layout is the published one, or the one like MVTec AD that the authors' script writes. Mask values are numbers
    of defect types, so every value above 0 is foreground. Raises ValueError for an unknown category. Raises DataError
    if files are missing or a download failed.
    """
    check_choice("category of VisA", category, VISA_CATEGORIES)
    root = data_folder("visa", root)
    if (root / category / "train").is_dir():
        return read(f"visa/{category}", root / category, train_and_test(root / category), size, mask_threshold=0)
    split = root / "split_csv" / "1cls.csv"
    if not split.exists():
        raise SOURCES["visa"].missing(root, f"no {split}")
    return as_data(f"visa/{category}", "", _visa_split(category, split, root), root, size, mask_threshold=0)


def _visa_split(category: str, split: Path, root: Path) -> Roles:
    """Read the images of a category from VisA's table. The only defect type is "bad"."""
    roles: dict[str, list[Entry]] = {"train": [], "test": []}
    with split.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if row.get("object") == category:
                bad = row["label"] != "normal"
                entry = root / row["image"], "bad" if bad else GOOD, root / row["mask"] if bad else None
                if missing := [path for path in (entry[0], entry[2]) if path and not path.is_file()]:
                    raise DataError(f"{missing[0]} is named in {split} but does not exist. Unpack the archive again.")
                roles[row["split"]].append(entry)
    return Roles(roles["train"], roles["test"])


def btad(category: str, root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read a category of BTAD (Mishra et al., 2021): train/ok, test/ok, test/ko, ground_truth/ko.

    Raises ValueError for an unknown category. Raises DataError if files are missing or a download failed.
    """
    check_choice("category of BTAD", category, BTAD_CATEGORIES)
    root = data_folder("btad", root)
    inner = root / "BTech_Dataset_transformed"  # the archive's top folder
    folder = next((place / category for place in (root, inner) if (place / category).is_dir()), None)
    if not folder:
        raise SOURCES["btad"].missing(root, f"no folder {category}")
    return read(f"btad/{category}", folder, train_and_test(folder), size)


def magnetic_tile(root: str | Path | None, size: tuple[int, int]) -> AnomalyData:
    """Read the magnetic-tile images MT_TYPE/Imgs/*.jpg and the masks *.png beside them.

    In a fixed random order, the first 80 % of the good images are for training and the others for testing. Raises
    DataError if folders or files are missing.
    """
    root = data_folder("magnetic_tile", root)
    images = {kind: sorted((root / f"MT_{kind}" / "Imgs").glob("*.jpg"), key=lambda path: path.name)
              for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")}
    if not all(images.values()):
        raise DataError(TILES_NOT_FOUND.format(root=root))
    good = [FileSample(path, path.name) for path in images.pop("Free")]
    random.Random(0).shuffle(good)
    cut = int(0.8 * len(good))
    # The masks have compression noise, so their maximum is no guide: foreground is above 127.
    test = [FileSample(path, path.name, kind.lower(), path.with_suffix(".png"), rule=MaskRule(127))
            for kind, paths in images.items() for path in paths]
    if missing := [sample for sample in test if not sample.masks[0].is_file()]:
        raise DataError(f"{missing[0].path} has no mask {missing[0].mask}. Download the folder again.")
    return AnomalyData("magnetic_tile", AnomalyDataset(good[:cut], size), AnomalyDataset(good[cut:] + test, size))
