"""Count the files in a data set's folders that are not used, and say why."""
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rdlib.datasets.names import place_in, place_role, role_of, without_labels
from rdlib.images import EXTENSIONS, SYSTEM_FOLDERS
from rdlib.masks import MaskRule, mask_codes
from rdlib.utils.errors import DataError, shown

# files that are no images, by extension or, without one, by name
QUIET = {f".{name}" for name in ("txt md rst cff bib odt json jsonl xml csv tsv yaml yml toml ini cfg log db pdf html "
                                 "htm py ipynb sh bat doc docx xls xlsx url lnk zip tar tgz gz xz 7z rar md5 sha256 "
                                 "pt pth onnx safetensors").split()}
PAGES = re.compile(r"licen[cs]e|readme|copying|notice|authors|changes|version|makefile|\w*sums?", re.IGNORECASE)
NAMES = "\0"  # stands for the names of some files
TEXT = {".txt", ".xml", ".json"}  # of boxes and outlines


def left_out(places: Sequence[Path], root: Path, used: Sequence[Path], rule: MaskRule) -> tuple[list[str], list[str]]:
    """Count the files below `places` that are not `used`; folders are named relative to `root`. `rule` reads masks.

    Returns:
        What a user must hear, and what is only noted: hidden images, masks of good images, files of other kinds.
    """
    real = {folder: folder.resolve() for folder in {path.parent for path in used}}
    known, stems = {real[path.parent] / path.name for path in used}, {path.stem for path in used}
    found = defaultdict(list)
    for start, folder, names in walk(places):
        place, files = place_in(root, folder), [folder.resolve() / name for name in names]
        pictures = {*without_labels([path for path in files if path.suffix.lower() in EXTENSIONS])}
        where, beside = f" in {place.as_posix() if place.parts else root.name}", not known.isdisjoint(pictures)
        in_system = any(map(SYSTEM_FOLDERS.fullmatch, folder.relative_to(start).parts))
        for path in files:
            if path not in known:
                hidden = in_system or path.name.startswith(".")
                reason = _reason(path, place, where, hidden, path in pictures, beside, path.stem in stems, rule)
                found[reason].append(path.name + (f" -> {path.readlink()}" if reason[1] == "broken link" else ""))
    lines: tuple[list[str], list[str]] = [], []
    for (quiet, what, why), names in sorted(found.items()):
        lines[quiet].append(f"left out: {len(names)} {what}{'s' * (len(names) != 1)}{why.replace(NAMES, shown(names))}")
    return lines


def _reason(path: Path, place: Path, where: str, hidden: bool, is_picture: bool, beside: bool,
            is_named: bool, rule: MaskRule) -> tuple[bool, str, str]:
    """Say why a file is left out: whether that is only noted, what the file is, and where it is or what to do."""
    suffix, role = path.suffix.lower(), place_role(place)
    is_image, is_good = suffix in EXTENSIONS, "good" in map(role_of, place.parts)
    is_mask, named = role == "masks" and is_image, f"{where}: {NAMES}"
    text, to_png = suffix in TEXT and is_named, ": not read as images. Convert images to PNG"
    cases = [  # whether the file is one; then as above
        (hidden and is_image, True, "hidden image", where),
        (hidden, True, "hidden file", ""),
        (path.is_symlink() and not path.exists(), False, "broken link", f"{named}. Mount or restore what it leads to"),
        (is_mask and not is_good, False, "mask", f"{where} without a defective image: {NAMES}. Rename a mask as its "
         "image"),
        (is_mask and is_good and _is_black(path, rule), True, "mask", f"{where}, of good images"),
        (is_mask, False, "mask", f"{where}, of good images, that mark defects: {NAMES}. Remove such images or masks"),
        # what a mask excludes lies beside good images
        (is_picture and (role == "bad" or beside and role != "good"), False, "defective image", where),
        (is_picture, False, "image", f"{named}. Move images to a folder with a role, or remove them"),
        (is_image, False, "label file", f"{where}, beside their images: {NAMES}. Move masks to a folder of their own"),
        (path.is_dir(), False, "folder", f"{where} that cannot be read: {NAMES}"),
        (text, False, f"{suffix} file", f"{where}, named as images: {NAMES}. Boxes and outlines in text are no masks"),
        (is_unread(path), False, f"{suffix} file", f"{where}{to_png}"),
        (suffix not in QUIET and (place.parts or beside) and not PAGES.fullmatch(path.stem), False, "file",
         f" without extension{where}{to_png}"),
        (True, True, f"{suffix if suffix in QUIET else ''} file".strip(), "")]
    return next((quiet, what, why) for is_case, quiet, what, why in cases if is_case)


def is_unread(path: Path) -> bool:
    """Return whether a file may be an image of another format, by its extension; 1.2.840 has none."""
    suffix = path.suffix.lower()
    return suffix not in QUIET | EXTENSIONS and bool(re.search("[a-z]", suffix))


def _is_black(path: Path, rule: MaskRule) -> bool:
    """Return whether a mask marks no defect; not if it cannot be read."""
    with suppress(DataError):
        return not (mask_codes(path, rule) == 1).any()
    return False


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
