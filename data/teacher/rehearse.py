"""Measure how well a student of the teacher finds defects on held-out things, photographed repeatedly.

    python data/teacher/rehearse.py data/teacher/resnet18_procedural.safetensors random_calibrated

`validate.py` remembers features and forgives what a student cannot foretell; here reverse distillation is trained.
Ten held-out classes, five of surfaces and five of things. A surface's images are pieces of a dozen large ones,
a thing's are one image, moved, turned, lit a little differently, each with sensor noise of its own, as an inspection
camera would give: 64 good ones to learn from, 20 good and 30 damaged ones to test. Eight epochs in batches of 4. About
five minutes a teacher on one core. `--out FILE` keeps the means, with the weights' fingerprints and the hardware.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from bank import HELD_OUT, draw_images
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from torch.utils.data import Dataset
from validate import CLASSES, SEED, SIZE, damage, keep, named

from rdlib import ReverseDistillation, fit
from rdlib.datasets.samples import Item
from rdlib.encoder import TeacherEncoder
from rdlib.metrics import PixelRanking, auroc

SURFACES = (("weave", 0), ("weave", 3), ("lattice", 4), ("stripes", 2), ("cells", 3))
THINGS = (("objects", 5), ("objects", 6), ("objects", 8), ("strokes", 3), ("leaves", 4))
TRAIN, GOOD, DAMAGED, STOCK = 64, 20, 30, 12
EPOCHS, BATCH_SIZE, SIGMA = 8, 4, 2


def stock(family: str, number: int) -> list[NDArray[np.float32]]:
    """Draw what is photographed, (3, 2S, 2S) in [0, 1]: a dozen pieces of a surface, or an object with a margin."""
    if (family, number) in SURFACES:
        drawn = draw_images(family, HELD_OUT + number, STOCK, 2 * SIZE, SEED)
        return [image.astype(np.float32) / 255 for image in drawn]
    (thing,) = draw_images(family, HELD_OUT + number, 1, SIZE, SEED)
    margin = (SIZE // 2, SIZE // 2)
    return [np.pad(thing.astype(np.float32) / 255, ((0, 0), margin, margin), mode="reflect")]


def photograph(large: NDArray[np.float32], draw: Generator, surface: bool) -> NDArray[np.float32]:
    """Cut a part (3, S, S) out of an image (3, 2S, 2S): a surface's anywhere, a thing's middle moved and turned."""
    middle = draw.uniform(0.6 * SIZE, 1.4 * SIZE, 2) if surface else SIZE + draw.uniform(-5, 5, 2)
    angle = draw.normal(0, 0.02) if surface else draw.uniform(-0.06, 0.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corner = middle - turn @ np.full(2, SIZE / 2)
    part = np.stack([affine_transform(channel, turn, corner, (SIZE, SIZE), order=1, mode="reflect")
                     for channel in large])
    y, x = np.mgrid[-1:1:SIZE * 1j, -1:1:SIZE * 1j]
    side = draw.uniform(0, 7)
    return part * (1 + draw.normal(0, 0.03) + draw.uniform(0, 0.06) * (np.cos(side) * x + np.sin(side) * y))


def rehearsal(family: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw (114, 3, S, S) images of a held-out class, to train, good, damaged; and the masks of the last 50."""
    own = [list(CLASSES).index(family), number]
    large, noise = stock(family, number), default_rng([SEED, 5, *own]).uniform(0.004, 0.02)
    images, masks = [], np.zeros((GOOD + DAMAGED, SIZE, SIZE), bool)
    for i in range(TRAIN + GOOD + DAMAGED):
        draw = default_rng([SEED, 6, *own, i])
        image = photograph(large[draw.integers(len(large))], draw, (family, number) in SURFACES)
        if i >= TRAIN + GOOD:
            (stranger,) = draw_images(list(CLASSES)[draw.integers(len(CLASSES))], HELD_OUT + 500 + i, 1, SIZE, SEED)
            image, masks[i - TRAIN] = damage((255 * np.clip(image, 0, 1)).astype(np.uint8), stranger, draw)
            image = image / 255
        image = image + noise * draw.standard_normal((1, SIZE, SIZE))
        images.append((255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8))
    return np.stack(images), masks


class Photographs(Dataset):
    """Images (N, 3, S, S) uint8 as `fit` takes them."""

    def __init__(self, images: NDArray[np.uint8]):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        blank = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        return Item(self.images[index].float() / 255, 0, blank, index, blank)


def rehearse(weights: str, images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Compute image AUROC, pixel AUROC and AUPRO of a student of this teacher."""
    model = ReverseDistillation("resnet18", weights=weights, sigma=SIGMA)
    fit(model, Photographs(images[:TRAIN]), EPOCHS, batch_size=BATCH_SIZE, precision="auto", progress=False)
    tested = [model.predict(part.float() / 255) for part in torch.from_numpy(images[TRAIN:]).split(10)]
    maps, scores = (torch.cat(parts).numpy() for parts in zip(*tested, strict=True))
    ranking = PixelRanking(masks, maps)
    return auroc(masks.any((1, 2)), scores), ranking.auroc(), ranking.aupro()


def main() -> None:
    """Rehearse every class with every teacher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", metavar="[NAME=]WEIGHTS", help="weights files, or random_calibrated")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    teachers = dict(map(named, args.weights))
    found = {name: [] for name in teachers}
    for family, number in (*SURFACES, *THINGS):
        images, masks = rehearsal(family, number)
        for name, weights in teachers.items():
            found[name].append(rehearse(weights, images, masks))
            print(f"{family} {number}, {name}: " + " ".join(f"{value:.3f}" for value in found[name][-1]), flush=True)
    means = {name: dict(zip(("image AUROC", "pixel AUROC", "AUPRO"), np.mean(rows, 0), strict=True))
             for name, rows in found.items()}
    for name, values in means.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in values.items()))
    if args.out:
        keep(args.out, {name: TeacherEncoder("resnet18", weights=weights) for name, weights in teachers.items()}, means)


if __name__ == "__main__":
    main()
