"""Find equal files in a data set: test images that are trained on, and copies."""
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

PIECE = 4096  # bytes in the middle of a file that are compared before all of it


def equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Group files with the same bytes. Only files of one size are opened; only those with one middle are read whole."""
    groups = [list(paths)]
    for key in (lambda path: path.stat().st_size, _middle, lambda path: sha256(path.read_bytes()).digest()):
        parts = defaultdict(list)
        for number, group in enumerate(groups):
            for path in group:
                parts[number, key(path)].append(path)
        groups = [part for part in parts.values() if len(part) > 1]
    return groups


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(PIECE)


def equal_notes(parts: Mapping[str, Sequence[Any]]) -> list[str]:
    """Count and name equal files of file samples, within the parts of a data set and across them."""
    found, pairs = {sample.path: (part, sample.name) for part in parts for sample in parts[part]}, defaultdict(list)
    for (origin, first), *others in ([found[path] for path in group] for group in equal_files(found)):
        for part, name in others:
            pairs[part, origin].append(f"{name} = {first}")
    return [f"{len(names)} {part} image{'s are' if len(names) > 1 else ' is'} equal to "
            f"{'other ' * (part == origin)}{origin} images: {', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)}"
            for (part, origin), names in pairs.items()]
