"""Build a data set from folders whose roles are known: good images, defective images, masks."""
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rdlib.datasets.holdout import hold_out
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample, Sample
from rdlib.images import EXTENSIONS, list_images
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

Folders = str | Path | Sequence[str | Path]
Mask = Path | tuple[Path, ...] | None  # one file, the files of its parts, or unknown

SHARE = 0.2  # of the good images, for testing, where no others are given
MASK_SUFFIX = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)  # at the end of a mask's name
WORDS = {"masks": r"(?:(?:bad|ng|ko|def|defects?|defective|anomaly)_)?(?:masks?|ground_?truths?|gt|labels?)",
         "bad": r"bad|ng|n_?ok|ko|not_ok|not_?good|no_good|def|defects?|defective|abnormal|anomal(?:y|ies|ous)|"
                r"fail(?:ed|ures?)?|fault[sy]?|rejects?|rejected",
         "good": r"good|ok|okay|normal|pass|passed|nominal|(?:no|non|without)_?(?:defects?|defective)|defect_?free"}


@dataclass
class Roles:
    """The files of a data set by role.

    `test` has (image, defect type or "good", mask) each. Without masks at all, `has_masks` is False.
    """

    layout: str
    good: list[Path] = field(default_factory=list)
    test: list[tuple[Path, str, Mask]] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    has_masks: bool = False
    holds_out: bool = False  # whether a share of the good images is for testing
    aside: list[Path] = field(default_factory=list)  # left out, as a note says
    notes: list[str] = field(default_factory=list)


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
    places = [_listed(folders) for folders in (good, defective, masks, test_good, validation)]
    for folder in (folder for folders in places for folder in folders):
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}. Check the path.")
        if not images_below(folder):
            raise DataError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))}). Put them there, or leave "
                            "this role out.")
    names = Counter(folder.name for folder in places[1])
    kinds = [folder.name if names[folder.name] == 1 else f"{folder.parent.name}/{folder.name}" for folder in places[1]]
    roles = assign("folders by role", places[0], [(*pair, places[2]) for pair in zip(places[1], kinds, strict=True)],
                   places[3], places[4], subfolders_are_types=True, holds_out=test_good is None)
    every = [folder for folders in places for folder in folders]
    home = Path(os.path.commonpath(every)) if len({folder.anchor for folder in every}) == 1 else Path()
    return as_data(f"folder:{home.name}", roles, home, as_size(size), seed)


def _listed(folders: Folders | None) -> list[Path]:
    folders = [] if folders is None else [folders] if isinstance(folders, str | Path) else folders
    return [Path(os.path.abspath(Path(folder).expanduser())) for folder in folders]


def role_of(name: str) -> str:
    """Return "good", "bad" or "masks" if a folder's name says so, else "". ok_front is good, def_front is bad."""
    text = "_".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower()
    for role, words in WORDS.items():
        if match := re.match(rf"(?:{words})(?:_|$)", text):
            return role if role_of(text[match.end():]) in ("", role) else ""
    return ""


