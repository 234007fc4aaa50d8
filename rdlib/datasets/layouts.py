"""Recognize the layout of a folder of images. What may be read in two ways, or in none, is described and refused."""
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from rdlib.datasets.names import MASK_WORD, PLAIN, SPLIT, place_in, place_role, role_of, stem_role, without_labels
from rdlib.datasets.roles import Entry, Masks, Roles, Settings, as_data, entries, good_in, mask_of, masks_in
from rdlib.datasets.samples import GOOD, AnomalyData
from rdlib.images import EXTENSIONS, images_below, list_images, subfolders
from rdlib.masks import mask_codes, mask_rule
from rdlib.utils.errors import DataError, shown

TRAIN, TEST, VALIDATION = "train|training", "test|testing|test_public", "val|valid|validation"  # in small letters
SHOWN = 20  # lines of a folder's tree at most


def own_folder(folder: Path, how: Settings) -> AnomalyData:
    """Read the user's images from a folder whose layout is recognized.

    Raises DataError, with the folder's tree and a command by role, unless exactly one layout fits.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check the path.")
    fitting = train_and_test(folder) | _side_by_side(folder) | _masks_beside(folder, how.mask_threshold) | _flat(folder)
    return read(f"folder:{folder.resolve().name}", folder, fitting, how)


def read(name: str, folder: Path, fitting: dict[str, Roles], how: Settings) -> AnomalyData:
    """Read a folder in the only layout that fits. Raises DataError if not exactly one layout fits."""
    if len(fitting) != 1:
        raise DataError(_not_read(folder, fitting))
    (layout, roles), = fitting.items()
    places = {path.parent for path, kind, _ in (*roles.train, *roles.test, *roles.validation) if kind == GOOD}
    names = {part for place in places for part in place_in(folder, place).parts if role_of(part) == GOOD}
    if other := sorted(part for part in names if part.lower() not in PLAIN):
        roles = roles._replace(said=[*roles.said, f"read as good: {', '.join(other)}. Rename a folder that is not"])
    return as_data(name, layout, roles, folder, how)


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
    beside = {f"{kind.name}/{name}": found for kind in kinds  # as in MVTec 3D-AD
              for name, found in masks_in([*kind.glob("gt")]).items()}
    layout = ("MVTec 3D-AD" if _rgb(good[0]) != good[0] else
              "MVTec AD 2" if any(test.name.lower() == "test_public" for test in tests) else
              "MVTec LOCO AD" if any(subfolders(kind) for place in masks for kind in subfolders(place)) else
              "MVTec AD" if good[0].name == GOOD else "good and defective folders in train and test")

    train, test, validation = (good_in(map(_rgb, folders)) for folders in (good, test_good, held))
    defective = entries({_rgb(kind): kind.name for kind in kinds}, beside or masks_in(masks))
    unusual = {place.name for place in (*tests, *masks) if images_below(place)} - {"test", "ground_truth"}
    words = f"read as {layout}{', with ' * bool(unusual)}{', '.join(sorted(unusual))}"
    said = [words] if unusual or "LOCO" in layout else []
    if bool(defective) != bool(test):
        said.append(f"no folder in {tests[0].name} " + (
            f"is named as good: {', '.join(kind.name for kind in kinds)} are read as defect types; image metrics need "
            "good test images" if defective else "holds defective images: image metrics need some"))
    return {layout: Roles(train, test + defective, validation, said=said)}


def _side_by_side(folder: Path) -> dict[str, Roles]:
    """Fit GOOD and BAD beside each other, or BAD/TYPE, with masks in a folder beside them."""
    good, bad, masks = (_of_role([folder], role) for role in ("good", "bad", "masks"))
    if not good or not bad or any(_parts(path, f"{TRAIN}|{TEST}|{VALIDATION}") for path in good + bad):
        return {}
    defective = entries({path: path.name for path in bad}, masks_in(masks), subfolders_are_types=True)
    return {"good and defective folders side by side": Roles(good_in(good), defective, holds_out=True)}


def _masks_beside(folder: Path, threshold: float | None) -> dict[str, Roles]:
    """Fit train/N.png with N_GT.png beside it (KolektorSDD2) or N_label.png in train/Label (DAGM); likewise test."""
    parts = _parts(folder, TRAIN)
    files = [path for part in parts for path in list_images(part)]
    labels = _of_role(parts, "masks")
    if not files or not labels and not any(MASK_WORD.search(path.stem) for path in files):
        return {}
    train, test = ([entry for part in _parts(folder, names) for entry in _with_masks(part)] for names in (TRAIN, TEST))
    masks = [mask for *_, files in (*train, *test) for mask in files]
    rule = mask_rule(masks, threshold)
    bad = {mask for mask in tqdm(masks, "read the masks", leave=False, delay=3, disable=None)
           if (mask_codes(mask, rule) == 1).any()}
    good, tested = ([(path, GOOD, ()) if bad.isdisjoint(files) else (path, "defective", files)
                     for path, _, files in part] for part in (train, test))
    good = [entry for entry in good if entry[1] == GOOD]
    return {"DAGM" if labels else "KolektorSDD2": Roles(good, tested, seen=masks, rule=rule)}


def _with_masks(part: Path) -> list[Entry]:
    """List the images of a part with their masks; only masks in a folder of their own may be missing."""
    labels, files = _of_role([part], "masks"), list_images(part)
    images = files if labels else [path for path in files if not MASK_WORD.search(path.stem)]
    index: Masks = masks_in(labels or [part])
    found = [(path, "", mask_of(path, {place: masks for place, masks in index.get(path.stem, {}).items()
                                       if place != path})) for path in images]
    if missing := [path for path, _, masks in found if not masks and not labels]:
        raise DataError(f"{missing[0]} has no mask {missing[0].stem}_GT.png beside it. Add it, black for a good image.")
    return found


def _flat(folder: Path) -> dict[str, Roles]:
    """Fit good images directly in the folder."""
    images = [] if _parts(folder, TRAIN) else list_images(folder)
    if bad := [path.name for path in images if stem_role(path.stem) == "bad"]:
        raise DataError(f"{folder} is not recognized: {len(bad)} of {len(images)} images have names as defective ones "
                        f"({shown(bad)}). Put images into folders good and bad; or, if all are good, read them with "
                        "rdlib.folder_dataset(good=...).")
    good: list[Entry] = [(path, GOOD, ()) for path in without_labels(images)]
    return {"one folder of good images": Roles(good, [])} if good else {}


def _not_read(folder: Path, fitting: Iterable[str]) -> str:
    """Say why a folder is not read, what it holds, and which command by role would fit."""
    images = images_below(folder)
    labels = [path for path in folder.rglob("*.txt") if place_role(path.relative_to(folder).parent) == "masks"]
    if not images:
        return f"{folder} holds no images. Put images without defects there ({', '.join(sorted(EXTENSIONS))})."
    why = (f"can be read as {' or as '.join(fitting)}, so it is not read" if fitting else
           "has no layout that is recognized: no folder train/good, and no good/ beside bad/ (see data/README.md)")
    why += f". It has {len(labels)} text files of labels, but boxes are not masks" * bool(labels)
    links = [f"{path} -> {path.readlink()}" for path in folder.rglob("*") if path.is_symlink() and not path.exists()]
    why += f". Broken links: {shown(links)}" * bool(links)
    counts = Counter(("/".join(path.relative_to(folder).parts[:-1][:2]) or ".", path.suffix.lower())
                     for path in images + labels)
    tree = [f"  {place}: {number} {suffix}" for (place, suffix), number in sorted(counts.items())]
    more = [f"  and {len(tree) - SHOWN} more"] * (len(tree) > SHOWN)
    return "\n".join([f"{folder} {why}. It holds:", *tree[:SHOWN], *more,
                      "Read one of its folders, or name the role of each, here or in rdlib.folder_dataset:",
                      _command(folder, () if fitting else {path.relative_to(folder).parent for path in images})])


def _command(folder: Path, places: Iterable[Path]) -> str:
    """Write the command by role that the names suggest; a role that is needed but unknown is in capitals."""
    found: dict[str, set[str]] = defaultdict(set)
    for place in places:
        parts = place.parts or (".",)
        splits = {i: match[1] for i, name in enumerate(parts, 1) if (match := SPLIT.fullmatch(name))}
        role = place_role(place) or ("bad" if splits.get(1) else "good" if str(place).lower() == "train" else "")
        depth = max(next((i for i, name in enumerate(parts, 1) if role == role_of(name) != ""), len(parts)), *splits, 0)
        found["test-good" if role == "good" and any(splits.values()) else role].add("/".join(parts[:depth]))
    bad = found["bad"] or (found[""] - {"."} if found["good"] else set())
    roles = {"good": found["good"], "defective": bad, "masks": found["masks"], "test-good": found["test-good"]}
    owner = {PurePosixPath(name): role for role, names in roles.items() for name in names}
    nested = {(place if role == owner[outer] else outer).as_posix() for place, role in owner.items()
              for outer in place.parents if outer in owner and (owner[outer], role) != ("defective", "masks")}
    options = [f"--{role} {shlex.join(str(folder / place) for place in sorted(names)) or role.upper() + '_FOLDER'}"
               for role in roles if (names := roles[role] - nested) or role in ("good", "defective")]
    return f"  rdlib train {' '.join(options)} -o model.safetensors"
