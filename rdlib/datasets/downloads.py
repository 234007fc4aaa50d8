"""One door for files from elsewhere: over https, resumable, checked by SHA-256."""
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm.auto import tqdm

from rdlib.datasets.archives import unpack
from rdlib.utils.errors import DataError

SCHEMES = ("https",)
TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20


@dataclass(frozen=True)
class Download:
    """A file on record, kept beside the code of the data set that it belongs to."""

    url: str
    sha256: str
    size: int  # bytes, for the progress bar and the reader; what counts is the hash
    name: str  # of the file on disk
    licence: str
    folder: str = "."  # where its contents belong in the data set's root
    offline: str = "synthetic/weave"  # what `load_dataset` gives without a network


def data_root() -> Path:
    """The folder that data sets and downloads live in: $RDLIB_DATA, or ~/.cache/rdlib."""
    return Path(os.environ.get("RDLIB_DATA", "~/.cache/rdlib")).expanduser()


def data_folder(family: str, root: str | Path | None, downloads: Sequence[Download] = ()) -> Path:
    """Where a data set lies: `root` if it is given, else a folder of its name in `data_root()`.

    That folder of the kit's own is filled with `downloads` when it is first asked for; `root` is left as it is.
    Raises DataError where that fails.
    """
    if root is not None:
        return Path(root).expanduser()
    home = data_root() / family
    if downloads:
        provide(downloads, home / downloads[0].folder)
    return home


def provide(downloads: Sequence[Download], folder: Path, progress: bool = True) -> None:
    """Fetch archives and unpack them into `folder`, unless something is in it; the archives are removed afterwards.

    Safe for several processes at once: one works, the others wait. Raises DataError.
    """
    def is_filled() -> bool:
        return folder.is_dir() and any(folder.iterdir())

    if is_filled():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if is_filled():
                return
            archives = [fetch(download, folder.parent, progress) for download in downloads]
            unpack(archives, folder, progress)
            for archive in archives:
                archive.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error}). Set RDLIB_DATA to a folder of your own.") from error


def fetch(download: Download, folder: str | Path, progress: bool = True) -> Path:
    """The file of a record in `folder`, downloaded unless it is there, its SHA-256 checked either way.

    It arrives as NAME.part, which a later call continues (HTTP Range), and gets its name when it is whole. Raises
    DataError: unreachable, broken off, not https, or another SHA-256 than the one on record; never leaves a wrong file.
    """
    path = Path(folder) / download.name
    if path.exists():
        if not _matches(path, download):
            raise DataError(f"{path} is damaged: its SHA-256 is not {download.sha256}. Delete it and try again.")
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _receive(download, part, progress)
        if not _matches(part, download):
            part.unlink()
            raise HTTPException(f"what came has not the SHA-256 {download.sha256}")
        os.replace(part, path)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{download.name} could not be downloaded from {download.url} ({error or type(error).__name__}).\n"
            f"1. Try again: it goes on where it stopped. Or get the file on another machine and put it at {path}.\n"
            f"2. It is {download.size / 1e6:,.1f} MB; its licence: {download.licence}.\n"
            f"3. Offline, use load_dataset(\"{download.offline}\") meanwhile.") from error
    return path


def _matches(path: Path, download: Download) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == download.sha256


def _receive(download: Download, part: Path, progress: bool) -> None:
    """Complete `part`, or begin it anew where it is no beginning of the file on record."""
    if part.exists():
        try:
            _transfer(download, part, progress)
        except HTTPError as error:
            if error.code != 416:  # nothing beyond what is there: it may be whole
                raise
        if _matches(part, download):
            return
        part.unlink()
    _transfer(download, part, progress)


def _transfer(download: Download, part: Path, progress: bool) -> None:
    """Append what is missing of `part`; a server that ignores Range sends everything, which then replaces it."""
    start = part.stat().st_size if part.exists() else 0
    if urlsplit(download.url).scheme not in SCHEMES:
        raise HTTPException(f"only {' and '.join(SCHEMES)} will do")
    headers = {"User-Agent": "rdlib"} | ({"Range": f"bytes={start}-"} if start else {})
    with urlopen(Request(download.url, headers=headers), timeout=TIMEOUT) as answer:
        if urlsplit(answer.url).scheme not in SCHEMES:
            raise HTTPException(f"it leads to {answer.url}, and only {' and '.join(SCHEMES)} will do")
        start = start if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else download.size
        with part.open("ab" if start else "wb") as file, tqdm(
                total=total, initial=start, unit="B", unit_scale=True, desc=download.name, disable=not progress) as bar:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            if length and file.tell() < total:  # a closed connection looks like the end
                raise HTTPException(f"the connection closed after {file.tell()} of {total} bytes")
