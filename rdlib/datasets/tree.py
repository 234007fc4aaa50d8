"""Describe a folder of images whose layout is not recognized, and the command by role that would fit."""
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rdlib.datasets.roles import images_below, role_of
from rdlib.images import EXTENSIONS

SHOWN = 20  # lines of a tree at most


def images_by_folder(folder: Path) -> dict[Path, list[Path]]:
    """Map every folder that holds images, relative to `folder`, to the images directly in it."""
    return {place.relative_to(folder): list(paths)
            for place, paths in groupby(images_below(folder), key=lambda path: path.parent)}


def place_role(place: Path) -> str:
    """Return the role that the names along a relative path give: the strongest of masks, bad and good, or ""."""
    roles = {role_of(name) for name in place.parts}
    return next((role for role in ("masks", "bad", "good") if role in roles), "")


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
                      _command(folder, images_by_folder(folder))])


def _command(folder: Path, places: Iterable[Path]) -> str:
    """Write the command by role that the names suggest; a role that is needed but unknown is in capitals."""
    found: dict[str, set[str]] = defaultdict(set)
    for place in places:
        parts = place.parts or (".",)
        tested = parts[0].lower().startswith(("test", "val"))
        role = place_role(place) or ("bad" if tested else "good" if str(place).lower() == "train" else "")
        depth = next((i for i, name in enumerate(parts, 1) if role_of(name) == role), len(parts))
        found["test-good" if role == "good" and tested else role].add("/".join(parts[:depth]))
    bad = found["bad"] or (found[""] - {"."} if found["good"] else set())
    roles = {"good": found["good"], "defective": bad, "masks": found["masks"], "test-good": found["test-good"]}
    options = [f"--{role} {shlex.join(str(folder / place) for place in sorted(names)) or role.upper() + '_FOLDER'}"
               for role, names in roles.items() if names or role in ("good", "defective")]
    return f"  rdlib train {' '.join(options)} -o model.safetensors"
