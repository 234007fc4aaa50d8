"""Find data sets: the lists of downloads.toml, the folders for data, and archives that are unpacked into them."""
import os
import tomllib
import warnings
from pathlib import Path

from rdlib.images import subfolders
from rdlib.utils.errors import DataError
from rdlib.utils.files import Source, check_writable, provide, unpack
from rdlib.utils.temporary import temporary_folder

_records = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CATEGORIES = {family: tuple(names) for family, names in _records.pop("categories").items()}  # or classes
NOT_FOUND = _records.pop("not_found")  # what to do where the files of a family are missing
SOURCES = {family: Source(**record) for family, record in _records.items()}
INNER = {"mvtec": "train/good", "visa": "Data/Images", "btad": "train/ok"}  # a folder that each category has


def data_root() -> Path:
    """Return the folder for data sets and downloads: $RDLIB_DATA, or ~/.cache/rdlib.

    Raises OSError if that begins with ~ and this user has no home folder.
    """
    place = os.environ.get("RDLIB_DATA", "")
    folder = os.path.expanduser(place if place.strip() else "~/.cache/rdlib")
    if folder.startswith("~"):
        raise OSError("No home folder was found. Set RDLIB_DATA to a folder where you can write.")
    return Path(folder)


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


def unpack_dataset(archive: str | Path, root: Path | None = None) -> list[str]:
    """Unpack an archive of MVTec AD (all of it or one category), VisA or BTAD, recognized by what it holds.

    Categories that are there already are left as they are, and a warning names them.

    Args:
        archive: the archive as downloaded, under any name.
        root: folder for data sets; a folder for each family is made in it. Default: `data_root()`.

    Returns:
        The names of all categories in the archive, for `load_dataset`.

    Raises:
        DataError: the archive cannot be unpacked, or holds something else.
        OSError: `root` cannot be written.
    """
    archive, root = Path(archive).expanduser(), root or data_root()
    check_writable(root / archive.name, "Choose another root, or set RDLIB_DATA.")
    with temporary_folder(root) as temporary:
        (top := temporary / "new").mkdir()
        try:
            unpack(archive, top)
        except Exception as error:  # the errors of damaged archives share no base class
            advice = "Unpack it yourself if you trust it" if isinstance(error, ValueError) else (
                "Check the path and the space on the disk")
            raise DataError(f"{archive} cannot be unpacked ({error or type(error).__name__}). {advice}, or download it "
                            "again.") from error
        for place in (top, *(path for path in top.iterdir() if path.is_dir())):
            for family, inner in INNER.items():
                if found := [name for name in CATEGORIES[family] if (place / name / inner).is_dir()]:
                    (root / family).mkdir(exist_ok=True)
                    if left := [name for name in found if (root / family / name).exists()]:
                        warnings.warn(f"{root / family} has {', '.join(left)} already: left as it is. Remove a folder "
                                      "and unpack again to replace it.", stacklevel=2)
                    others = {*subfolders(place), *subfolders(top)} - {place / name for name in (*found, "split_csv")}
                    if names := sorted(path.name for path in others if path != place):
                        warnings.warn(f"{archive} also holds {', '.join(names)}: not unpacked, since no category of "
                                      f"{family} has this name. Unpack such folders yourself.", stacklevel=2)
                    for name in [*found, "split_csv"]:
                        if (place / name).is_dir() and not (root / family / name).exists():
                            (place / name).rename(root / family / name)
                    return [f"{family}/{name}" for name in found]
        raise DataError(f"{archive} is no archive of MVTec AD, VisA or BTAD. It holds "
                        f"{', '.join(sorted(path.name for path in top.iterdir())[:10]) or 'nothing'}. Unpack your own "
                        "images yourself, and read them with load_dataset(\"folder:PATH\").")
