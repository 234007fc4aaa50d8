"""Find copies in a data set, and hold out a part of it with near-duplicates on one side."""
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from rdlib.datasets.samples import AnomalyDataset, FileSample, Sample
from rdlib.utils.errors import DataError, checked, shown

COPY = re.compile(r"( \(\d+\)|[ _-]+copy( \d+| \(\d+\))?)$", re.IGNORECASE)  # at the end of a copy's name
NEIGHBOR = 5  # its distance sets the scale, so that a few copies of every image do not
NEAR = 0.25  # images are near-duplicates if their distance is below this share of the typical distance
PIECE = 4096  # bytes in the middle of a file that are compared before all of it
EQUAL, FAR = 1e-3, 1e5  # images this near are equal; no image is as far from others as an unreadable one


@checked
def hold_out(dataset: AnomalyDataset, n: int, seed: int = 0) -> tuple[AnomalyDataset, AnomalyDataset, str]:
    """Hold out `n` images at random, or fewer where groups of near-duplicates do not fit.

    Near-duplicates are files with the same bytes, a file and its copy by name (NAME and NAME (1) or NAME copy), and
    images whose gray thumbnails, without their mean, are closer than `NEAR` times the median distance to the fifth
    nearest neighbor. A group of them stays on one side. If that leaves less than half of `n`, images are chosen singly.

    Args:
        dataset: good images.
        n: number of images to hold out, 1 or more, below the number of images.
        seed: seed of the choice.

    Returns:
        The rest and the part held out, in the order of `dataset`, and how the part was chosen, in words.

    Raises:
        ValueError: `n` is out of range.
    """
    if n >= len(dataset):
        raise ValueError(f"Cannot hold out {n} of {len(dataset)} images. Choose 1 or more, and leave at least one.")
    groups = near_duplicates(dataset.samples)
    copies = [len(group) for group in groups if len(group) > 1]
    order = random.Random(seed).sample(range(len(dataset)), len(dataset))
    chosen: list[int] = []
    for group in sorted(groups, key=lambda group: order[group[0]]):
        chosen += group if len(chosen) + len(group) <= n else []
    where = f"{sum(copies)} near-duplicates in {len(copies)} group{'s' * (len(copies) != 1)}"
    how = f"; {where}, on one side each" * bool(copies)
    if len(chosen) < (n + 1) // 2:
        chosen, how = order[:n], f", image by image, since {where} leave no other choice: some are not new"
    how = f"{len(chosen)} of {len(dataset)} images held out at random (seed {seed}){how}"
    return dataset.subset(sorted({*order} - {*chosen})), dataset.subset(sorted(chosen)), how


def near_duplicates(samples: Sequence[Sample]) -> list[list[int]]:
    """Group samples that are near-duplicates of each other; return the groups' indices, in order.

    An unreadable image is a group of its own: it is named when it is used.
    """
    from sklearn.cluster import DBSCAN  # here: slow to import, and few data sets need it
    from sklearn.neighbors import NearestNeighbors
    bar = tqdm(samples, "look for near-duplicates", leave=False, delay=3, disable=None)
    looks = np.stack([_thumbnail(sample, i) for i, sample in enumerate(bar)])
    neighbors = NearestNeighbors(n_neighbors=min(NEIGHBOR + 1, len(looks))).fit(looks)  # the image itself is one
    typical = np.median(neighbors.kneighbors(looks[::len(looks) // 1000 + 1])[0][:, -1])  # 1,000 images tell
    labels = DBSCAN(max(NEAR * typical, EQUAL), min_samples=1).fit_predict(looks)
    paths = {sample.path.with_suffix(""): i for i, sample in enumerate(samples) if isinstance(sample, FileSample)}
    for path, i in paths.items():
        labels[labels == labels[i]] = labels[paths.get(path.parent / COPY.sub("", path.name), i)]
    return [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist())]


def _thumbnail(sample: Sample, i: int) -> np.ndarray:
    """Return a 32 x 32 thumbnail: sums of gray levels, without their mean. Equal files have equal thumbnails."""
    try:
        image = sample.load((64, 64))[0]
    except DataError:
        return np.full(32 * 32, FAR * (i + 1), np.float32)
    sums = image.numpy().astype(np.float32).reshape(3, 32, 2, 32, 2).sum((0, 2, 4)).ravel()
    return sums - np.rint(sums.mean())


def equal_files(paths: Iterable[Path]) -> list[list[Path]]:
    """Group files with the same bytes. Only files of one size are opened; only those with one middle are read whole."""
    groups = [list(paths)]
    for key in (lambda path: path.stat().st_size, _middle, lambda path: sha256(path.read_bytes()).digest()):
        parts = defaultdict(list)
        for number, group in enumerate(groups):
            for path in group:
                parts[number, key(path)].append(path)
        groups = [part for part in parts.values() if len(part) > 1]
    return groups


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(PIECE)


def equal_notes(parts: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Count and name equal files of file samples, within the parts of a data set and across them."""
    pairs, found = defaultdict(list), {sample.path: (part, sample.name) for part in parts for sample in parts[part]
                                       if isinstance(sample, FileSample)}
    for (origin, first), *others in ([found[path] for path in group] for group in equal_files(found)):
        for part, name in others:
            pairs[part, origin].append(f"{name} = {first}")
    return [f"{len(names)} {part} image{'s are' if len(names) > 1 else ' is'} equal to "
            f"{'other ' * (part == origin)}{origin} images: {shown(sorted(names), 3)}. "
            f"{'Keep one of each' if part == origin else 'Keep copies on one side: results on them are too good'}"
            for (part, origin), names in pairs.items()]
