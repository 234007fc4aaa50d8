"""Build a data set from folders whose roles are known: good images, defective images, masks."""
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rdlib.datasets.assemble import Entry, Roles, Settings, Size, as_data, warn
from rdlib.datasets.names import MASK_WORD, SPLIT, role_of, without_labels
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.images import images_below
from rdlib.utils.errors import DataError, checked

Folders = str | Path | Sequence[str | Path]
Masks = Mapping[str, Mapping[Path, tuple[Path, ...]]]  # by the image's path in its folder, without extension:
#                                                        every mask of it (a file, or a folder of parts), with its files


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
