"""Build a data set from folders whose roles are known: good images, defective images, masks."""
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rdlib.datasets.holdout import hold_out
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample
from rdlib.images import list_images
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

Folders = str | Path | Sequence[str | Path]
Mask = Path | tuple[Path, ...] | None  # one file, the files of its parts, or unknown
Masks = dict[tuple[str, str], Mask]  # by defect type ("" for any) and name of the image without extension

SHARE = 0.2  # of the good images, for testing, where no others are given
MASK_SUFFIX = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)  # at the end of a mask's name
WORDS = {"masks": r"(?:(?:bad|ng|ko|def|defects?|defective|anomaly)_)?(?:masks?|ground_?truths?|gt|labels?)",
         "good": r"good|ok|okay|normal|pass|passed|nominal|(?:no|non|without)_?(?:defects?|defective)|defect_?free",
         "bad": r"bad|ng|n_?ok|ko|not_ok|not_?good|no_good|def|defects?|defective|abnormal|anomal(?:y|ies|ous)|"
                r"fail(?:ed|ures?)?|fault[sy]?|rejects?|rejected"}


@dataclass
class Roles:
    """The files of a data set by role.

    `test` has (image, defect type or "good", mask) each. Without masks at all, `has_masks` is False.
    """

    good: list[Path]
    test: list[tuple[Path, str, Mask]] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    has_masks: bool = False
    holds_out: bool = False  # whether a share of the good images is for testing
    aside: list[Path] = field(default_factory=list)  # defective training images, left out


def folder_dataset(*, good: Folders, defective: Folders | None = None, masks: Folders | None = None,
                   test_good: Folders | None = None, validation: Folders | None = None,
                   size: int | tuple[int, int] = 256, seed: int = 0) -> AnomalyData:
    """Build a data set from folders by role. Images in subfolders count too.

    A subfolder of `defective` is a defect type; images directly in `defective` have its name as type. The mask of
    NAME.png is NAME, NAME_mask, NAME_GT or NAME_label, or the images in a folder NAME, in `masks` or in `masks`/TYPE.

    Args:
        good: folder or folders of good images, to train on.
        defective: folder or folders of defective images, to test with; without them, the test set is None.
        masks: folder or folders of masks, white where the defect is; without them, pixel metrics are left out.
        test_good: folder or folders of good images to test with. Default: 20 % of `good`, see `hold_out`.
        validation: folder or folders of good images for the threshold.
        size: side of a square, or (H, W), that every image is resized to, in pixels.
        seed: seed of the choice of the good test images.

    Returns:
        Train, validation and test set, with notes on how they were made.

    Raises:
        DataError: a folder is missing or has no images, a mask is missing, or a file has two roles.
    """
    every = [[Path(os.path.abspath(Path(folder).expanduser())) for folder in
              ([folders] if isinstance(folders, str | Path) else folders or [])]
             for folders in (good, defective, masks, test_good, validation)]
    for folder in sum(every, []):
        if not folder.is_dir() or not images_below(folder):
            raise DataError(f"{folder} is no folder or holds no images. Check the path, or leave this role out.")
    train, bad, outlines, test, held = every
    names = Counter(folder.name for folder in bad)
    kinds = [folder.name if names[folder.name] == 1 else f"{folder.parent.name}/{folder.name}" for folder in bad]
    roles = assign(train, [(folder, kind, masks_in(outlines)) for folder, kind in zip(bad, kinds, strict=True)],
                   test, held, skip=outlines, subfolders_are_types=True, holds_out=test_good is None)
    home = Path(os.path.commonpath(train + bad)) if len({folder.anchor for folder in train + bad}) == 1 else Path()
    return as_data(f"folder:{home.name}", "folders by role", roles, home, as_size(size), seed)


def role_of(name: str) -> str:
    """Return "good", "bad" or "masks" if a folder's name says so, else "". ok_front is good, def_front is bad."""
    text = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()
    for role, words in WORDS.items():
        if match := re.match(rf"(?:{words})(?:_|$)", text):
            return role if role_of(text[match.end():]) in ("", role) else ""
    return ""


