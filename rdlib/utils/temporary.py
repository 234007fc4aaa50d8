"""Keep unfinished files in hidden folders that a lock marks as in use, and remove those that killed processes left."""
import errno
import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

fcntl: Any = import_module("fcntl") if os.name == "posix" else None  # Windows has none: nothing is removed there
# One folder for all of a user's, since listing a folder of many files for each write is slow.
UNFINISHED = f".rdlib-unfinished-{os.getuid() if fcntl else 0}"
PROBE = 1 << 20  # bytes that fit on no full disk
_PROCESS = uuid.uuid4().hex[:8]  # no process number: other hosts and restarted containers use the same ones


def behind_links(path: Path) -> Path:
    """Return where `path` leads to. Raises OSError if a device, a pipe or a link to itself lies there."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if os.path.lexists(target) and not target.is_file() and not target.is_dir():
        raise OSError(errno.EINVAL, "It is neither a file nor a folder")
    return target


@contextmanager
def temporary_folder(parent: Path) -> Generator[Path, None, None]:
    """Yield a folder hidden in `parent` that is removed at the end. Missing folders are created.

    First, folders that killed processes left there are removed. If the block fails and the disk is full, raise the
    OSError of a full disk, since some libraries raise another error.
    """
    place, name = parent / UNFINISHED, f"{_PROCESS}-{uuid.uuid4().hex[:8]}"
    with suppress(FileNotFoundError):  # another thread or process removes the place while it is listed
        for left in place.glob("????????-????????") if fcntl else ():
            if not left.name.startswith(_PROCESS):  # closing a file for the second time would end this process's lock
                with suppress(OSError), (left / "lock").open("ab") as lock:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its process lives, here or elsewhere
                    shutil.rmtree(left, ignore_errors=True)
    for attempt in range(99, -1, -1):
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
            held = (place / name / "lock").open("wb")
            with suppress(OSError, AttributeError):  # without locks, nobody can lock it, so nobody removes it
                fcntl.lockf(held, fcntl.LOCK_EX)
            (place / name / "lock").stat()
            break
        except (FileNotFoundError, FileExistsError):  # another process removed the place, or the folder before its lock
            if not attempt:
                raise
    try:
        yield place / name
    except Exception:
        (place / name / "probe").write_bytes(bytes(PROBE))
        raise
    finally:
        held.close()
        shutil.rmtree(place / name, ignore_errors=True)
        with suppress(OSError):  # others use it
            place.rmdir()
