"""Build a data set from its entries, and say what a user must know about them."""
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdlib.datasets.depth import Depth
from rdlib.datasets.holdout import equal_notes, hold_out
from rdlib.datasets.leftover import left_out
from rdlib.datasets.names import place_in
from rdlib.datasets.outlines import outline_notes
from rdlib.datasets.samples import AnomalyData, AnomalyDataset, FileSample
from rdlib.datasets.shapes import Size, fitting_size, shape_notes, sizes_of
from rdlib.masks import MaskRule, mask_rule
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

Entry = tuple[Path, str, tuple[Path, ...]]  # image, defect type or "good", mask files: their union is the mask

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
    size = fitting_size(sizes) if how.size == "fit" else as_size(how.size)
    good, test = AnomalyDataset(train, size), AnomalyDataset(tested, size, any(sample.mask for sample in tested))
    quiet += [f"size: {size[0]} x {size[1]} pixels, to fit the images' shape"] * (how.size == "fit")
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