def subfolders(folder: Path | None) -> list[Path]:
    """List the folders in `folder`, if it exists, sorted by name, without hidden ones and those of archives."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder and folder.is_dir() else []
    return sorted((path for path in found if not path.name.startswith((".", "__"))), key=lambda path: path.name)


def images_below(folder: Path, refuse: Sequence[str] = (), skip: Sequence[Path] = ()) -> list[Path]:
    """List the images in `folder` and its subfolders, without those in `skip`.

    Raises DataError if a subfolder's name has one of the roles `refuse`.
    """
    found = list_images(folder)
    for path in subfolders(folder):
        if path in skip or path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
            continue  # a link upward would never end
        if role_of(path.name) in refuse:
            raise DataError(f"{path} is inside {folder}, but its name means another role. Move it, or name the "
                            "folders of good images, defective images and masks one by one.")
        found += images_below(path, refuse, skip)
    return found


def assign(good: Sequence[Path], defective: Sequence[tuple[Path, str, Masks | None]] = (),
           test_good: Sequence[Path] = (), validation: Sequence[Path] = (), *, skip: Sequence[Path] = (),
           subfolders_are_types: bool = False, holds_out: bool = False) -> Roles:
    """Give every image in folders its role; `defective` has (folder, defect type, masks or None) each.

    Raises DataError if `good` has no images, a folder's name says another role, or a mask is missing.
    """
    train, test, held = ([path for folder in folders for path in images_below(folder, ("bad", "masks"))]
                         for folders in (good, test_good, validation))
    roles = Roles(train, [(path, GOOD, None) for path in test], held, holds_out=holds_out)
    for folder, own, masks in defective:
        for path in images_below(folder, ("good", "masks"), skip):
            below = path.relative_to(folder).parts[:-1]
            kind = below[0] if below and subfolders_are_types else own
            mask = (masks or {}).get((kind, path.stem)) or (masks or {}).get(("", path.stem))
            if masks is not None and not mask:
                raise DataError(f"{path} has no mask {kind}/{path.stem}_mask.png. Add it (all black if the defect "
                                "cannot be outlined), or remove the folder of masks to test without masks.")
            roles.test.append((path, kind, mask))
            roles.has_masks = masks is not None
    if not train:
        raise DataError(f"{' and '.join(map(str, good))} holds no images. Put images without defects there (png, jpg, "
                        "bmp, tif or webp).")
    return roles


def masks_in(folders: Sequence[Path]) -> Masks | None:
    """Map (defect type, name of an image without extension) to its mask; the type is "" directly in a folder.

    A mask is a file, or the files in a folder of the image's name. Without folders, masks are unknown: None.
    """
    index: Masks = {}
    for folder in folders:
        for place in (folder, *subfolders(folder)):
            kind, files = place.name if place != folder else "", list_images(place)
            index |= {(kind, path.name): tuple(list_images(path)) for path in subfolders(place)}
            index |= {(kind, path.stem): path for path in files}
            index |= {(kind, MASK_SUFFIX.sub("", path.stem)): path for path in files}
    return index if folders else None


def as_data(name: str, layout: str, roles: Roles, root: Path, size: tuple[int, int], seed: int = 0,
            mask_threshold: float | None = None, notes: Sequence[str] = ()) -> AnomalyData:
    """Build the data set; names of images are relative to `root`. Raises DataError if a file has two roles."""
    def samples(items: Iterable[tuple[Path, str, Mask]]) -> list[FileSample]:
        return [FileSample(path, (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(), kind, mask,
                           mask_threshold) for path, kind, mask in sorted(items, key=lambda item: item[0].parts)]

    train, held = (samples((path, GOOD, None) for path in paths) for paths in (roles.good, roles.validation))
    defective = samples(roles.test)
    _check_files([*train, *held, *defective])
    good, test = AnomalyDataset(train, size), AnomalyDataset(defective, size, roles.has_masks)
    if roles.holds_out and defective:
        if len(good) == 1:
            raise DataError(f"{roles.good[0]} is the only good image, so none is left to test with. Add more.")
        good, part, how = hold_out(good, max(1, round(SHARE * len(good))), seed)
        test.samples = sorted([*part.samples, *defective], key=lambda sample: sample.name.split("/"))
        notes = [*notes, f"good test images: {how}"]
    return AnomalyData(name, good, test if len(test) else None, layout=layout, notes=tuple(notes),
                       validation=AnomalyDataset(held, size) if held else None)


def _check_files(samples: Sequence[FileSample]) -> None:
    """Raise DataError if a file has two roles, or if one image seems to be the mask of another."""
    for path, number in Counter(file for sample in samples for file in (sample.path, *sample.masks)).items():
        if number > 1:
            raise DataError(f"{path} has two roles: it may be in one of good, test_good, defective and validation, or "
                            "be the mask of one image. Move it, or name other folders.")
    images: dict[tuple[Path, str], Path] = {}
    for path in (sample.path for sample in samples):
        other = images.setdefault((path.parent, MASK_SUFFIX.sub("", path.stem)), path)
        if other != path:
            raise DataError(f"{other} and {path.name} have one name. If one is the mask of the other, move the masks "
                            "to a folder of their own; else rename one.")
