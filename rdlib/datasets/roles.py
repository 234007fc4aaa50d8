"""Build a data set from files or folders whose roles are known, and say what a user must know about it."""
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rdlib.datasets.depth import Depth
from rdlib.datasets.holdout import equal_notes, hold_out
from rdlib.datasets.leftover import left_out
from rdlib.datasets.names import MASK_WORD, SPLIT, place_in, role_of, without_labels
from rdlib.datasets.outlines import outline_notes
from rdlib.datasets.samples import GOOD, AnomalyData, AnomalyDataset, FileSample
from rdlib.datasets.shapes import Size, fitting_size, shape_notes, sizes_of
from rdlib.images import images_below
from rdlib.masks import MaskRule, mask_rule
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError, checked

Entry = tuple[Path, str, tuple[Path, ...]]  # image, defect type or "good", mask files: their union is the mask
Folders = str | Path | Sequence[str | Path]
Masks = Mapping[str, Mapping[Path, tuple[Path, ...]]]  # by the image's path in its folder, without extension:
#                                                        every mask of it (a file, or a folder of parts), with its files

SHARE = 0.2  # of the good images, for testing, where no others are given
SHOWN = 12  # lines of a warning at most


class Roles(NamedTuple):
    """The images of a data set by role. With `holds_out`, a share of `train` is for testing.

    `seen` are further files that the layout accounts for. `as_listed` keeps the order, and names files by name alone.
    `rule` reads the masks; None: decided from the masks of `test`. `said` is what a user must know of the layout.
    """

    train: Sequence[Entry]
    test: Sequence[Entry]
    validation: Sequence[Entry] = ()
    holds_out: bool = False
    seen: Sequence[Path] = ()
    as_listed: bool = False
    rule: MaskRule | None = None
    said: Sequence[str] = ()


class Settings(NamedTuple):
    """How the files of a data set are read; see `load_dataset`."""

    size: Size
    seed: int = 0
    white: float | None = None
    mask_threshold: float | None = None
    keep_defects: bool = False


def as_data(name: str, layout: str, roles: Roles, root: Path, how: Settings,
            places: Sequence[Path] = ()) -> AnomalyData:
    """Build the data set; names of images are relative to `root`. Files in `places` (`root`) that are not used count.

    Raises DataError if a file has two roles, or without good images.
    """
    depth = Depth([path for path, _, _ in roles.train], how.white)
    rule = roles.rule or mask_rule([mask for *_, masks in roles.test for mask in masks], how.mask_threshold)
    train, tested, held = ([
        FileSample(path, path.name if roles.as_listed else place_in(root, path).as_posix(), kind, masks or None, rule,
                   depth, how.keep_defects)
        for path, kind, masks in (part if roles.as_listed else sorted(part, key=lambda entry: entry[0].parts))
    ] for part in (roles.train, roles.test, roles.validation))
    every = [*train, *tested, *held]
    _check_files(every)
    used = [file for sample in every for file in (sample.path, *sample.masks)]
    loud, quiet = left_out(places or [root], root, [*used, *roles.seen], rule)
    if len(train) <= roles.holds_out:
        raise DataError("\n".join([
            f"{root} holds {len(train)} good image{'s' * (len(train) != 1)} of {name}, but it takes "
            f"{'2, to train and to test' if roles.holds_out else '1 to train'}. Add good images.", *loud[:SHOWN]]))
    sizes = sizes_of([sample.path for sample in train])
    size = fitting_size(sizes) if isinstance(how.size, str) and how.size == "fit" else as_size(how.size)
    good, test = AnomalyDataset(train, size), AnomalyDataset(tested, size, any(sample.mask for sample in tested))
    quiet += [f"size: {size[0]} x {size[1]} pixels, to fit the images' shape"] * isinstance(how.size, str)
    if roles.holds_out:
        good, part, words = hold_out(good, max(1, round(SHARE * len(good))), how.seed)
        test.samples = sorted([*part.samples, *tested], key=lambda sample: sample.name.split("/"))
        quiet.append(f"good test images: {words}")
    loud += [*roles.said, *equal_notes({"training": good.samples, "validation": held, "test": test.samples}),
             *outline_notes(tested, size, how.keep_defects), *shape_notes(sizes, size)]
    return AnomalyData(name, good, test if len(test) else None, layout=layout, notes=(*loud, *quiet),
                       warned=tuple(loud), validation=AnomalyDataset(held, size) if held else None)


def warn(data: AnomalyData) -> AnomalyData:
    """Warn once of all that a user must know, at the line that called a `checked` caller. Return the data set."""
    more = [f"and {len(data.warned) - SHOWN} more, see the data set's notes"] * (len(data.warned) > SHOWN)
    if data.warned:
        warnings.warn("\n".join(f"{data.name}: {line}" for line in [*data.warned[:SHOWN], *more]), stacklevel=4)
    return data


