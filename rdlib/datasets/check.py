"""Check a data set before training: what was read, what looks wrong, and what to do about it."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from rdlib.datasets.holdout import near_duplicates
from rdlib.datasets.outliers import outliers
from rdlib.datasets.samples import GOOD, AnomalyData, FileSample, Sample
from rdlib.images import as_images, header
from rdlib.masks import UNKNOWN
from rdlib.utils.display import Shown
from rdlib.utils.errors import DataError

COLUMNS = ["name", "height", "width", "mode", "format", "peak", "covered", "error"]
DARK = 1 / 16  # of white; an image without a higher value is nearly black
COMPARED = 5000  # images; a larger set is not searched for near-duplicates, whose time grows with the square
UNUSUAL, LEAST = 6, 10  # images that are shown as unusual at most, and training images that this takes


@dataclass(frozen=True, repr=False)
class Findings(Shown):
    """What `check` found in a data set.

    Args:
        facts: what was read, by name, in words.
        wrong: what looks wrong, with what to do about it.
        unusual: the training images that differ most from the others; they may be fine.
        twins: near-duplicates on both sides of the split, the training image first.
    """

    facts: Mapping[str, object]
    wrong: Sequence[str]
    unusual: Sequence[Sample]
    twins: Sequence[tuple[Sample, Sample]]

    def summary(self) -> dict[str, object]:
        """Return what was read, what looks wrong, and which images to look at."""
        names = ", ".join(sample.name for sample in self.unusual)
        return {**self.facts, **{f"warning {i}": text for i, text in enumerate(self.wrong, 1)},
                "look at": names and f"{names} differ most from the other training images. They may be fine. If one is "
                "defective, move it to the test images."}


def check(data: AnomalyData) -> Findings:
    """Read every image and mask of a data set, and find what looks wrong. Nothing is changed or removed.

    Unreadable files are among the findings. `outliers` finds unusual images, and `near_duplicates` those on both sides
    of the split.

    Args:
        data: a data set, as of `load_dataset` or `folder_dataset`.

    Returns:
        The findings; `print` them.
    """
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    every = [(part, sample) for part, dataset in parts.items() if dataset for sample in dataset.samples]
    bar = tqdm(every, "read the images", leave=False, delay=3, disable=None)
    table = pd.DataFrame([_row(sample, data.train.size) for _, sample in bar]).reindex(columns=COLUMNS)
    read = [one for one, error in zip(every, table["error"], strict=True) if error != error]
    train = [sample for part, sample in read if part == "train"]
    unusual = outliers(train, min(UNUSUAL, len(train) // 5)) if len(train) >= LEAST else []
    twins = _twins(read) if len(read) <= COMPARED else []
    shares = 100 * table["covered"].dropna()
    known = {name: fact for name, fact in data.summary().items() if fact not in data.warned}
    facts = {**known, "size": "{} x {}".format(*data.train.size), "files": _counts(table[["mode", "format"]]),
             "file sizes": _counts(table[["height", "width"]].astype("Int64")),
             "masks": len(shares) and f"{len(shares)} known; they cover {shares.median():.3g} % of an image (median; "
             f"{shares.min():.3g} to {shares.max():.3g} %)"}
    return Findings(facts, [*data.warned, *_wrong(table, twins)], [train[i] for i in unusual], twins)


def _row(sample: Sample, size: tuple[int, int]) -> dict[str, object]:
    """Read an image and its mask at a size. Return the values of `COLUMNS` that it has."""
    try:
        image, mask = sample.load(size)
        file = _file(header(sample.path)) if isinstance(sample, FileSample) else {}
    except DataError as error:
        return {"name": sample.name, "error": str(error)}
    known = (mask[mask != UNKNOWN] == 1).float()  # the mean of none is NaN
    covered = np.nan if sample.defect == GOOD else known.mean().item()
    return {"name": sample.name, **file, "peak": as_images(image).max().item(), "covered": covered}


def _counts(values: pd.DataFrame) -> str:
    """Count the rows of each kind, the most frequent ones by name."""
    counts = [f"{n} {' x '.join(map(str, kind))}" for kind, n in values.value_counts().items()]
    return ", ".join(counts[:4]) + f" and {len(counts) - 4} other kinds" * (len(counts) > 4)


def _wrong(table: pd.DataFrame, twins: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """Say what looks wrong, with numbers, names, and what to do."""
    wrong, torn, dark = [], table["error"].dropna(), table["name"][table["peak"] < DARK]
    if len(torn):
        wrong.append(f"{len(torn)} files cannot be read, and training would stop. Repair or remove: {' '.join(torn)}")
    if len(dark):
        wrong.append(f"{len(dark)} images are nearly black, without a value above a sixteenth of white: "
                     f"{', '.join(dark[:3])}. Check the exposure or, for files of more than 8 bits, white.")
    for columns in (["height", "width"], ["mode", "format"]):
        kinds = table.groupby(columns)["name"].agg(["size", "first"]).sort_values("size")
        if len(kinds) > 1:
            wrong.append(f"The images differ in {' and '.join(columns)}: {kinds['first'].iloc[0]} is one of "
                         f"{kinds['size'].iloc[0]} of the rarest of {len(kinds)} kinds. A model sees such differences: "
                         "take, cut and store all images alike.")
    if twins:
        wrong.append(f"{len(twins)} images for testing or for the threshold look like training images, such as "
                     f"{twins[0][1].name} and {twins[0][0].name}. Results on them are too good: keep copies on one side.")
    return wrong


def _twins(read: Sequence[tuple[str, Sample]]) -> list[tuple[Sample, Sample]]:
    """Pair each image that is not for training with a training image that it nearly equals."""
    pairs = []
    for group in near_duplicates([sample for _, sample in read]) if read else ():
        trained = [read[i][1] for i in group if read[i][0] == "train"]
        pairs += [(trained[0], read[i][1]) for i in group if read[i][0] != "train" and trained]
    return pairs
