"""Recognize the layout of a folder of images. What may be read in two ways, or in none, is refused."""
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from rdlib.datasets.roles import MASK_SUFFIX, Mask, Roles, as_data, assign, images_below, masks_in, role_of, subfolders
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.datasets.tree import not_read, place_role
from rdlib.images import list_images, open_image
from rdlib.utils.errors import DataError

Reader = Callable[[], Roles]  # reads a folder whose layout was recognized
TRAIN, TEST, VALIDATION = "train|training", "test|testing|test_public", "val|valid|validation"  # in small letters
FLAT = "one folder of good images"


def own_folder(folder: Path, size: tuple[int, int], seed: int = 0) -> AnomalyData:
    """Read the user's images from a folder, or from the only folder in it, whose layout is recognized.

    Raises DataError, with the folder's tree and a command by role, unless exactly one layout fits.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    name, fitting = f"folder:{folder.resolve().name}", _fitting(folder)
    inner = [path for path in subfolders(folder) if not re.fullmatch(f"{TRAIN}|{TEST}|{VALIDATION}", path.name.lower())
             and {*_fitting(path)} - {FLAT}] if not fitting else []
    if len(inner) == 1 and len(images_below(inner[0])) == len(images_below(folder)):
        folder, fitting = inner[0], _fitting(inner[0])
    elif inner:
        names = "".join(f'\n  load_dataset("folder:{path}")' for path in inner)
        raise DataError(f"{folder} has no layout that is recognized, but folders in it have. Choose one:{names}")
    return read(name, folder, fitting, size, seed)


def read(name: str, folder: Path, fitting: dict[str, Reader], size: tuple[int, int], seed: int = 0,
         mask_threshold: float | None = None) -> AnomalyData:
    """Read a folder in the only layout that fits, and note how many of its images have no role.

    Raises DataError if not exactly one layout fits, or if files are missing.
    """
    if len(fitting) != 1:
        raise DataError(not_read(folder, fitting))
    (layout, reader), = fitting.items()
    roles = reader()
    aside, used = {*roles.aside}, {*roles.good, *roles.validation, *(path for path, _, _ in roles.test)}
    left: Counter[tuple[str, bool]] = Counter()
    for path in images_below(folder):
        place = path.parent.relative_to(folder).as_posix()
        if path not in used and not MASK_SUFFIX.search(path.stem) and place_role(place) != "masks":
            left[place, place_role(place) == "bad" or path in aside] += 1
    notes = [f"left out: {number} {'defective ' * bad}image{'s' * (number != 1)} in {place}"
             for (place, bad), number in left.items()]
    return as_data(name, layout, roles, folder, size, seed, mask_threshold, notes)


def _fitting(folder: Path) -> dict[str, Reader]:
    """Return a reader for every layout that fits."""
    return {**train_and_test(folder), **_side_by_side(folder), **_masks_beside(folder), **_flat(folder)}


def _part(folder: Path, names: str) -> Path | None:
    """Find the subfolder with one of these names, case ignored. Raises DataError if there are two."""
    found = [path for path in subfolders(folder) if re.fullmatch(names, path.name.lower())]
    if len(found) > 1:
        raise DataError(f"{folder} holds {' and '.join(path.name for path in found)}. Keep one of them there.")
    return found[0] if found else None


def _of_role(folder: Path | None, role: str) -> list[Path]:
    return [path for path in subfolders(folder) if role_of(path.name) == role]


def _rgb(folder: Path) -> Path:
    """Return the folder of the images: `rgb` inside, as in MVTec 3D-AD, or the folder itself."""
    return folder / "rgb" if (folder / "rgb").is_dir() and not list_images(folder) else folder


def train_and_test(folder: Path) -> dict[str, Reader]:
    """Fit train/GOOD, test/GOOD, test/TYPE with masks in ground_truth/TYPE, as in MVTec AD, 3D-AD, LOCO and AD 2."""
    test = _part(folder, TEST)
    good, test_good, held = (_of_role(part, "good") for part in (_part(folder, TRAIN), test, _part(folder, VALIDATION)))
    if not good:
        return {}
    if test and not images_below(test):
        raise DataError(f"{test} holds no images. Put them into {test.name}/good and {test.name}/DEFECT_TYPE, "
                        f"or remove the folder {test.name} to train without one.")
    masks = _of_role(folder, "masks") or _of_role(test, "masks")
    kinds = [path for path in subfolders(test) if path not in masks + test_good]
    has_gt = any((kind / "gt").is_dir() for kind in kinds)  # masks beside rgb
    layout = ("MVTec 3D-AD" if _rgb(good[0]) != good[0] else
              "MVTec AD 2" if test and test.name.lower() == "test_public" else
              "MVTec LOCO AD" if any(subfolders(kind) for place in masks for kind in subfolders(place)) else
              "MVTec AD" if good[0].name == GOOD else "good and defective folders in train and test")

    index = masks_in(masks)
    defective = [(_rgb(kind), kind.name, masks_in([kind / "gt"]) if has_gt else index) for kind in kinds]
    train, test_good, held = ([_rgb(path) for path in paths] for paths in (good, test_good, held))
    return {layout: lambda: assign(train, defective, test_good, held)}


def _side_by_side(folder: Path) -> dict[str, Reader]:
    """Fit GOOD and BAD beside each other, or BAD/TYPE, with masks in a folder beside them."""
    good, bad, masks = (_of_role(folder, role) for role in ("good", "bad", "masks"))
    defective = [(path, path.name, masks_in(masks)) for path in bad]
    return {"good and defective folders side by side": lambda: assign(
        good, defective, subfolders_are_types=True, holds_out=True)} if good and bad else {}


def _masks_beside(folder: Path) -> dict[str, Reader]:
    """Fit train/N.png with N_GT.png beside it (KolektorSDD2) or N_label.png in train/Label (DAGM); likewise test."""
    train, test = _part(folder, TRAIN), _part(folder, TEST)
    images = list_images(train) if train else []
    labels = [path.name for path in _of_role(train, "masks")] if images else []

    def reader() -> Roles:
        trained, tested = (_by_mask(part, labels) if part else [] for part in (train, test))
        return Roles([path for path, kind, _ in trained if kind == GOOD], tested, has_masks=True,
                     aside=[path for path, kind, _ in trained if kind != GOOD])

    beside = any(MASK_SUFFIX.search(path.stem) for path in images)
    return {"DAGM" if labels else "KolektorSDD2": reader} if labels or beside else {}


def _by_mask(part: Path, labels: list[str]) -> list[tuple[Path, str, Mask]]:
    """Read images that are defective if their mask is not black; only masks in a folder `labels` may be missing."""
    index, found = masks_in([part / name for name in labels] or [part]) or {}, []
    for path in tqdm(list_images(part), f"read the masks of {part.name}", leave=False, delay=3):
        mask = index.get(("", path.stem))
        if mask == path and MASK_SUFFIX.search(path.stem):
            continue
        if mask == path:
            raise DataError(f"{path} has no mask {path.stem}_GT.png beside it. Add it, all black if the image is good.")
        defective = isinstance(mask, Path) and open_image(mask).convert("L").getbbox() is not None
        found.append((path, "defective", mask) if defective else (path, GOOD, None))
    return found


def _flat(folder: Path) -> dict[str, Reader]:
    """Fit good images directly in the folder."""
    images = list_images(folder)
    return {FLAT: lambda: Roles(images)} if images and not _part(folder, TRAIN) else {}
