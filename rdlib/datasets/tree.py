"""Describe a folder of images whose layout is not recognized, and the command by role that would fit."""
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path, PurePosixPath

from rdlib.datasets.names import SPLIT, place_role, role_of
from rdlib.images import EXTENSIONS, images_below

SHOWN = 20  # lines of a tree at most


def images_by_folder(folder: Path) -> dict[Path, list[Path]]:
    """Map every folder that holds images, relative to `folder`, to the images directly in it."""
    return {place.relative_to(folder): list(paths)
            for place, paths in groupby(images_below(folder), key=lambda path: path.parent)}


def not_read(folder: Path, fitting: Iterable[str]) -> str:
    """Say why a folder is not read, what it holds, and which command by role would fit."""
    images = images_below(folder)
    labels = [path for path in folder.rglob("*.txt") if place_role(path.relative_to(folder).parent) == "masks"]
    if not images and not labels:
        return f"{folder} holds no images. Put images without defects there ({', '.join(sorted(EXTENSIONS))})."
    why = (f"can be read as {' or as '.join(fitting)}, so it is not read" if fitting else
           "has no layout that is recognized: no folder train/good, and no good/ beside bad/ (see data/README.md)")
    if labels:
        why += f". It has {len(labels)} text files of labels, but boxes are not masks"
    places = [(path.relative_to(folder).parts[:-1], path.suffix.lower()) for path in images + labels]
    counts = Counter(("/".join(parts[:2]) or ".", suffix) for parts, suffix in places)
    tree = [f"  {place}: {number} {suffix}" for (place, suffix), number in sorted(counts.items())]
    more = [f"  and {len(tree) - SHOWN} more"] * (len(tree) > SHOWN)
    return "\n".join([f"{folder} {why}. It holds:", *tree[:SHOWN], *more,
                      "Read one of its folders, or name the role of each, here or in rdlib.folder_dataset:",
                      _command(folder, () if fitting else images_by_folder(folder))])


def _command(folder: Path, places: Iterable[Path]) -> str:
    """Write the command by role that the names suggest; a role that is needed but unknown is in capitals."""
    found: dict[str, set[str]] = defaultdict(set)
    for place in places:
        parts = place.parts or (".",)
        splits = {i: match[1] for i, name in enumerate(parts, 1) if (match := SPLIT.fullmatch(name))}
        role = place_role(place) or ("bad" if splits.get(1) else "good" if str(place).lower() == "train" else "")
        depth = max(next((i for i, name in enumerate(parts, 1) if role == role_of(name) != ""), len(parts)), *splits, 0)
        found["test-good" if role == "good" and any(splits.values()) else role].add("/".join(parts[:depth]))
    bad = found["bad"] or (found[""] - {"."} if found["good"] else set())
    roles = {"good": found["good"], "defective": bad, "masks": found["masks"], "test-good": found["test-good"]}
    owner = {PurePosixPath(name): role for role, names in roles.items() for name in names}
    nested = {(place if role == owner[outer] else outer).as_posix() for place, role in owner.items()
              for outer in place.parents if outer in owner and (owner[outer], role) != ("defective", "masks")}
    options = [f"--{role} {shlex.join(str(folder / place) for place in sorted(names)) or role.upper() + '_FOLDER'}"
               for role in roles if (names := roles[role] - nested) or role in ("good", "defective")]
    return f"  rdlib train {' '.join(options)} -o model.safetensors"
