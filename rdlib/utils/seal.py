"""Seal files of our own with a SHA-256 of their bytes, so that a single changed bit is found when they are read."""
import mmap
import re
from hashlib import sha256
from pathlib import Path

from rdlib.utils.errors import WeightsError

UNSEALED = {"sha256": "0" * 64}  # a JSON text in the file holds this entry until `seal` fills it in
ENTRY = re.compile(rb'sha256\\?": \\?"([0-9a-f]{64})')  # also where the JSON text is quoted in another one


def seal(path: Path) -> None:
    """Write the SHA-256 of a file's bytes into its entry "sha256", whose own digits count as zeros."""
    place, _, digits = _digest(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(digits)


def check_seal(path: Path) -> None:
    """Raise WeightsError unless a file holds the SHA-256 of its own bytes, see `seal`."""
    _, found, digits = _digest(path)
    if found != digits:
        raise WeightsError(f"{path} is not as it was written: the SHA-256 of its bytes is {digits.decode()}, it says "
                           f"{found.decode() or 'none'}. It is damaged, or another program changed it. Get it again.")


def _digest(path: Path) -> tuple[int, bytes, bytes]:
    """Return the place of the entry's digits, these digits, and the right ones; without an entry 0 and b""."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        entry = ENTRY.search(content)
        place, found = (entry.start(1), entry[1]) if entry else (0, b"")
        content[place:place + len(found)] = b"0" * len(found)
        del entry  # it keeps the file mapped
        return place, found, sha256(content).hexdigest().encode()
