"""Keep unfinished files in hidden folders that a lock marks as in use, and remove those that killed processes left."""
import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

fcntl: Any = import_module("fcntl") if os.name == "posix" else None
# One folder for all of a user's, since listing a folder of many files for each write is slow.
UNFINISHED = f".rdlib-unfinished-{os.getuid() if fcntl else 0}"
PROBE = 1 << 20  # bytes that fit on no full disk
_PROCESS = uuid.uuid4().hex[:8]  # no process number: other hosts and restarted containers use the same ones


@contextmanager
def temporary_folder(parent: Path) -> Generator[Path, None, None]:
    """Yield a folder hidden in `parent` that is removed at the end. Missing folders are created.

    First, folders that killed processes left there are removed. If the block fails and the disk is full, raise the
    OSError of a full disk, since some libraries raise another error.
    """
    for left in (parent / UNFINISHED).glob("????????-????????"):
        with suppress(OSError):  # its process lives
            _remove_left(left)
    folder, lock = _claim(parent / UNFINISHED)
    try:
        yield folder
    except Exception:
        (folder / "probe").write_bytes(bytes(PROBE))
        raise
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others use it
            folder.parent.rmdir()


def _claim(place: Path, attempts: int = 99) -> tuple[Path, IO[bytes]]:
    """Create a folder in `place`, and lock a file in it until the file is closed or the process ends."""
    folder = place / f"{_PROCESS}-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True)
        lock = (folder / "lock").open("wb")
        with suppress(OSError, AttributeError):  # without locks, nobody else gets one either, and nothing is removed
            fcntl.lockf(lock, fcntl.LOCK_EX)
        (folder / "lock").stat()
        return folder, lock
    except FileNotFoundError:  # another process has removed the place, or the folder before it was locked
        if not attempts:
            raise
        return _claim(place, attempts - 1)


def _remove_left(folder: Path) -> None:
    """Remove a folder if its process has ended, on this host or on another one. Raises OSError if it lives."""
    if fcntl is None:
        (folder / "lock").unlink()  # Windows refuses this while the file is open
        shutil.rmtree(folder, ignore_errors=True)
    elif not folder.name.startswith(_PROCESS):  # closing a file for the second time would end this process's lock
        with (folder / "lock").open("ab") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
