"""Describe a folder of images whose layout is not recognized, and the command by role that would fit."""
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path, PurePosixPath

from rdlib.datasets.roles import images_below, role_of
from rdlib.images import EXTENSIONS

SHOWN = 20  # lines of a tree at most, and folders of a role in a command


def images_by_folder(folder: Path) -> dict[str, list[Path]]:
    """Map every folder that holds images, relative to `folder`, to the images directly in it."""
    return {place.relative_to(folder).as_posix(): list(paths)
            for place, paths in groupby(images_below(folder), key=lambda path: path.parent)}


def place_role(place: str) -> str:
    """Return the role that the names along a relative path give: the strongest of masks, bad and good, or ""."""
    roles = {role_of(name) for name in PurePosixPath(place).parts}
    return next((role for role in ("masks", "bad", "good") if role in roles), "")


def not_read(folder: Path, fitting: Iterable[str]) -> str:
    """Say why a folder is not read, what it holds, and which command by role would fit."""
    places = images_by_folder(folder)
    labels = [place for path in folder.rglob("*.txt")
              if place_role(place := path.parent.relative_to(folder).as_posix()) == "masks"]
    if not places and not labels:
        return f"{folder} holds no images. Put images without defects there ({', '.join(sorted(EXTENSIONS))})."
    why = (f"can be read as {' or as '.join(fitting)}, so it is not read" if fitting else
           "has no layout that is recognized: no folder train/good, and no good/ beside bad/ (see data/README.md)")
    if labels:
        why += f". It has {len(labels)} text files of labels, but boxes are not masks"
    files = [(place, "image") for place, paths in places.items() for _ in paths] + [
        (place, "text file") for place in labels]
    counts = Counter(("/".join(PurePosixPath(place).parts[:2]) or ".", what) for place, what in files)
    tree = [f"  {place}: {number} {what}{'s' * (number != 1)}" for (place, what), number in sorted(counts.items())]
    more = [f"  and {len(tree) - SHOWN} more folders"] * (len(tree) > SHOWN)
    return "\n".join([f"{folder} {why}. It holds:", *tree[:SHOWN], *more, "Name the role of each folder:",
                      *_commands({role: [str(folder / place) for place in found]
                                  for role, found in _suggest(places, bool(labels)).items() if len(found) <= SHOWN})])


def _suggest(places: Iterable[str], has_boxes: bool) -> dict[str, list[str]]:
    """Guess the folders of each role from their names, for a person to correct."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for place in places:
        parts = PurePosixPath(place).parts
        tested = bool(parts) and parts[0].lower().startswith(("test", "val"))
        role = place_role(place) or ("bad" if tested else "unknown")
        depth = next((i for i, name in enumerate(parts, 1) if role_of(name) == role), len(parts))
        found["test_good" if role == "good" and tested else role]["/".join(parts[:depth]) or "."] = None
    unknown = [place for place in found["unknown"] if place != "."]
    good = [*found["good"]] or [*found["unknown"]] * (len(found["unknown"]) == 1 and not has_boxes)
    return {"good": good, "defective": [*found["bad"]] or unknown * bool(found["good"]), "masks": [*found["masks"]],
            "test_good": [*found["test_good"]]}


def _commands(roles: dict[str, list[str]]) -> list[str]:
    """Write the roles as a shell command and as a call; a role that is needed but unknown is in capitals."""
    given = {role: roles.get(role) or [f"{role.upper()}_FOLDER"] * (role in ("good", "defective"))
             for role in ("good", "defective", "masks", "test_good")}
    given = {role: paths for role, paths in given.items() if paths}
    options = " ".join(f"--{role.replace('_', '-')} {shlex.join(paths)}" for role, paths in given.items())
    arguments = ", ".join(f"{role}={paths if len(paths) > 1 else paths[0]!r}" for role, paths in given.items())
    return [f"  rdlib train {options} -o model.safetensors", f"  folder_dataset({arguments})"]
