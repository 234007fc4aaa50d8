"""Count the files in a data set's folders that are not used, and say why."""
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rdlib.datasets.names import place_in, place_role, role_of, without_labels
from rdlib.images import EXTENSIONS, SYSTEM_FOLDERS

UNREAD = {f".{name}" for name in ("gif apng heic heif avif raw dng cr2 cr3 nef arw orf rw2 raf jp2 j2k jxl jxr pgm ppm "
                                  "pnm pbm npy npz mat exr hdr svg psd dcm tga ico fits").split()}  # formats of images
NAMES = "\0"  # stands for the names of some files
TEXT = {".txt", ".xml", ".json"}  # of boxes and outlines


def left_out(places: Sequence[Path], root: Path, used: Sequence[Path], seen: Sequence[Path] = ()) -> tuple[
        list[str], list[str]]:
    """Count the files below `places` that are neither `used` nor `seen`; folders are named relative to `root`.

    Returns:
        What a user must hear, and what is only noted: hidden images, masks of good images, files of other kinds.
    """
    real = {folder: folder.resolve() for folder in {path.parent for path in (*used, *seen)}}
    known = {real[path.parent] / path.name for path in (*used, *seen)}
    stems, found = {path.stem for path in used}, defaultdict(list)
    for start, folder, names in walk(places):
        place, files = place_in(root, folder), [folder.resolve() / name for name in names]
        pictures = {*without_labels([path for path in files if path.suffix.lower() in EXTENSIONS])}
        where, beside = f" in {place.as_posix() if place.parts else root.name}", not known.isdisjoint(pictures)
        in_system = any(map(SYSTEM_FOLDERS.fullmatch, folder.relative_to(start).parts))
        for path in files:
            if path not in known:
                hidden = in_system or path.name.startswith(".")
                reason = _reason(path, place, where, hidden, path in pictures, beside, path.stem in stems)
                found[reason].append(path.name)
    lines: tuple[list[str], list[str]] = [], []
    for (quiet, what, why), names in sorted(found.items()):
        shown = f"{', '.join(names[:2])}{', ...' * (len(names) > 2)}"
        lines[quiet].append(f"left out: {len(names)} {what}{'s' * (len(names) != 1)}{why.replace(NAMES, shown)}")
    return lines


def _reason(path: Path, place: Path, where: str, hidden: bool, is_picture: bool, beside: bool,
            is_named: bool) -> tuple[bool, str, str]:
    """Say why a file is left out: whether that is only noted, what the file is, and where it is or what to do."""
    suffix, role = path.suffix.lower(), place_role(place)
    if hidden:
        return (True, "hidden image", where) if suffix in EXTENSIONS else (True, "hidden file", "")
    if role == "masks" and suffix in EXTENSIONS:
        of_good = "good" in map(role_of, place.parts)
        return of_good, "mask", f"{where}{', of good images' if of_good else ' without a defective image: ' + NAMES}"
    if is_picture:  # what a mask excludes lies beside good images
        return False, "defective image" if role == "bad" or beside and role != "good" else "image", where
    if suffix in EXTENSIONS:
        return False, "label file", f"{where}, beside their images: {NAMES}. Move masks to a folder of their own"
    if path.is_dir():
        return False, "folder", f"{where} that cannot be read: {NAMES}"
    if suffix in UNREAD:
        return False, f"{suffix} file", f"{where}: this format is not read. Convert to PNG"
    if suffix in TEXT and is_named:
        return False, f"{suffix} file", f"{where}, named as images: {NAMES}. Boxes and outlines in text are no masks"
    return True, f"{suffix} file".strip(), ""


def walk(places: Sequence[Path], skip: Sequence[Path] = ()) -> Iterator[tuple[Path, Path, list[str]]]:
    """Yield the places, every folder below them once, also behind links, and the names of its files.

    The folders `skip` and what lies below them are left out. A folder that cannot be read counts as a file.
    """
    entered = set(map(os.path.realpath, skip))
    for start in places:
        for folder, below, names in os.walk(start, followlinks=True):
            if (real := os.path.realpath(folder)) in entered:
                below.clear()
            else:
                entered.add(real)
                below.sort()
                closed = [name for name in below if not os.access(Path(folder, name), os.R_OK | os.X_OK)]
                yield start, Path(folder), sorted(names + closed)
