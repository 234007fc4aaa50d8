"""Find files that ship with the kit, write files atomically, download and unpack archives."""
import errno
import gzip
import os
import re
import shutil
import tarfile
import unicodedata
import zipfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import pooch
from filelock import FileLock
from tqdm.auto import tqdm

from rdlib.utils.errors import DataError
from rdlib.utils.temporary import behind_links, temporary_folder

SCHEMES = ("https",)
FULL = (errno.ENOSPC, errno.EDQUOT)
WRITERS = ("PytorchStreamWriter", "inline_container", "(os error ")  # in errors of torch and safetensors on writing
TIMEOUT = 30.0  # seconds without a byte
LEAST_LIMIT, LIMIT_RATIO = 1_000_000_000, 20  # most bytes that an archive may unpack to, or times its size


def shipped(folder: str, name: str) -> Path:
    """Find a file that ships with the kit.

    Args:
        folder: data/FOLDER in a checkout, FOLDER beside the library where it is installed.
        name: name of the file in that folder.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    package = Path(__file__).parents[1]
    places = [package.parent / "data" / folder, package / folder]
    if found := [place / name for place in places if (place / name).is_file()]:
        return found[0]
    raise FileNotFoundError(f"{name} is neither in {places[0]} nor in {places[1]}. Reinstall the kit.")


@contextmanager
def written_atomically(path: str | Path) -> Generator[Path, None, None]:
    """Yield a temporary path on the disk of `path`, and rename it to `path` if the block succeeds.

    If the block fails or the process is killed, `path` is unchanged. A link stays, and what it leads to is replaced.
    Missing folders are created. What killed processes left in the folder is removed, see `temporary_folder`. Raises
    OSError in words if the file cannot be written.
    """
    path = Path(path)
    with explained(path, "could not be written"), temporary_folder((target := behind_links(path)).parent) as folder:
        temporary = folder / f"new{path.suffix[:20] or '.part'}"  # torch: never without; short, as names have a limit
        yield temporary
        for file in filter(Path.is_file, [temporary, *temporary.rglob("*")]):
            with file.open("r+b" if os.name == "nt" else "rb") as opened:
                os.fsync(opened.fileno())  # else a power cut after the rename leaves an empty file
        if temporary.is_dir() and target.is_dir():
            target.rmdir()  # on Windows, rename does not replace an empty folder
        os.replace(temporary, target)


def check_writable(path: Path, advice: str = "Choose another name or place.") -> None:
    """Try to write where a file is to lie, or else in a folder above. Raises OSError, with `advice`, if that fails."""
    with (explained(path, "cannot be written", advice),
          temporary_folder([*filter(Path.exists, behind_links(path).absolute().parents), path.parent][0]) as folder):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        (folder / "new").write_bytes(bytes(4096))


@contextmanager
def explained(path: Path, what: str, advice: str = "Choose another name or place.") -> Generator[None, None, None]:
    """Turn an error of the system, or of a library that writes, into an OSError that names the file and a next step."""
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} {what}: a name has no NUL characters. {advice}")
    try:
        yield
    except Exception as error:
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
        if not isinstance(error, OSError) and any(words in str(error) for words in WRITERS):
            known = re.search(r"\(os error (\d+)\)", str(error))
            number, reason = int(known[1]) if known else errno.EIO, str(error).partition("\n")[0]
        if not number or not reason or isinstance(error, (ConnectionError, TimeoutError)):  # no file's, or in words
            raise
        if number in FULL:
            reason, advice = "the disk is full", "Free some space, or choose a place on another disk."
        found = type(OSError(number, ""))(f"{path} {what}: {reason}. {advice}")
        found.errno = number
        raise found from error


@contextmanager
def folder_written_atomically(folder: Path) -> Generator[Path, None, None]:
    """Yield a temporary folder, and rename it to `folder` if the block succeeds.

    If the block fails, `folder` is unchanged. Raises OSError if `folder` has content.
    """
    with written_atomically(folder) as temporary:
        temporary.mkdir()
        yield temporary


@dataclass(frozen=True)
class Source:
    """A data set's archives on the web. `provide` downloads and unpacks them."""

    title: str
    licence: str
    archives: Sequence[Sequence]  # (URL, SHA-256, size in bytes) each
    folder: str = "."  # to unpack into, below the data set's root
    offline: str = "synthetic/weave"  # a data set that needs no download

    def missing(self, folder: Path, reason: object) -> DataError:
        """Build the error for files that are missing, damaged or cannot be downloaded."""
        megabytes = sum(size for _, _, size in self.archives) / 1e6
        return DataError(
            f"{self.title} could not be read from {folder} ({reason}).\n"
            f"1. With a network, leave root= out: it is downloaded ({megabytes:,.0f} MB; license: {self.licence}).\n"
            f"2. Or download and unpack {', '.join(url for url, _, _ in self.archives)} into {folder} yourself.\n"
            "3. Set RDLIB_DATA if another disk has more space or if you cannot write there.\n"
            f"4. Without a network, use load_dataset(\"{self.offline}\").")


