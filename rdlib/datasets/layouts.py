"""Recognize the layout of a folder of images. What may be read in two ways, or in none, is refused."""
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from rdlib.datasets.roles import MASK_SUFFIX, Roles, as_data, assign, images_below, masks_in, role_of, subfolders
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.datasets.tree import images_by_folder, not_read, place_role
from rdlib.images import list_images, open_image
from rdlib.utils.errors import DataError

Reader = Callable[[], Roles]
TRAIN, TEST, VALIDATION = "train|training", "test|testing|test_public", "val|valid|validation"


def own_folder(folder: Path, size: tuple[int, int], seed: int = 0) -> AnomalyData:
    """Read the user's images from a folder, or from the only folder in it, whose layout is recognized.

    Raises DataError, with the folder's tree and a command by role, unless exactly one layout fits.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    name, fitting = f"folder:{folder.resolve().name}", {**_fitting(folder), **_flat(folder)}
    if not fitting:
        inner = [path for path in subfolders(folder) if _fitting(path)]
        if len(inner) == 1 and len(images_below(inner[0])) == len(images_below(folder)):
            folder, fitting = inner[0], _fitting(inner[0])
        elif inner:
            names = "".join(f'\n  load_dataset("folder:{path}")' for path in inner)
            raise DataError(f"{folder} has no layout that is recognized, but folders in it have. Choose one:{names}")
    if len(fitting) != 1:
        raise DataError(not_read(folder, list(fitting)))
    return as_data(name, read(folder, *fitting.values()), folder, size, seed)


def mvtec_layout(name: str, folder: Path, size: tuple[int, int], mask_threshold: float | None = None) -> AnomalyData:
    """Read a folder in the layout of MVTec AD or of its successors. Raises DataError if files are missing."""
    fitting = _train_and_test(folder)
    if not fitting:
        raise DataError(not_read(folder, []))
    return as_data(name, read(folder, *fitting.values()), folder, size, mask_threshold=mask_threshold)


def read(folder: Path, reader: Reader) -> Roles:
    """Read the files, and note how many images of the folder have no role."""
    roles = reader()
    used = {*roles.good, *roles.validation, *roles.aside, *(path for path, _, _ in roles.test)}
    for place, images in images_by_folder(folder).items():
        left = [path for path in images if path not in used and not MASK_SUFFIX.search(path.stem)]
        if left and place_role(place) != "masks":
            kind = "defective images" if place_role(place) == "bad" else "images"
            roles.notes.append(f"left out: {len(left)} {kind} in {place}")
    return roles


def _fitting(folder: Path) -> dict[str, Reader]:
    return {**_train_and_test(folder), **_side_by_side(folder), **_masks_beside(folder)}


def _part(folder: Path, names: str) -> Path | None:
    """Find the subfolder with one of these names, case ignored. Raises DataError if there are two."""
    found = [path for path in subfolders(folder) if re.fullmatch(names, path.name.lower())]
    if len(found) > 1:
        raise DataError(f"{folder} holds {' and '.join(path.name for path in found)}. Keep one of them there.")
    return found[0] if found else None


def _of_role(folder: Path | None, role: str) -> list[Path]:
    return [path for path in subfolders(folder) if role_of(path.name) == role] if folder else []


def _rgb(folder: Path) -> Path:
    """Return the folder of the images: `rgb` inside, as in MVTec 3D-AD, or the folder itself."""
    return folder / "rgb" if (folder / "rgb").is_dir() and not list_images(folder) else folder


def _train_and_test(folder: Path) -> dict[str, Reader]:
    """Fit train/GOOD, test/GOOD, test/TYPE with masks in ground_truth/TYPE, as in MVTec AD, 3D-AD, LOCO and AD 2."""
    test, validation = _part(folder, TEST), _part(folder, VALIDATION)
    good, test_good, held = (_of_role(part, "good") for part in (_part(folder, TRAIN), test, validation))
    if not good:
        return {}
    masks = _of_role(folder, "masks") or _of_role(test, "masks")
    kinds = [path for path in (subfolders(test) if test else []) if path not in masks + test_good]
    gt = any((kind / "gt").is_dir() for kind in kinds)
    if test and not images_below(test):
        raise DataError(f"{test} holds no images. Put them into {test.name}/good and {test.name}/DEFECT_TYPE, "
                        f"or remove the folder {test.name} to train without one.")
    layout = ("MVTec 3D-AD" if any(_rgb(path) != path for path in good) else
              "MVTec AD 2" if test and test.name.lower() == "test_public" else
              "MVTec LOCO AD" if any(subfolders(kind) for place in masks for kind in subfolders(place)) else
              "MVTec AD" if good[0].name == GOOD else "good and defective folders in train and test")
    defective = [(_rgb(kind), kind.name, [kind / "gt"] if gt else masks) for kind in kinds]
    train, test_good, held = ([_rgb(path) for path in paths] for paths in (good, test_good, held))
    return {layout: partial(assign, layout, train, defective, test_good, held)}


def _side_by_side(folder: Path) -> dict[str, Reader]:
    """Fit GOOD and BAD beside each other, or BAD/TYPE, with masks in a folder beside them."""
    layout = "good and defective folders side by side"
    good, bad, masks = (_of_role(folder, role) for role in ("good", "bad", "masks"))
    if not good or not bad:
        return {}
    defective = [(path, path.name, masks) for path in bad]
    return {layout: partial(assign, layout, good, defective, subfolders_are_types=True, holds_out=True)}


def _masks_beside(folder: Path) -> dict[str, Reader]:
    """Fit train/N.png with N_GT.png beside it (KolektorSDD2) or N_label.png in train/Label (DAGM); likewise test."""
    train = _part(folder, TRAIN)
    if not train or not list_images(train):
        return {}
    if labels := _of_role(train, "masks"):
        return {"DAGM": partial(_read_beside, "DAGM", folder, labels[0].name)}
    beside = any(MASK_SUFFIX.search(path.stem) for path in list_images(train))
    return {"KolektorSDD2": partial(_read_beside, "KolektorSDD2", folder, "")} if beside else {}


def _read_beside(layout: str, folder: Path, labels: str) -> Roles:
    """Read images that are defective if their mask is not black; only masks in a folder `labels` may be missing."""
    roles = Roles(layout, has_masks=True)
    for part in filter(None, (_part(folder, TRAIN), _part(folder, TEST))):
        found = masks_in(part / labels)
        for path in tqdm(list_images(part), f"read the masks of {part.name}", leave=False, delay=3):
            mask = found.get(path.stem)
            if mask == path and MASK_SUFFIX.search(path.stem):
                continue
            if mask in (None, path) and not labels:
                raise DataError(f"{path} has no mask {path.stem}_GT.png beside it. Add it, all black if the image is "
                                "good.")
            defective = isinstance(mask, Path) and open_image(mask).convert("L").getbbox() is not None
            if re.fullmatch(TEST, part.name.lower()):
                roles.test.append((path, "defective" if defective else GOOD, mask if defective else None))
            else:
                (roles.aside if defective else roles.good).append(path)
    if roles.aside:
        roles.notes.append(f"left out: {len(roles.aside)} defective images among the training images")
    return roles


def _flat(folder: Path) -> dict[str, Reader]:
    """Fit good images directly in the folder."""
    if not list_images(folder) or _part(folder, TRAIN):
        return {}
    layout = "one folder of good images"
    return {layout: lambda: Roles(layout, list_images(folder))}
