"""Hold out a part of a data set, with near-duplicates on one side."""
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from rdlib.datasets.samples import AnomalyDataset, FileSample, Sample

COPY = re.compile(r"( \(\d+\)|[ _-]+copy( \d+| \(\d+\))?)$", re.IGNORECASE)  # at the end of a copy's name
NEIGHBOR = 5  # its distance sets the scale, so that a few copies of every image do not
NEAR = 0.25  # images are near-duplicates if their distance is below this share of the typical distance


class HeldOut(NamedTuple):
    """Two parts of a data set.

    Args:
        rest: the images that stay.
        part: the images that are held out.
        how: how the images were chosen, in words.
    """

    rest: AnomalyDataset
    part: AnomalyDataset
    how: str


def hold_out(dataset: AnomalyDataset, n: int, seed: int = 0) -> HeldOut:
    """Hold out `n` images at random, or fewer where groups of near-duplicates do not fit.

    Near-duplicates are files with the same bytes, a file and its copy by name (NAME and NAME (1) or NAME copy), and
    images whose gray thumbnails, without their mean, are closer than `NEAR` times the median distance to the fifth
    nearest neighbor. A group of them stays on one side. If that leaves less than half of `n`, images are chosen singly.

    Args:
        dataset: good images.
        n: number of images to hold out, 1 or more, below the number of images.
        seed: seed of the choice.

    Returns:
        Both parts in the order of `dataset`, and how they were chosen.

    Raises:
        ValueError: `n` is out of range.
        DataError: an image is unreadable.
    """
    if not 0 < n < len(dataset):
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
    return HeldOut(dataset.subset(sorted({*range(len(dataset))} - {*chosen})), dataset.subset(sorted(chosen)), how)


def near_duplicates(samples: Sequence[Sample]) -> list[list[int]]:
    """Group samples that are near-duplicates of each other; return the groups' indices, in order."""
    from scipy.sparse import coo_array  # here: slow to import, and few data sets need it
    from scipy.sparse.csgraph import connected_components

    with ThreadPoolExecutor() as threads:
        bar = tqdm(threads.map(_look, samples), "look for near-duplicates", len(samples), leave=False, delay=3)
        digests, thumbnails = zip(*bar, strict=True)
    links = _same_files(samples, digests) + _same_thumbnails(np.stack(thumbnails))
    rows, columns = np.array(links, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(samples), len(samples)))
    groups: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(connected_components(graph, directed=False)[1]):
        groups[number].append(i)
    return list(groups.values())


def _look(sample: Sample) -> tuple[bytes, np.ndarray]:
    """Return the hash of a sample's file, and its 32 x 32 thumbnail: sums of gray levels, without their mean."""
    path = getattr(sample, "path", None)
    sums = sample.load((64, 64))[0].numpy().astype(np.float32).reshape(3, 32, 2, 32, 2).sum((0, 2, 4)).ravel()
    return sha256(path.read_bytes()).digest() if path else b"", sums - np.rint(sums.mean())


def _same_files(samples: Sequence[Sample], digests: Sequence[bytes]) -> list[tuple[int, int]]:
    """Link files with the same bytes, and copies by name with their original in the same folder."""
    paths = {i: sample.path for i, sample in enumerate(samples) if isinstance(sample, FileSample)}
    by_name = {(path.parent, path.stem): i for i, path in paths.items()}
    by_bytes: dict[bytes, int] = {}
    same = [(by_bytes.setdefault(digests[i], i), i) for i in paths]
    return same + [(by_name.get((path.parent, COPY.sub("", path.stem)), i), i) for i, path in paths.items()]


def _same_thumbnails(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Link images whose thumbnails are far nearer to each other than is usual in this set."""
    from sklearn.neighbors import NearestNeighbors  # here: slow to import, and few data sets need it
    unique, first, same = np.unique(thumbnails, axis=0, return_index=True, return_inverse=True)
    if len(unique) < 3:
        return []  # without a third image, nothing says what is near
    neighbors = NearestNeighbors(n_neighbors=min(NEIGHBOR + 1, len(unique))).fit(unique)  # the image itself is one
    typical = np.median(neighbors.kneighbors(unique[::len(unique) // 1000 + 1])[0][:, -1])  # 1,000 images tell
    near = neighbors.radius_neighbors_graph(radius=NEAR * typical).tocoo()
    return [*enumerate(first[same.ravel()]), *zip(first[near.row], first[near.col], strict=True)]