def provide(source: Source, folder: Path) -> None:
    """Download archives and unpack them into `folder`, unless it already has content.

    `folder` gets all files or none. If several processes call this at once, one of them works and the others wait.

    Args:
        source: the archives; they lie beside `folder` until they are unpacked.
        folder: folder to unpack into; created if it is missing.

    Raises:
        DataError: a download failed, an archive is damaged, or the files cannot be written.
    """
    if any(folder.glob("*")):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not any(folder.glob("*")):  # else another process was faster
                archives = [download(url, sha256, folder.parent) for url, sha256, _ in source.archives]
                with folder_written_atomically(folder) as content:
                    for archive in archives:
                        unpack(archive, content)
                for archive in archives:
                    archive.unlink()
    except Exception as error:  # the errors of servers and of damaged archives share no base class
        raise source.missing(folder, error or type(error).__name__) from error


def download(url: str, sha256: str, folder: Path) -> Path:
    """Download a file over https and check its SHA-256.

    Args:
        url: address of the file. Redirects are followed to https only.
        sha256: hash in hexadecimal. A file in `folder` that has this hash is not downloaded again.
        folder: folder for the file; created if it is missing.

    Returns:
        Path of the file.

    Raises:
        ValueError: the address is not https, or the hash is wrong. A file with a wrong hash is not kept.
        OSError: the server cannot be reached or fails.
    """
    _check_scheme(url)
    downloader = pooch.HTTPDownloader(
        progressbar=True, chunk_size=1 << 20, timeout=TIMEOUT, hooks={"response": _check_redirect},
        headers={"Accept-Encoding": "identity"})  # the file as stored, since its hash is checked
    path = Path(folder) / url.rpartition("/")[2]
    if not path.exists() or pooch.file_hash(str(path)) != sha256:
        with written_atomically(path) as temporary:
            pooch.retrieve(url, f"sha256:{sha256}", temporary.name, temporary.parent, downloader=downloader)
    return path


def is_reachable(url: str, timeout: float = 3.0) -> bool:
    """Return whether the server of `url` answers within `timeout` seconds. The file is not downloaded."""
    with suppress(OSError, HTTPException), urlopen(Request(url, method="HEAD"), timeout=timeout):
        return True
    return False


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"{url} is refused: only {' and '.join(SCHEMES)} is allowed")


def _check_redirect(response: Any, **options: object) -> None:
    """Refuse a redirect to another scheme; requests calls this before it follows."""
    _check_scheme(urljoin(response.url, response.headers.get("Location", "")))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (also compressed), a zip, or a gz of a single file into an existing folder.

    Raises ValueError if an archive contains links, devices or paths outside the folder, if a tar ends early, if two
    files have one name, or if the content exceeds `LEAST_LIMIT` and `LIMIT_RATIO` times the archive's size. Raises
    OSError if it exceeds the free disk space.
    """
    limits = max(LEAST_LIMIT, LIMIT_RATIO * archive.stat().st_size), shutil.disk_usage(folder).free
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 have none
            tar.extractall(folder, members=_safe_members(tar, folder, limits))
            if tar.fileobj is None or tar.fileobj.tell() <= tar.offset:  # no zeros follow the last member
                raise ValueError("it ends early")
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder, _safe_members(zipped.infolist(), folder, limits))
    else:
        with gzip.open(archive) as packed, (folder / archive.stem).open("wb") as file:
            while chunk := packed.read(1 << 20):
                _check_size(file.tell() + len(chunk), *limits)
                file.write(chunk)


def _safe_members(members: Iterable[Any], folder: Path, limits: tuple[int, int]) -> Iterator[Any]:
    """Yield the files and folders of a tar or zip; refuse what `unpack` says."""
    seen, total = set[str](), 0
    for member in tqdm(members, "unpack", unit=" files", delay=3, leave=False, disable=None):
        name, size, is_folder, is_file = (
            (member.name, member.size, member.isdir(), member.isfile()) if isinstance(member, tarfile.TarInfo) else
            (member.filename, member.file_size, member.is_dir(), True))
        path = folder / name
        if not (is_folder or is_file) or not path.is_relative_to(folder) or ".." in path.relative_to(folder).parts:
            raise ValueError(f"{name} is a link, a device or outside the folder, or has .. in its path")
        key = unicodedata.normalize("NFC", os.path.normpath(name)).casefold()  # some disks ignore case
        if key in seen and not is_folder:
            raise ValueError(f"it holds two files named {name}, perhaps in another case")
        seen.add(key)
        _check_size(total := total + size, *limits)
        yield member


def _check_size(size: int, limit: int, free: int) -> None:
    if size > limit:
        raise ValueError(f"its content needs more than {limit / 1e9:.1f} GB, the limit for its size")
    if size > free:
        raise OSError(f"its content needs more than {free / 1e9:.1f} GB, the free space")
