"""Read industrial data sets in folders, by name."""
import csv
import io
import random
from pathlib import Path

from rdlib.datasets.assemble import Entry, Roles, Settings, as_data
from rdlib.datasets.downloads import CATEGORIES, NOT_FOUND, SOURCES, data_folder
from rdlib.datasets.layouts import read, train_and_test
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.images import subfolders
from rdlib.utils.errors import DataError, check_choice, nearest


def mvtec(category: str, root: str | Path | None, how: Settings) -> AnomalyData:
    """Read a category of MVTec AD. The user has to accept its license first, so nothing is downloaded.

    Any folder in `root` with the layout of MVTec AD is a category. Raises DataError if folders or images are missing.
    """
    root = data_folder("mvtec", root)
    folder = root / category
    if not category or not folder.is_dir():
        known = dict.fromkeys([*CATEGORIES["mvtec"], *(path.name for path in subfolders(root))])
        raise DataError(NOT_FOUND["mvtec"].format(folder=folder if category else root / "CATEGORY",
                                                  categories=", ".join(known), nearest=nearest(category, known)))
    return read(f"mvtec/{category}", folder, train_and_test(folder), how)


def visa(category: str, root: str | Path | None, how: Settings) -> AnomalyData:
    """Read a category of VisA (Zou et al., ECCV 2022), in its one-class split.

    The layout is the published one, or the one like MVTec AD that the authors' script writes. Mask values are numbers
    of defect types, so every value above 0 is foreground. Raises ValueError for an unknown category. Raises DataError
    if files are missing, the table is damaged, or a download failed.
    """
    check_choice("category of VisA", category, CATEGORIES["visa"])
    root = data_folder("visa", root)
    how = how._replace(mask_threshold=how.mask_threshold or 0)
    if (root / category / "train").is_dir():
        return read(f"visa/{category}", root / category, train_and_test(root / category), how)
    split = root / "split_csv" / "1cls.csv"
    if not split.exists():
        raise SOURCES["visa"].missing(root, f"no {split}")
    return as_data(f"visa/{category}", "", _visa_split(category, split, root), root, how, [root / category])


def _visa_split(category: str, split: Path, root: Path) -> Roles:
    """Read the images of a category from VisA's table. The only defect type is "bad"."""
    roles: dict[str, list[Entry]] = {"train": [], "test": []}
    content, seen = split.read_bytes(), dict[Path, int]()
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        for row in rows:
            if row.get("object") == category:
                check_choice("split", row["split"], roles)
                check_choice("label", row["label"], ("normal", "anomaly"))
                bad = row["label"] == "anomaly"
                image, *masks = (_listed(row[part], root, seen, rows.line_num) for part in ("image", *["mask"] * bad))
                roles[row["split"]].append((image, "bad" if bad else GOOD, tuple(masks)))
    except (ValueError, OSError, KeyError, csv.Error) as error:
        line = (content.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else
                rows.reader.line_num)
        raise DataError(f"{split}, line {line}: {error}. Unpack the archive again.") from error
    return Roles(roles["train"], roles["test"])


def _listed(name: str, root: Path, seen: dict[Path, int], line: int) -> Path:
    """Return the path of a file in VisA's table; remember it as seen in this line. Raises DataError if it is wrong."""
    path, real = root / name, (root / name).resolve()
    if not real.is_relative_to(root.resolve()):
        raise DataError(f"{name} is outside {root}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if real in seen:
        raise DataError(f"{path} stands in line {seen[real]} already")
    seen[real] = line
    return path


def btad(category: str, root: str | Path | None, how: Settings) -> AnomalyData:
    """Read a category of BTAD (Mishra et al., 2021): train/ok, test/ok, test/ko, ground_truth/ko.

    Raises ValueError for an unknown category. Raises DataError if files are missing or a download failed.
    """
    check_choice("category of BTAD", category, CATEGORIES["btad"])
    root = data_folder("btad", root)
    inner = root / "BTech_Dataset_transformed"  # the archive's top folder
    folder = next((place / category for place in (root, inner) if (place / category).is_dir()), None)
    if not folder:
        raise SOURCES["btad"].missing(root, f"no folder {category}")
    return read(f"btad/{category}", folder, train_and_test(folder), how)


def magnetic_tile(root: str | Path | None, how: Settings) -> AnomalyData:
    """Read the magnetic-tile images MT_TYPE/Imgs/*.jpg and the masks *.png beside them.

    In a fixed random order, the first 80 % of the good images are for training and the others for testing. Raises
    DataError if folders or files are missing.
    """
    root = data_folder("magnetic_tile", root)
    images = {kind: sorted((root / f"MT_{kind}" / "Imgs").glob("*.jpg"), key=lambda path: path.name)
              for kind in ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")}
    if not all(images.values()):
        raise DataError(NOT_FOUND["magnetic_tile"].format(root=root))
    places = [paths[0].parent for paths in images.values()]
    good: list[Entry] = [(path, GOOD, ()) for path in images.pop("Free")]
    random.Random(0).shuffle(good)
    cut = int(0.8 * len(good))
    test: list[Entry] = [(path, kind.lower(), (path.with_suffix(".png"),)) for kind, paths in images.items()
                         for path in paths]
    if missing := [(path, mask) for path, _, masks in test for mask in masks if not mask.is_file()]:
        raise DataError(f"{missing[0][0]} has no mask {missing[0][1]}. Download the folder again.")
    # The masks have compression noise, so their maximum is no guide: foreground is above 127.
    how = how._replace(mask_threshold=127 if how.mask_threshold is None else how.mask_threshold)
    black = [path.with_suffix(".png") for path, _, _ in good]  # the masks of good images
    roles = Roles(good[:cut], good[cut:] + test, seen=black, as_listed=True)
    return as_data("magnetic_tile", "", roles, root, how, places)
