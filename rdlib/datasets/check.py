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

COLUMNS = ["name", "size", "kind", "peak", "covered", "error"]
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
    read = [one for one, fine in zip(every, table["error"].isna(), strict=True) if fine]
    train = [sample for part, sample in read if part == "train"]
    found = outliers(train, min(UNUSUAL, len(train) // 5)) if len(train) >= LEAST else []
    groups = near_duplicates([sample for _, sample in read]) if 0 < len(read) <= COMPARED else []
    twins = {b: a for group in groups for a in group for b in group if read[a][0] == "train" != read[b][0]}
    facts, wrong = _words(table, data)
    if twins:
        (b, a), *_ = twins.items()
        wrong.append(f"{len(twins)} of {len(table)} images are for testing or for the threshold, but look like "
                     f"training images, such as {read[b][1].name} and {read[a][1].name}. Results on them are too good: "
                     "keep copies on one side.")
    return Findings(facts, wrong, [train[i] for i in found], [(read[a][1], read[b][1]) for b, a in twins.items()])


def _row(sample: Sample, size: tuple[int, int]) -> dict[str, object]:
    """Read an image and its mask at a size. Return the values of `COLUMNS` that it has."""
    row: dict[str, object] = {"name": sample.name}
    try:
        if isinstance(sample, FileSample):
            file = header(sample.path)
            row |= {"size": f"{file.height} x {file.width}", "kind": f"{file.mode} {file.format}{' deep' * file.deep}"}
        image, mask = sample.load(size)
    except DataError as error:
        return row | {"error": str(error)}
    known = (mask[mask != UNKNOWN] == 1).float()  # the mean of none is NaN
    covered = np.nan if sample.defect == GOOD else known.mean().item()
    return row | {"peak": as_images(image).max().item(), "covered": covered}


def _words(table: pd.DataFrame, data: AnomalyData) -> tuple[dict[str, object], list[str]]:
    """Describe what was read, and what looks wrong with it: numbers, names, and what to do."""
    facts = {name: fact for name, fact in data.summary().items() if fact not in data.warned}
    facts["size"], wrong = "{} x {} pixels".format(*data.train.size), [*data.warned]
    if len(torn := table["error"].dropna()):
        wrong.append(f"{len(torn)} of {len(table)} images cannot be read, and training would stop: "
                     + " ".join(torn.unique()))
    if len(dark := table["name"][table["peak"] < DARK]):
        wrong.append(f"{len(dark)} of {len(table)} images are nearly black, without a value above a sixteenth of "
                     f"white, such as {dark.iloc[0]}. Check the exposure or, for files of more than 8 bits, white.")
    for what, words in (("size", "size"), ("kind", "color mode or format")):
        counts = table[what].value_counts()
        more = f" and {len(counts) - 4} others" * (len(counts) > 4)
        facts[f"{what} of files"] = ", ".join(f"{kind} ({n})" for kind, n in counts.head(4).items()) + more
        if len(counts) > 1:
            rare = table["name"][table[what] == counts.index[-1]].iloc[0]
            wrong.append(f"The images differ in {words}: {len(counts)} occur, {counts.index[-1]} of {rare} most rarely "
                         f"({counts.iloc[-1]}). A model sees such differences: take, cut and store them alike.")
    if white := getattr(getattr(data.train.samples[0], "depth", None), "known", None):
        facts["depth"] = f"white is {white:g}"
    samples = data.test.samples if data.test else ()
    if rule := next((sample.rule for sample in samples if isinstance(sample, FileSample) and sample.masks), None):
        facts["mask values"] = f"above {rule.cut:g} is defect" + f", {rule.void:g} is unknown" * (rule.void >= 0)
    if len(shares := 100 * table["covered"].dropna()):
        facts["masks"] = (f"{len(shares)} known; they cover {shares.median():.2g} % of an image (median; "
                          f"{shares.min():.2g} to {shares.max():.2g} %)")
    return facts, wrong
