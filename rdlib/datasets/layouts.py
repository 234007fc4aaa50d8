"""Recognize the layout of a folder of images. What may be read in two ways, or in none, is refused."""
import re
from pathlib import Path

from tqdm.auto import tqdm

from rdlib.datasets.roles import MASK_SUFFIX, Entry, Roles, as_data, entries, good_in, masks_in, role_of, subfolders
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.datasets.tree import images_by_folder, not_read, place_role
from rdlib.images import list_images, open_image
from rdlib.utils.errors import DataError

TRAIN, TEST, VALIDATION = "train|training", "test|testing|test_public", "val|valid|validation"  # in small letters


def own_folder(folder: Path, size: tuple[int, int], seed: int = 0) -> AnomalyData:
    """Read the user's images from a folder whose layout is recognized.

    Raises DataError, with the folder's tree and a command by role, unless exactly one layout fits.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    fitting = train_and_test(folder) | _side_by_side(folder) | _masks_beside(folder) | _flat(folder)
    return read(f"folder:{folder.resolve().name}", folder, fitting, size, seed)


def read(name: str, folder: Path, fitting: dict[str, Roles], size: tuple[int, int], seed: int = 0,
         mask_threshold: float | None = None) -> AnomalyData:
    """Read a folder in the only layout that fits, and note how many of its images have no role.

    Raises DataError if not exactly one layout fits.
    """
    if len(fitting) != 1:
        raise DataError(not_read(folder, fitting))
    (layout, roles), = fitting.items()
    used = {path for path, _, _ in [*roles.train, *roles.test, *roles.validation]}
    notes = []
    for place, paths in images_by_folder(folder).items():
        left = [path for path in paths if path not in used and not MASK_SUFFIX.search(path.stem)]
        if left and place_role(place) != "masks":
            # what a mask excludes lies beside good images
            bad = "defective " if place_role(place) == "bad" or not used.isdisjoint(paths) else ""
            notes.append(f"left out: {len(left)} {bad}image{'s' * (len(left) != 1)} in {place.as_posix()}")
    return as_data(name, layout, roles, folder, size, seed, mask_threshold, notes)


def _parts(folder: Path, names: str) -> list[Path]:
    """List the subfolders with these names, case ignored."""
    return [path for path in subfolders(folder) if re.fullmatch(names, path.name.lower())]


def _of_role(folders: list[Path], role: str) -> list[Path]:
    """List the subfolders of all `folders` whose names say this role."""
    return [path for folder in folders for path in subfolders(folder) if role_of(path.name) == role]


def _rgb(folder: Path) -> Path:
    """Return the folder of the images: `rgb` inside, as in MVTec 3D-AD, or the folder itself."""
    return folder / "rgb" if (folder / "rgb").is_dir() and not list_images(folder) else folder


def train_and_test(folder: Path) -> dict[str, Roles]:
    """Fit train/GOOD, test/GOOD, test/TYPE with masks in ground_truth/TYPE, as in MVTec AD, 3D-AD, LOCO and AD 2."""
    tests = _parts(folder, TEST)
    good, test_good, held = (_of_role(parts, "good") for parts in
                             (_parts(folder, TRAIN), tests, _parts(folder, VALIDATION)))
    if not good:
        return {}
    masks = _of_role([folder, *tests], "masks")
    kinds = [path for test in tests for path in subfolders(test) if path not in masks + test_good]
    beside = {(kind.name, name): mask for kind in kinds  # as in MVTec 3D-AD
              for (_, name), mask in (masks_in([*kind.glob("gt")]) or {}).items()}
    layout = ("MVTec 3D-AD" if _rgb(good[0]) != good[0] else
              "MVTec AD 2" if any(test.name.lower() == "test_public" for test in tests) else
              "MVTec LOCO AD" if any(subfolders(kind) for place in masks for kind in subfolders(place)) else
              "MVTec AD" if good[0].name == GOOD else "good and defective folders in train and test")

    train, test, validation = (good_in(map(_rgb, folders)) for folders in (good, test_good, held))
    defective = entries({_rgb(kind): kind.name for kind in kinds}, beside or masks_in(masks))
    return {layout: Roles(train, test + defective, validation)}


def _side_by_side(folder: Path) -> dict[str, Roles]:
    """Fit GOOD and BAD beside each other, or BAD/TYPE, with masks in a folder beside them."""
    good, bad, masks = (_of_role([folder], role) for role in ("good", "bad", "masks"))
    if not good or not bad or any(_parts(path, f"{TRAIN}|{TEST}|{VALIDATION}") for path in good + bad):
        return {}
    defective = entries({path: path.name for path in bad}, masks_in(masks), subfolders_are_types=True)
    return {"good and defective folders side by side": Roles(good_in(good), defective, holds_out=True)}


def _masks_beside(folder: Path) -> dict[str, Roles]:
    """Fit train/N.png with N_GT.png beside it (KolektorSDD2) or N_label.png in train/Label (DAGM); likewise test."""
    parts = _parts(folder, TRAIN)
    images = [path for part in parts for path in list_images(part)]
    labels = _of_role(parts, "masks")
    if not images or not labels and not any(MASK_SUFFIX.search(path.stem) for path in images):
        return {}
    train, test = ([entry for part in _parts(folder, names) for entry in _by_mask(part)] for names in (TRAIN, TEST))
    if not (good := [entry for entry in train if entry[1] == GOOD]):
        raise DataError(f"All masks of training images mark a defect, such as {train[0][2]}: no good one is left.")
    return {"DAGM" if labels else "KolektorSDD2": Roles(good, test)}


def _by_mask(part: Path) -> list[Entry]:
    """Read images that are defective if their mask is not black; only masks in a folder of their own may be missing."""
    labels = _of_role([part], "masks")
    index, found = masks_in(labels or [part]) or {}, []
    images = [path for path in list_images(part) if labels or not MASK_SUFFIX.search(path.stem)]
    for path in tqdm(images, f"read the masks of {part.name}", leave=False, delay=3, disable=None):
        mask = index.get(("", path.stem))
        if mask == path:
            raise DataError(f"{path} has no mask {path.stem}_GT.png beside it. Add it, all black if the image is good.")
        # noise near black, as JPEG leaves it, marks no defect; of just two values, such as 0 and 1, the higher one does
        counts = open_image(mask).convert("L").histogram() if isinstance(mask, Path) else [1]
        levels = [level for level, count in enumerate(counts) if count]
        bad = max(levels) > (127 if len(levels) > 2 or str(mask).lower().endswith((".jpg", ".jpeg")) else 0)
        found.append((path, "defective" if bad else GOOD, mask if bad else None))
    return found


def _flat(folder: Path) -> dict[str, Roles]:
    """Fit good images directly in the folder."""
    good: list[Entry] = [(path, GOOD, None) for path in list_images(folder)]
    return {"one folder of good images": Roles(good, [])} if good and not _parts(folder, TRAIN) else {}
