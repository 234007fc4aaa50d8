"""Render the bank: every image of every training class and a stock of masks, written once, read by memory map.

    python data/teacher/bank.py --bank FOLDER

The same seed gives the same bytes. About 2.6 GB and, on one core, five minutes.
"""
import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from fields import filtered, grid, log_uniform, smooth, spectrum
from generators import FAMILIES, image_class
from numpy.lib.format import open_memmap
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from tqdm.auto import tqdm

from rdlib.utils.files import written_atomically

# How many training classes each family has, in units of `Bank.unit`. None of weave: it is kept for validation alone.
SHARES = {"spectral": 12, "grain": 15, "cells": 11, "lattice": 11, "fractal": 6, "stripes": 9, "labyrinth": 7,
          "leaves": 11, "strokes": 9, "objects": 11, "blend": 10, "weave": 0}
GENERATORS = 1  # a version, to be raised with every change of what a class looks like
HELD_OUT = 1_000_000  # added to the number of a class that training never sees


@dataclass(frozen=True)
class Bank:
    """What a bank is made of, besides the generators."""

    unit: int = 10  # classes per share: 1,120 in all
    images: int = 48  # per class
    masks: int = 4096
    size: int = 128  # pixels a side
    seed: int = 0

    @property
    def classes(self) -> list[tuple[str, int]]:
        """List (family, number) of every training class, in the order of the bank."""
        return [(family, number) for family, share in SHARES.items() for number in range(share * self.unit)]

    @property
    def record(self) -> dict:
        """Return what is written beside a bank and into a run's state; banks of equal records are equal."""
        return asdict(self) | {"shares": SHARES, "generators": GENERATORS}


def draw_images(family: str, number: int, count: int, size: int, seed: int) -> NDArray[np.uint8]:
    """Draw (count, 3, S, S) images of class `number` of `family`; numbers from HELD_OUT on are for validation."""
    key = [seed, list(FAMILIES).index(family), number]
    paint = image_class(family, default_rng(key), size)
    return np.stack([paint(default_rng([*key, 1, i])) for i in range(count)])


def draw_mask(draw: Generator, size: int) -> NDArray[np.uint8]:
    """Draw a foreign region near the middle of an (S, S) image, 0 to 255: blob, ellipse, scratch, patch, edge, specks.

    Its border is between sharp and as soft as a twelfth of the image; at least a few pixels, at most half the image.
    """
    kind, (x, y) = draw.choice(6, p=[0.2, 0.18, 0.22, 0.2, 0.06, 0.14]), grid(size)
    picture = Image.new("L", (2 * size, 2 * size))
    pen, middle = ImageDraw.Draw(picture), np.array([size, size])
    if kind == 0:  # blob
        reach = log_uniform(draw, 0.08, 0.3)
        field = filtered(draw, spectrum(size, draw.uniform(1.5, 3))) * 0.5 + 1 - np.hypot(x, y) / reach
        mask = gaussian_filter(smooth(field, 0, 0.1), log_uniform(draw, 0.3, size / 16))
        return (255 * mask / max(mask.max(), 0.01)).astype(np.uint8)
    if kind == 1:  # ellipse
        a, b = log_uniform(draw, 0.03, 0.3) * size * 2 * np.array([1, draw.uniform(0.4, 1)])
        pen.ellipse([size - a, size - b, size + a, size + b], fill=255)
    elif kind == 2:  # scratch, crack or hair
        step, bend = log_uniform(draw, 0.05, 0.2) * size, draw.uniform(0, 0.9)
        angles = np.cumsum(draw.normal(0, bend, 9))
        path = np.cumsum(step * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        width = int(log_uniform(draw, 2, size / 10))
        pen.line([*(path - path[4] + middle).ravel()], fill=255, width=width, joint="curve")
    elif kind == 3:  # patch
        turns = np.sort(draw.uniform(0, 2 * np.pi, draw.integers(3, 8)))
        reach = log_uniform(draw, 0.08, 0.5) * size * 2
        pen.polygon([*(middle + reach * np.stack([np.cos(turns), np.sin(turns)], 1)).ravel()], fill=255)
    elif kind == 4:  # everything beyond an edge
        edge = size * 2 * draw.uniform(0.55, 0.8)
        pen.rectangle([edge, 0, 2 * size, 2 * size], fill=255)
    else:  # specks
        for cx, cy in middle + draw.normal(0, 0.25, (draw.integers(2, 12), 2)) * size:
            r = log_uniform(draw, 2, size / 10)
            pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=255)
    mask = np.asarray(picture.resize((size, size), Image.Resampling.BOX), dtype=np.float32)
    soft = log_uniform(draw, 0.3, size / (12 if kind in (1, 3, 4) else 50))
    mask = gaussian_filter(mask, soft)
    return (255 * mask / max(mask.max(), 0.01)).astype(np.uint8)


def render(folder: Path, bank: Bank, progress: bool = True) -> None:
    """Write the bank into `folder`, unless it is there already: images.npy, masks.npy and, last of all, bank.json."""
    record = folder / "bank.json"
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) == bank.record:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bank.json").unlink(missing_ok=True)
    shape = (len(bank.classes) * bank.images, 3, bank.size, bank.size)
    images = open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    for i, (family, number) in enumerate(tqdm(bank.classes, "bank", disable=not progress, mininterval=5)):
        images[i * bank.images:(i + 1) * bank.images] = draw_images(family, number, bank.images, bank.size, bank.seed)
    images.flush()
    np.save(folder / "masks.npy", np.stack([draw_mask(default_rng([bank.seed, HELD_OUT, i]), bank.size)
                                            for i in range(bank.masks)]))
    with written_atomically(folder / "bank.json") as temporary:
        temporary.write_text(json.dumps(bank.record) + "\n", encoding="utf-8")


def default_folder() -> Path:
    """Return the default folder of the bank: $RDLIB_DATA/teacher_bank, by default ~/.cache/rdlib/teacher_bank."""
    return Path(os.environ.get("RDLIB_DATA") or Path.home() / ".cache" / "rdlib") / "teacher_bank"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, default=default_folder(), help="the folder to fill")
    render(parser.parse_args().bank, Bank())