def _check_files(samples: Sequence[FileSample]) -> None:
    """Raise DataError if a file has two roles, or if two images share a mask or a name without extension."""
    claims = defaultdict(list)
    for sample in samples:
        for file in (*map(Path.resolve, (sample.path, *sample.masks)), sample.path.with_suffix("")):
            claims[file].append(sample.path)  # a link is no other file
    for file, paths in claims.items():
        if len(paths) > 1:
            first, second = paths[:2]
            how = f"it belongs to {first} and to {second}" if first != second else "it is listed twice"
            how += ", a link to the same file" * (first != second and first.resolve() == second.resolve())
            raise DataError(f"{file} has two roles: {how}. Move masks to a folder of their own, rename images, or name "
                            "other folders.")


@checked
def folder_dataset(*, good: Folders, defective: Folders | None = None, masks: Folders | None = None,
                   test_good: Folders | None = None, validation: Folders | None = None, size: Size = 256,
                   seed: int = 0, white: float | None = None, mask_threshold: float | None = None,
                   keep_defects: bool = False) -> AnomalyData:
    """Build a data set from folders by role. Images in subfolders count too.

    A subfolder of `defective` is a defect type; images directly in `defective` have its name as type. The mask of
    NAME.png is NAME, NAME_mask, NAME_GT or NAME_label, or the images in a folder NAME, in `masks` or in `masks`/TYPE.
    One warning says what was left out and what looks wrong.

    Args:
        good: folder or folders of good images, to train on.
        defective: folder or folders of defective images, to test with.
        masks: folder or folders of masks, white where the defect is; without them, pixel metrics are left out.
        test_good: folder or folders of good images to test with. Default: 20 % of `good`, see `hold_out`.
        validation: folder or folders of good images for the threshold.
        size: side of a square, or (H, W), that every image is resized to, in pixels; "fit" keeps the images' shape.
        seed: seed of the choice of the good test images.
        white: value of white in images of more than 8 bits; None: found from the training images.
        mask_threshold: values of masks above it are defect; None: decided from all masks.
        keep_defects: keep at least one pixel of every outlined defect when masks shrink.

    Returns:
        Train, validation and test set, with notes on how they were made.

    Raises:
        DataError: a folder is missing or has no images, a file has two roles, an image has two masks, or the only good
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
    return warn(as_data(f"folder:{home.name}", "folders by role", roles, home,
                        Settings(size, seed, white, mask_threshold, keep_defects), sum(every, [])))


def good_in(folders: Iterable[Path]) -> list[Entry]:
    """List the good images in folders and their subfolders. Raises DataError as `entries` does."""
    return entries(dict.fromkeys(folders, GOOD))


def entries(folders: Mapping[Path, str], masks: Masks | None = None, *, subfolders_are_types: bool = False,
            skip: Sequence[Path] = ()) -> list[Entry]:
    """List the images in folders and their subfolders; `folders` maps each to its defect type or "good".

    Raises DataError if a subfolder's name says another role, or if an image has two masks.
    """
    found: list[Entry] = []
    for folder, own in folders.items():
        for path in without_labels(images_below(folder, skip)):
            below = path.relative_to(folder).parts[:-1]
            if {"masks", "bad" if own == GOOD else GOOD} & {*map(role_of, below)} or any(map(SPLIT.fullmatch, below)):
                raise DataError(f"{path.parent} is inside {folder}, but its name means another role. Move it, or name "
                                "the folders of good images, defective images and masks one by one.")
            kind, *rest = below if below and subfolders_are_types else (own, *below)
            names = ("/".join(parts) for parts in ((kind, *rest, path.stem), (kind, path.stem), (*rest, path.stem),
                                                   (path.stem,)))
            found.append((path, kind, mask_of(path, next((masks[name] for name in names if name in masks), {}))
                          if masks else ()))
    return found


def mask_of(image: Path, masks: Mapping[Path, tuple[Path, ...]]) -> tuple[Path, ...]:
    """Return the files of the only mask of an image, if any. Raises DataError if it has two."""
    if len(masks) > 1:
        raise DataError(f"{image} has two masks: {' and '.join(map(str, [*masks][:2]))}. Keep the right one.")
    return next(iter(masks.values()), ())


def masks_in(folders: Sequence[Path]) -> Masks:
    """Map the path of an image in its folder, without extension, to all its masks.

    A mask is a file of the image's name, with or without a word such as _mask, or all files in a folder of its name.
    """
    index: dict[str, dict[Path, tuple[Path, ...]]] = defaultdict(dict)
    for folder in folders:
        for path in images_below(folder):
            name = path.relative_to(folder)
            for stem in {path.stem, MASK_WORD.sub("", path.stem)}:
                index[name.with_name(stem).as_posix()][path] = (path,)
            if name.parent.name:
                parts = index[name.parent.as_posix()]
                parts[path.parent] = (*parts.get(path.parent, ()), path)
    return dict(index)
