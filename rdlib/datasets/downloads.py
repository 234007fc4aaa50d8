"""Read downloads.toml, which lists the data sets by name and the downloads, and find the folders for data."""
import os
import tomllib
from pathlib import Path

from rdlib.utils.files import Source, provide

_records = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CATEGORIES = {family: tuple(names) for family, names in _records.pop("categories").items()}  # or classes
NOT_FOUND = _records.pop("not_found")  # what to do where the files of a family are missing
SOURCES = {family: Source(**record) for family, record in _records.items()}


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
