"""Writing files whole or not at all, and finding those that ship with the kit."""
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def shipped(folder: str, name: str) -> Path:
    """A file that ships with the kit: in data/FOLDER of a checkout, in FOLDER beside the library where it is installed.

    Raises FileNotFoundError where neither has it; the message says where it was looked for.
    """
    here = Path(__file__).parents[1]
    places = [here.parent / "data" / folder, here / folder]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"{name} is neither in {places[0]} nor in {places[1]}. Install the kit anew.")


@contextmanager
def written_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; what was written there becomes `path` if the block ends well.

    After an error, a full disk or a kill, `path` is what it was before: never half a file. Folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix or '.part'}")  # torch: never without
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
