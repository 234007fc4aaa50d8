"""Check a data set before training: what was read, what looks wrong, and what to do about it."""
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from rdlib.datasets.holdout import equal_files, near_duplicates
from rdlib.datasets.samples import GOOD, AnomalyData, FileSample, Sample
from rdlib.images import as_images, header
from rdlib.masks import UNKNOWN
from rdlib.model import ReverseDistillation
from rdlib.utils.display import Shown
from rdlib.utils.errors import DataError, shown
from rdlib.utils.hardware import best_device, neutral

DARK = 1 / 16  # of white; an image without a higher value is nearly black
COMPARED = 5000  # images; a larger set is not searched for near-duplicates, whose time grows with the square
UNUSUAL, LEAST, MOST = 6, 10, 500  # images shown as unusual at most, and least and most images to find them among
CLEAR = 5  # robust deviations from the median distance to which images are usual
SIDE, GRID = 128, 8  # to find them, images are resized to SIDE x SIDE pixels and cut into GRID x GRID parts
COLUMNS = ["name", "height", "width", "size", "kind", "peak", "covered", "error", "misfit"]
REFERENCES = 20  # images that all others are compared with, so that the time is linear


@dataclass(frozen=True, repr=False)
class Findings(Shown):
    """What `check` found in a data set.

    Args:
        facts: what was read, by name, in words.
        wrong: what looks wrong, with what to do about it.
        unusual: training images that stand out, and how many times the usual distance; they may be fine.
        twins: near-duplicates on both sides of the split, the training image first.
    """

    facts: Mapping[str, object]
    wrong: Sequence[str]
    unusual: Sequence[tuple[Sample, float]]
    twins: Sequence[tuple[Sample, Sample]]

    def summary(self) -> dict[str, object]:
        """Return what was read, what looks wrong, and which images to look at."""
        names = ", ".join(f"{sample.name} ({times:.2g} times the usual distance)" for sample, times in self.unusual)
        return {**self.facts, **{f"warning {i}": text for i, text in enumerate(self.wrong, 1)},
                "look at": names and f"{names}: far from the other training images. They may be fine. Move defective "
                "ones to the test images."}


def loaded(load: Callable[..., AnomalyData], **options) -> AnomalyData:
    """Return the data set `load(**options)`. If only its masks are unclear, print what else is known, and raise."""
    try:
        return load(**options)
    except DataError:
        with suppress(DataError):
            known = load(**options | {"mask_threshold": 0.0}).summary()
            print("\n".join(f"{name}: {fact}" for name, fact in known.items() if fact and "note" not in name))
        raise


def check(data: AnomalyData) -> Findings:
    """Read every image and mask of a data set, and find what looks wrong. Nothing is changed or removed.

    Unreadable files are among the findings. `outliers` finds unusual images among up to `MOST` training images, and
    `near_duplicates` finds those on both sides of the split.

    Args:
        data: a data set, as of `load_dataset` or `folder_dataset`.

    Returns:
        The findings; `print` them.
    """
    samples = [sample for part in (data.train, data.validation, data.test) if part for sample in part.samples]
    bar = tqdm(samples, "read the images", leave=False, delay=3, disable=None)
    table = pd.DataFrame([_row(sample, data.train.size) for sample in bar]).reindex(columns=COLUMNS)
    facts, wrong = _words(table, data)
    fine = table["error"].isna() & table["misfit"].isna()
    read = [sample for sample, readable in zip(samples, fine, strict=True) if readable]
    train = read[:fine[:len(data.train)].sum()]
    n = min(len(train), MOST) if len(train) >= LEAST else 0
    some = [train[i] for i in np.linspace(0, len(train) - 1, n).round().astype(int)]
    unusual = [(some[i], times) for i, times in outliers(some)[:UNUSUAL]] if some else []
    compared = read if len(read) <= COMPARED else []
    groups = near_duplicates(compared) if compared else []
    facts["compared"] = (f"{n} of {len(train)} training images, to find unusual ones; {len(compared)} of {len(table)} "
                         "images, to find near-duplicates")
    if copies := [len(group) for group in ([i for i in group if i < len(train)] for group in groups) if len(group) > 1]:
        facts["near-duplicates"] = (f"{sum(copies)} of {len(train)} training images are near-duplicates of others, in "
                                    f"{len(copies)} group{'s' * (len(copies) > 1)}")
    twins = [(read[group[0]], read[i]) for group in groups for i in group if group[0] < len(train) <= i]
    equal = equal_files({sample.path for pair in twins for sample in pair if isinstance(sample, FileSample)})
    if alike := [pair for pair in twins if getattr(pair[1], "path", None) not in sum(equal, [])]:  # equal ones are told
        wrong.append(f"{len(alike)} of {len(table)} images are for testing or for the threshold, but look like "
                     f"training images, such as {alike[0][1].name} like the training image {alike[0][0].name}. Results "
                     "on them are too good: keep copies on one side.")
    return Findings(facts, wrong, unusual, twins)