def subfolders(folder: Path) -> list[Path]:
    """List the folders in `folder`, sorted by name, without hidden ones and those of archives."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))),
                  key=lambda path: path.name)


def images_below(folder: Path, refuse: Sequence[str] = (), skip: Sequence[Path] = ()) -> list[Path]:
    """List the images in `folder` and its subfolders, without those in `skip`.

    Raises DataError if a subfolder's name has one of the roles `refuse`.
    """
    found = list_images(folder)
    for path in subfolders(folder):
        if path not in skip:
            if role_of(path.name) in refuse:
                raise DataError(f"{path} is inside {folder}, but its name means another role. Move it, or name the "
                                "folders of good images, defective images and masks one by one.")
            found += images_below(path, refuse, skip)
    return found


def assign(layout: str, good: Sequence[Path], defective: Sequence[tuple[Path, str, Sequence[Path]]] = (),
           test_good: Sequence[Path] = (), validation: Sequence[Path] = (), *, subfolders_are_types: bool = False,
           holds_out: bool = False) -> Roles:
    """Give every image in folders its role; `defective` has (folder, defect type, folders of masks) each.

    Raises DataError if `good` has no images, a folder's name says another role, or a mask is missing.
    """
    train, test_images, held = ([path for folder in folders for path in images_below(folder, ("bad", "masks"))]
                                for folders in (good, test_good, validation))
    test: list[tuple[Path, str, Mask]] = [(path, GOOD, None) for path in test_images]
    known: dict[Path, dict[str, Mask]] = {}
    for folder, own, masks in defective:
        for path in images_below(folder, ("good", "masks"), masks):
            below = path.relative_to(folder).parts[:-1]
            kind = below[0] if below and subfolders_are_types else own
            test.append((path, kind, _find_mask(path, kind, masks, known) if masks else None))
    if not train:
        raise DataError(f"{' and '.join(map(str, good))} holds no images. Put images without defects there (png, jpg, "
                        "bmp, tif or webp).")
    return Roles(layout, train, sorted(test, key=lambda item: item[0].parts), held,
                 any(masks for _, _, masks in defective), holds_out)


def _find_mask(image: Path, kind: str, folders: Sequence[Path], known: dict[Path, dict[str, Mask]]) -> Mask:
    """Find the mask of an image in a folder of its defect type, or in one for all types."""
    places = [folder / kind for folder in folders if (folder / kind).is_dir()] or [
        folder if list_images(folder) else folder / kind for folder in folders]
    for place in places:
        if place not in known:
            known[place] = masks_in(place)
        if image.stem in known[place]:
            return known[place][image.stem]
    raise DataError(f"{image} has no mask {places[0] / (image.stem + '_mask.png')}. Add it (all black if the defect "
                    "cannot be outlined), or remove the folder of masks to test without masks.")


def masks_in(folder: Path) -> dict[str, Mask]:
    """Map an image's name without extension to its mask in `folder`, or to the files in a folder of that name."""
    if not folder.is_dir():
        return {}
    files: dict[str, Mask] = {path.stem: path for path in list_images(folder)}
    return ({path.name: tuple(parts) for path in subfolders(folder) if (parts := list_images(path))} | files
            | {MASK_SUFFIX.sub("", stem): path for stem, path in files.items() if MASK_SUFFIX.search(stem)})


def as_data(name: str, roles: Roles, root: Path, size: tuple[int, int], seed: int = 0,
            mask_threshold: float | None = None) -> AnomalyData:
    """Build the data set; names of images are relative to `root`. Raises DataError if a file has two roles."""
    _check_once(roles)

    def samples(items: Sequence[tuple[Path, str, Mask]]) -> list[Sample]:
        return [FileSample(path, (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(), kind, mask,
                           mask_threshold) for path, kind, mask in items]

    train = AnomalyDataset(samples([(path, GOOD, None) for path in roles.good]), size)
    test, notes = samples(roles.test), roles.notes
    if roles.holds_out and test:
        share = min(max(1, round(SHARE * len(train))), len(train) // 2)
        if not share:
            raise DataError(f"{roles.good[0].parent} holds one good image, which leaves none to test with. Add more.")
        train, held, how = hold_out(train, share, seed)
        test = sorted([*held.samples, *test], key=lambda sample: sample.name.split("/"))
        notes.append(f"good test images: {how}")
    validation = samples([(path, GOOD, None) for path in roles.validation])
    return AnomalyData(name, train, AnomalyDataset(test, size, roles.has_masks) if test else None,
                       validation=AnomalyDataset(validation, size) if validation else None,
                       layout=roles.layout, notes=tuple(notes))


def _check_once(roles: Roles) -> None:
    masks = [part for _, _, mask in roles.test for part in (mask if isinstance(mask, tuple) else (mask,)) if part]
    for path, number in Counter([*roles.good, *(item[0] for item in roles.test), *roles.validation, *masks]).items():
        if number > 1:
            raise DataError(f"{path} has two roles: it may be in one of good, test_good, defective and validation, or "
                            "be the mask of one image. Move it, or name other folders.")
