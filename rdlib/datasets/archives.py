"""Unpacking archives with care: nothing lands outside the folder, and nothing by halves."""
import gzip
import lzma
import os
import shutil
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from tqdm.auto import tqdm

from rdlib.utils.errors import DataError

DAMAGED = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def unpack(archives: Sequence[Path], folder: Path, progress: bool = True) -> None:
    """The files of `archives` (tar, also compressed; zip; gz of one file) into `folder`: all of them, or nothing.

    Raises DataError: an archive that is damaged, that names a path outside the folder, or that holds links or devices;
    or a folder that is not empty.
    """
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    archive = None
    try:
        temporary.mkdir(parents=True)
        for archive in archives:
            for name, stream in tqdm(_files(archive), unit=" files", desc=f"unpacking {archive.name}",
                                     disable=not progress):
                target = temporary / _inside(name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                with stream, target.open("wb") as file:
                    shutil.copyfileobj(stream, file)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except DAMAGED as error:
        raise DataError(f"{archive} could not be unpacked into {folder} ({error}). Check that the disk has room and "
                        "that the folder is not there or empty; else delete the archive and get it again.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file in an archive: its name and its content."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isfile() or member.isdir()):
                    raise DataError(f"{archive} holds a link or a device, {member.name}: it is not unpacked.")
                if member.isfile():
                    yield member.name, tar.extractfile(member)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    yield info.filename, zipped.open(info)
    else:
        with gzip.open(archive) as stream:
            yield archive.stem, stream


def _inside(name: str, archive: Path) -> str:
    """`name`, if it stays within the folder it is unpacked into, on every system."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or ".." in path.parts:
            raise DataError(f"{archive} wants to write outside its folder, to {name}: it is not unpacked.")
    return name
