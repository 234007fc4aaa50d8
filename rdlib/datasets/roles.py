"""Build a data set from folders whose roles are known: good images, defective images, masks."""
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rdlib.datasets.holdout import hold_out
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample
from rdlib.images import list_images
from rdlib.masks import mask_rule
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

Folders = str | Path | Sequence[str | Path]
Mask = Path | tuple[Path, ...] | None  # one file, the files of its parts, or unknown
Masks = dict[tuple[str, str], Mask]  # by defect type ("" for any) and name of the image without extension
Entry = tuple[Path, str, Mask]  # image, defect type or "good", mask

SHARE = 0.2  # of the good images, for testing, where no others are given
MASK_SUFFIX = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)  # at the end of a mask's name
DEFECT = (r"(?:bad|ng|n_?ok|ko|not_ok|not_?good|no_good|def|defects?|defective|abnormal|anomal(?:y|ies|ous)|"
          r"fail(?:ed|ures?)?|fault[sy]?|rejects?|rejected)")
WORDS = {"masks": r"(?:(?:bad|ng|ko|def|defects?|defective|anomaly)_)?(?:masks?|ground_?truths?|gt|labels?)",
         "good": rf"good|ok|okay|normal|pass|passed|nominal|(?:no|non|not|without|zero|free_of)_?{DEFECT}|"
                 rf"(?:{DEFECT}|[a-z]+_)_?(?:free|less)", "bad": DEFECT}
# a part of a split by name, such as train or val_2; the group is what is not for training
SPLIT = re.compile(r"(?:train|(test|val))(?:ing|id|idation)?(?:[^a-z].*)?", re.IGNORECASE)


class Roles(NamedTuple):
    """The images of a data set by role. With `holds_out`, a share of `train` is for testing."""

    train: list[Entry]
    test: list[Entry]
    validation: Sequence[Entry] = ()
    holds_out: bool = False


def folder_dataset(*, good: Folders, defective: Folders | None = None, masks: Folders | None = None,
                   test_good: Folders | None = None, validation: Folders | None = None,
                   size: int | tuple[int, int] = 256, seed: int = 0) -> AnomalyData:
    """Build a data set from folders by role. Images in subfolders count too.

    A subfolder of `defective` is a defect type; images directly in `defective` have its name as type. The mask of
    NAME.png is NAME, NAME_mask, NAME_GT or NAME_label, or the images in a folder NAME, in `masks` or in `masks`/TYPE.

    Args:
        good: folder or folders of good images, to train on.
        defective: folder or folders of defective images, to test with.
        masks: folder or folders of masks, white where the defect is; without them, pixel metrics are left out.
        test_good: folder or folders of good images to test with. Default: 20 % of `good`, see `hold_out`.
        validation: folder or folders of good images for the threshold.
        size: side of a square, or (H, W), that every image is resized to, in pixels.
        seed: seed of the choice of the good test images.

    Returns:
        Train, validation and test set, with notes on how they were made.

    Raises:
        DataError: a folder is missing or has no images, a mask is missing, a file has two roles, or the only good
            image cannot be held out.
    """
    given = [[role] if isinstance(role, str | Path) else role
             for role in (good, defective, masks, test_good, validation)]
    if any(folders is not None and (not folders or {"", Path()} & {*folders}) for folders in given):
        raise DataError("A role names no folder: its path or list is empty. Give a folder, or leave the role out.")
    every = train, bad, outlines, test, held = [
        [Path(os.path.abspath(Path(folder).expanduser())) for folder in folders or ()] for folders in given]
    for folder in sum(every, []):
        if not folder.is_dir() or not images_below(folder):
            raise DataError(f"{folder} is no folder or holds no images. Check the path, or leave this role out.")
    if outlines and not bad:
        raise DataError("Masks belong to defective images, but none are given. Give defective=, or leave masks out.")
    names = Counter(folder.name for folder in bad)
    kinds = {path: path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in bad}
    found = entries(kinds, masks_in(outlines), subfolders_are_types=True, skip=outlines)
    roles = Roles(good_in(train), good_in(test) + found, good_in(held), holds_out=test_good is None)
    home = Path(os.path.commonpath(train + bad)) if len({folder.anchor for folder in train + bad}) == 1 else Path()
    return as_data(f"folder:{home.name}", "folders by role", roles, home, as_size(size), seed)


def role_of(name: str) -> str:
    """Return "good", "bad" or "masks" if a folder's name says so, else "". ok_front is good, def_front is bad."""
    text = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()
    for role, words in WORDS.items():
        if match := re.match(rf"(?:{words})(?:_|$)", text):
            return role if role_of(text[match.end():]) in ("", role) else ""
    return ""


