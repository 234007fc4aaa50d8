"""Unpack the archives of MVTec AD, VisA and BTAD to where `load_dataset` finds them."""
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from rdlib.datasets.downloads import CATEGORIES, data_root
from rdlib.utils.errors import DataError
from rdlib.utils.files import unpack

INNER = {"mvtec": "train/good", "visa": "Data/Images", "btad": "train/ok"}  # a folder that each category has


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
    """
    archive, root = Path(archive).expanduser(), root or data_root()
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root, prefix=".unpack-", ignore_cleanup_errors=True) as temporary:
        top = Path(temporary)
        try:
            unpack(archive, top)
        except Exception as error:  # the errors of damaged archives share no base class
            step = ("Give the file, not a folder" if archive.is_dir() else "Check the path" if not archive.exists() else
                    "Unpack it yourself if you trust it" if "outside the folder" in str(error) else
                    "Make space on the disk, or download it again")
            raise DataError(f"{archive} cannot be unpacked ({error or type(error).__name__}). {step}.") from error
        for place in (top, *(path for path in top.iterdir() if path.is_dir())):
            for family, inner in INNER.items():
                if found := [name for name in CATEGORIES[family] if (place / name / inner).is_dir()]:
                    (root / family).mkdir(exist_ok=True)
                    if left := [name for name in found if (root / family / name).exists()]:
                        warnings.warn(f"{root / family} has {', '.join(left)} already: left as it is. Remove a folder "
                                      "and unpack again to replace it.", stacklevel=2)
                    for name in [*found, "split_csv"]:
                        if (place / name).is_dir() and not (root / family / name).exists():
                            (place / name).rename(root / family / name)
                    return [f"{family}/{name}" for name in found]
        raise DataError(f"{archive} is no archive of MVTec AD, VisA or BTAD. It holds "
                        f"{', '.join(sorted(path.name for path in top.iterdir())[:10]) or 'nothing'}. Unpack your own "
                        "images yourself, and read them with load_dataset(\"folder:PATH\").")