def _row(sample: Sample, size: tuple[int, int]) -> dict[str, object]:
    """Read an image and its mask at a size. Return the values of `COLUMNS` that it has."""
    row: dict[str, object] = {"name": sample.name}
    try:
        if isinstance(sample, FileSample):
            file = header(sample.path)
            row |= {"height": file.height, "width": file.width, "size": f"{file.height} x {file.width}",
                    "kind": f"{file.mode} {file.format}{' deep' * file.deep}"}
        image, mask = sample.load(size)
    except DataError as error:
        place = str(getattr(sample, "path", "")).removesuffix(sample.name)  # names are shown relative to the data set
        is_misfit = any(str(mask) in str(error) for mask in getattr(sample, "masks", ()))  # the image is read first
        return row | {"misfit" if is_misfit else "error": str(error).replace(place or "\0", "")}
    known = (mask[mask != UNKNOWN] == 1).float()  # the mean of none is NaN
    return row | {"peak": as_images(image).max().item(),
                  "covered": known.mean().item() if sample.defect != GOOD else None}


def _words(table: pd.DataFrame, data: AnomalyData) -> tuple[dict[str, object], list[str]]:
    """Describe what was read, and what looks wrong with it: numbers, names, and what to do."""
    fitted = [note for note in data.notes if note.startswith("size: ")]
    facts = {name: fact for name, fact in data.summary().items() if fact not in (*data.warned, *fitted)}
    facts["size"] = fitted[0].removeprefix("size: ") if fitted else "{} x {} pixels".format(*data.train.size)
    wrong = [*data.warned]
    for kind, what, total in (("error", "images cannot be read", len(table)),
                              ("misfit", "defective images have an unreadable mask or one of another size",
                               sum(data.test.labels) if data.test else 0)):
        odd = table[table[kind].notna()]
        if told := [i for i, note in enumerate(wrong) if kind == "misfit" and note.startswith(f"{len(odd)} of ")
                    and "EXIF" in note]:
            wrong[told[0]] += ". Their sizes differ, and training would stop"
        elif len(odd):
            wrong.append(f"{len(odd)} of {total} {what} ({shown(odd['name'])}), and training would stop: "
                         + " ".join(odd[kind].unique()[:2]))
    if len(dark := table["name"][table["peak"] < DARK]):
        wrong.append(f"{len(dark)} of {len(table)} images are nearly black, without a value above a sixteenth of "
                     f"white, such as {dark.iloc[0]}. Check the exposure or, for files of more than 8 bits, white.")
    for what, words in (("size", "size"), ("kind", "color mode or format")):
        counts = table[what].value_counts()
        facts[f"{what} of files"] = shown([f"{kind} ({n})" for kind, n in counts.items()], 4)
        if what == "size" and len(counts) > len(table) / 2:  # nearly every image has a size of its own
            low, high = (table[["height", "width"]].agg(how).astype(int) for how in ("min", "max"))
            facts["size of files"] = (f"{len(counts)} sizes, {low['height']} to {high['height']} pixels high and "
                                      f"{low['width']} to {high['width']} wide")
        elif len(counts) > 1:
            rare = table["name"][table[what] == counts.index[-1]].iloc[0]
            wrong.append(f"The images differ in {words}: {len(counts)} occur, {counts.index[-1]} of {rare} most rarely "
                         f"({counts.iloc[-1]}). A model sees such differences: take, cut and store them alike.")
    if white := getattr(getattr(data.train.samples[0], "depth", None), "known", None):
        facts["depth"] = f"white is {white:g}"
    samples = data.test.samples if data.test else ()
    if rule := next((sample.rule for sample in samples if isinstance(sample, FileSample) and sample.masks), None):
        facts["mask values"] = f"above {rule.cut:g} is defect" + f", {rule.void:g} is unknown" * (rule.void >= 0)
    if len(shares := 100 * table["covered"].dropna()) and data.test and data.test.has_masks:
        facts["masks"] = (f"{len(shares)} known; they cover {shares.median():.2g} % of an image (median; "
                          f"{shares.min():.2g} to {shares.max():.2g} %)")
    return facts, wrong


@neutral()
def outliers(samples: Sequence[Sample]) -> list[tuple[int, float]]:
    """Find images that stand out: their strangest part is far from the parts of the other images.

    A part is described by the embedded teacher's features at all three scales, normalized and averaged over the part.
    Its distance is that to the nearest part of up to `REFERENCES` other images, spread evenly over the set. A planted
    defective image is found more often than by the distances of thumbnails, and far from always: rarely where objects
    lie at any angle. The images found may be fine.

    Args:
        samples: two or more images.

    Returns:
        Indices of images whose distance is `CLEAR` robust deviations above the median, and that distance over the
        median, the farthest image first. Usually none.

    Raises:
        DataError: an image is unreadable.
    """
    model = ReverseDistillation("resnet18", "embedded").to(best_device())
    chosen = torch.linspace(0, len(samples) - 1, min(REFERENCES, len(samples))).round().long()
    references = torch.stack([_parts(model, samples[i]) for i in chosen.tolist()])
    bar = tqdm(samples, "look for unusual images", leave=False, delay=3, disable=None)
    far = np.array([torch.cdist(_parts(model, sample), references[chosen != i]).amin((0, 2)).max().item()
                    for i, sample in enumerate(bar)])
    usual = np.median(far)
    least = usual + CLEAR * max(1.4826 * np.median(abs(far - usual)), 0.01 * usual)  # in copies, nothing deviates
    return [(int(i), float(far[i] / usual)) for i in np.argsort(far)[::-1] if far[i] > least]


def _parts(model: ReverseDistillation, sample: Sample) -> Tensor:
    """Describe the parts of an image: (GRID * GRID, channels)."""
    features = model.extract_features(as_images(sample.load((SIDE, SIDE))[0]).to(model.device))
    return torch.cat([F.adaptive_avg_pool2d(F.normalize(t, dim=1), GRID) for t in features], 1)[0].flatten(1).T