def subfolders(folder: Path) -> list[Path]:
    """List the folders in `folder`, if it exists, sorted by name, without hidden ones and those of archives."""
    return sorted((path for path in folder.glob("*") if path.is_dir() and not path.name.startswith((".", "__"))),
                  key=lambda path: path.name)


def images_below(folder: Path, skip: Sequence[Path] = ()) -> list[Path]:
    """List the images in `folder` and its subfolders, without those in `skip`."""
    found = list_images(folder)
    for path in subfolders(folder):
        # a link upward would never end
        if path not in skip and not (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            found += images_below(path, skip)
    return found


def good_in(folders: Iterable[Path]) -> list[Entry]:
    """List the good images in folders and their subfolders. Raises DataError as `entries` does."""
    return entries(dict.fromkeys(folders, GOOD))


def entries(folders: Mapping[Path, str], masks: Masks | None = None, *, subfolders_are_types: bool = False,
            skip: Sequence[Path] = ()) -> list[Entry]:
    """List the images in folders and their subfolders; `folders` maps each to its defect type or "good".

    Raises DataError if a subfolder's name says another role, or if a mask is missing in `masks`.
    """
    found: list[Entry] = []
    for folder, own in folders.items():
        for path in images_below(folder, skip):
            below = path.relative_to(folder).parts[:-1]
            if {"masks", "bad" if own == GOOD else GOOD} & {*map(role_of, below)} or any(map(SPLIT.fullmatch, below)):
                raise DataError(f"{path.parent} is inside {folder}, but its name means another role. Move it, or name "
                                "the folders of good images, defective images and masks one by one.")
            kind = below[0] if below and subfolders_are_types else own
            mask = masks.get((kind, path.stem)) or masks.get(("", path.stem)) if masks is not None else None
            if masks is not None and not mask:
                raise DataError(f"{path} has no mask {kind}/{path.stem}_mask.png. Add it (all black if the defect "
                                "cannot be outlined), or remove the folder of masks to test without masks.")
            found.append((path, kind, mask))
    return found


def masks_in(folders: Sequence[Path]) -> Masks | None:
    """Map (defect type, name of an image without extension) to its mask; the type is "" directly in a folder.

    A mask is a file, or the files in a folder of the image's name. Without folders, masks are unknown: None.
    """
    index: Masks = {}
    for folder in folders:
        for place in (folder, *subfolders(folder)):
            kind = place.name if place != folder else ""
            index |= {(kind, path.name): tuple(list_images(path)) for path in subfolders(place)}
            for path in list_images(place):  # sorted, so that NAME_mask comes after NAME and replaces it
                index |= {(kind, path.stem): path, (kind, MASK_SUFFIX.sub("", path.stem)): path}
    return index if folders else None


def as_data(name: str, layout: str, roles: Roles, root: Path, size: tuple[int, int], seed: int = 0,
            mask_threshold: float | None = None, notes: Sequence[str] = ()) -> AnomalyData:
    """Build the data set; names of images are relative to `root`.

    Raises DataError if a file has two roles, or without good images to train on.
    """
    rule = mask_rule([file for *_, mask in roles.test for file in (mask if isinstance(mask, tuple) else [mask])
                      if file], mask_threshold)
    train, tested, held = ([
        FileSample(path, (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(), kind, mask,
                   rule) for path, kind, mask in sorted(part, key=lambda entry: entry[0].parts)
    ] for part in (roles.train, roles.test, roles.validation))
    _check_files([*train, *tested, *held])
    if len(train) <= roles.holds_out:
        raise DataError(f"{root} holds {len(train)} good image{'s' * (len(train) != 1)} of {name}, but it takes "
                        f"{'2, to train and to test' if roles.holds_out else '1 to train'}. Add good images.")
    good, test = AnomalyDataset(train, size), AnomalyDataset(tested, size, any(sample.mask for sample in tested))
    if roles.holds_out:
        good, part, how = hold_out(good, max(1, round(SHARE * len(good))), seed)
        test.samples = sorted([*part.samples, *tested], key=lambda sample: sample.name.split("/"))
        notes = [*notes, f"good test images: {how}"]
    return AnomalyData(name, good, test if len(test) else None, layout=layout, notes=tuple(notes),
                       validation=AnomalyDataset(held, size) if held else None)


def _check_files(samples: Sequence[FileSample]) -> None:
    """Raise DataError if a file has two roles, or if one image seems to be the mask of another."""
    files = [file.resolve() for sample in samples for file in (sample.path, *sample.masks)]  # a link is no other file
    names = [sample.path.with_name(MASK_SUFFIX.sub("", sample.path.stem)) for sample in samples]
    for path, number in Counter(files + names).items():
        if number > 1:
            raise DataError(f"{path} has two roles: it may be in one of good, test_good, defective and validation, or "
                            "be the mask of one image, and only one image may have its name. Move masks to a folder of "
                            "their own, rename images, or name other folders.")
