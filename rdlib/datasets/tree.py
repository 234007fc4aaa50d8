"""Describe a folder of images whose layout is not recognized, and the command by role that would fit."""
import shlex
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path, PurePosixPath

from rdlib.datasets.roles import images_below, role_of
from rdlib.images import EXTENSIONS

SHOWN = 20  # lines of a tree at most, and folders of a role in a command


def images_by_folder(folder: Path) -> dict[str, list[Path]]:
    """Map every folder that holds images, relative to `folder`, to the images directly in it."""
    images = images_below(folder)
    return {place.as_posix(): list(paths) for place, paths in
            groupby(images, key=lambda path: path.parent.relative_to(folder))}


def place_role(place: str) -> str:
    """Return the role that the names along a relative path give: the strongest of masks, bad and good, or ""."""
    roles = [role_of(name) for name in PurePosixPath(place).parts]
    return next((role for role in ("masks", "bad", "good") if role in roles), "")


def not_read(folder: Path, fitting: list[str]) -> str:
    """Say why a folder is not read, what it holds, and which command by role would fit."""
    places = {place: len(images) for place, images in images_by_folder(folder).items()}
    boxes = Counter(path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.txt"))
    boxes = Counter({place: number for place, number in boxes.items() if place_role(place) == "masks"})
    if not places and not boxes:
        return f"{folder} holds no images. Put images without defects there ({', '.join(sorted(EXTENSIONS))})."
    why = (f"can be read as {' or as '.join(fitting)}, so it is not read" if fitting else
           "has no layout that is recognized: no folder train/good, and no good/ beside bad/ (see data/README.md)")
    if boxes:
        why += f". It has {boxes.total()} text files of labels, but boxes are not masks"
    tree = [*_lines(Counter(places), "image"), *_lines(boxes, "text file")]
    more = [f"  and {len(tree) - SHOWN} more folders"] * (len(tree) > SHOWN)
    return "\n".join([f"{folder} {why}. It holds:", *tree[:SHOWN], *more, "Name the role of each folder:",
                      *_commands(folder, _suggest(places, bool(boxes)))])


def _lines(places: Counter[str], what: str) -> list[str]:
    """List folders down to two levels, with the number of files in and below them."""
    counts: Counter[str] = Counter()
    for place, number in places.items():
        counts["/".join(PurePosixPath(place).parts[:2]) or "."] += number
    return [f"  {place}: {number} {what}{'s' * (number != 1)}" for place, number in sorted(counts.items())]


def _suggest(places: Iterable[str], has_boxes: bool) -> dict[str, list[str]]:
    """Guess the folders of each role from their names, for a person to correct."""
    roles: dict[str, dict[str, None]] = {"good": {}, "defective": {}, "masks": {}, "test_good": {}}
    unknown = []
    for place in places:
        parts, role = PurePosixPath(place).parts, place_role(place)
        tested = bool(parts) and parts[0].lower().startswith(("test", "val"))
        if role:
            depth = [role_of(part) for part in parts].index(role) + 1
            name = {"bad": "defective", "good": "test_good" if tested else "good"}.get(role, role)
            roles[name]["/".join(parts[:depth])] = None
        elif tested:
            roles["defective"][place] = None
        else:
            unknown.append(place)
    if roles["good"] and not roles["defective"]:
        roles["defective"] = dict.fromkeys(place for place in unknown if place != ".")
    if not roles["good"] and len(unknown) == 1 and not has_boxes:
        roles["good"] = dict.fromkeys(unknown)
    return {name: list(found) for name, found in roles.items()}


def _commands(folder: Path, roles: dict[str, list[str]]) -> list[str]:
    """Write the roles as a shell command and as a call; a role that is unknown has a name in capitals."""
    paths = {role: [str(folder / place) for place in found] if len(found) <= SHOWN else []
             for role, found in roles.items()}
    paths |= {role: [f"{role.upper()}_FOLDER"] for role in ("good", "defective") if not paths[role]}
    given = {role: found for role, found in paths.items() if found}
    options = (f"--{role.replace('_', '-')} {' '.join(map(shlex.quote, found))}" for role, found in given.items())
    arguments = (f"{role}={found if len(found) > 1 else found[0]!r}" for role, found in given.items())
    return [f"  rdlib train {' '.join(options)} -o model.safetensors", f"  folder_dataset({', '.join(arguments)})"]
