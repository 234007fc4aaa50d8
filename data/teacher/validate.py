"""Measure how well a teacher's features tell defects apart, on procedural classes that its training never saw.

    python data/teacher/validate.py data/teacher/resnet18_procedural.safetensors random_calibrated

Two dozen held-out classes, four of them of a family (weave) that training knows nothing of. For each, the features of
30 normal images are the memory; 15 good and 15 defective images are scored by the cosine distance to the nearest of it,
at each layer, and the maps added up, as reverse distillation adds up its own. Defects are drawn by other code than
training's foreign regions. About a minute on one core.

And, on a plain gray image: how much more a faint line changes the features than faint grain does, at each layer.
Grain is what no student can foretell; a teacher that answers to it makes good images glow. And in how many
directions the features of training's own classes vary. `--out FILE` keeps it all, with the weights' fingerprints and
the hardware.
"""
import argparse
import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from augment import MEAN, STD
from bank import HELD_OUT, Bank, draw_images
from fields import filtered, grid, log_uniform, smooth, spectrum
from network import export
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor
from torch.nn import functional as F

from rdlib.encoder import TeacherEncoder
from rdlib.metrics import PixelRanking, auroc
from rdlib.reproduction.store import provenance
from rdlib.utils.files import written_atomically

CLASSES = {"grain": 4, "weave": 4, "spectral": 2, "cells": 2, "lattice": 2, "leaves": 2, "objects": 2, "strokes": 2,
           "stripes": 1, "labyrinth": 1, "fractal": 1, "blend": 1}
SEED, SIZE, MEMORY, GOOD, DEFECTIVE = 77, 128, 30, 15, 15
PATCHES = 4096  # the most features of a layer that are remembered


def region(draw: Generator) -> NDArray[np.float32]:
    """Draw a soft spot somewhere in an image, (S, S) in [0, 1]: the level set of a bump and noise."""
    (x, y), (cx, cy) = grid(SIZE), draw.uniform(-0.35, 0.35, 2)
    bump = 1 - np.hypot(x - cx, y - cy) / log_uniform(draw, 0.06, 0.2)
    return smooth(bump + 0.2 * filtered(draw, spectrum(SIZE, 2)) * (bump > -1), 0, log_uniform(draw, 0.1, 0.8))


def crack(draw: Generator) -> NDArray[np.float32]:
    """Draw a thin wandering line, (S, S) in [0, 1]."""
    picture = Image.new("L", (4 * SIZE, 4 * SIZE))
    angles = draw.uniform(0, 7) + np.cumsum(draw.normal(0, 0.4, 24))
    path = np.cumsum(log_uniform(draw, 4, 16) * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
    path = path - path[12] + draw.uniform(0.2, 0.8, 2) * 4 * SIZE
    ImageDraw.Draw(picture).line([*path.ravel()], fill=255, width=int(log_uniform(draw, 5, 16)))
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) / 255


def damage(image: NDArray[np.uint8], stranger: NDArray[np.uint8], draw: Generator) -> tuple[NDArray, NDArray]:
    """Draw a defect in an image (3, S, S) uint8: crack, stain, swirl, wear or foreign texture -> image, (S, S) mask."""
    kind, x = draw.integers(5), image.astype(np.float32) / 255
    spot = crack(draw) if kind == 0 else region(draw)
    while spot.sum() < 12 or spot.mean() > 0.3:
        spot = crack(draw) if kind == 0 else region(draw)
    if kind < 2:  # crack, stain: darker or brighter
        other = x + draw.choice([-1, 1]) * draw.uniform(0.08, 0.25)
    elif kind == 2:  # swirl: the texture drawn together
        dy, dx = np.gradient(gaussian_filter(spot, 3))
        rows, columns = np.mgrid[:SIZE, :SIZE]
        pull = draw.uniform(60, 150)
        places = [rows + pull * dx, columns - pull * dy]
        other = np.stack([map_coordinates(channel, places, order=1, mode="reflect") for channel in x])
        spot = smooth(gaussian_filter(spot, 3), 0.02, 0.2)
    elif kind == 3:  # wear: polished, with its own noise
        other = gaussian_filter(x, (0, 4, 4)) + draw.normal(0, 0.03)
    else:
        y = stranger.astype(np.float32) / 255
        other = (y - y.mean((1, 2), keepdims=True)) * draw.uniform(0.5, 1.5) + x.mean((1, 2), keepdims=True)
    return (255 * np.clip(x + spot * (other - x), 0, 1)).astype(np.uint8), spot > 0.3


def held_out(family: str, number: int) -> tuple[NDArray, NDArray]:
    """Draw (60, 3, S, S) uint8 images of a held-out class: memory, good, defective; and the masks of the last 30."""
    images = draw_images(family, HELD_OUT + number, MEMORY + GOOD + DEFECTIVE, SIZE, SEED)
    masks = np.zeros((GOOD + DEFECTIVE, SIZE, SIZE), bool)
    strangers = list(CLASSES)
    for i in range(DEFECTIVE):
        draw = default_rng([SEED, list(CLASSES).index(family), number, i])
        (stranger,) = draw_images(strangers[draw.integers(len(strangers))], HELD_OUT + 500 + i, 1, SIZE, SEED)
        images[MEMORY + GOOD + i], masks[GOOD + i] = damage(images[MEMORY + GOOD + i], stranger, draw)
    return images, masks


@torch.no_grad()
def anomaly_maps(teacher: TeacherEncoder, images: Tensor) -> NDArray[np.float32]:
    """Compute maps of images (60, 3, S, S) uint8, the first 30 being the memory -> maps of the other 30, (30, S, S)."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    described = [teacher((part.float() / 255 - mean) / std) for part in images.split(15)]
    layers = [torch.cat(parts) for parts in zip(*described, strict=True)]
    total = torch.zeros(len(images) - MEMORY, 1, SIZE, SIZE)
    for layer in layers:
        f = F.normalize(layer, dim=1).permute(0, 2, 3, 1)  # (60, h, w, C)
        memory = f[:MEMORY].flatten(0, 2)
        memory = memory[torch.randperm(len(memory), generator=torch.Generator().manual_seed(0))[:PATCHES]]
        distance = torch.stack([1 - (tested.flatten(0, 1) @ memory.T).amax(1) for tested in f[MEMORY:]])
        total += F.interpolate(distance.view(-1, 1, *f.shape[1:3]), size=(SIZE, SIZE), mode="bilinear")
    return gaussian_filter(total[:, 0].numpy(), (0, 2, 2))


def validate(teachers: dict[str, TeacherEncoder]) -> dict[str, dict[str, float]]:
    """Compute each teacher's mean image AUROC, pixel AUROC and AUPRO over held-out classes; of two families too."""
    rows = {name: [] for name in teachers}
    for family, number in [(family, i) for family, count in CLASSES.items() for i in range(count)]:
        images, masks = held_out(family, number)
        for name, teacher in teachers.items():
            maps = anomaly_maps(teacher, torch.from_numpy(images))
            ranking = PixelRanking(masks, maps)
            rows[name].append((family, auroc(masks.any((1, 2)), maps.max((1, 2))), ranking.auroc(), ranking.aupro()))
    result = {}
    for name, found in rows.items():
        means = np.mean([row[1:] for row in found], 0)
        result[name] = dict(zip(("image AUROC", "pixel AUROC", "AUPRO"), means, strict=True))
        for family in ("grain", "weave"):
            image, _, pro = np.mean([row[1:] for row in found if row[0] == family], 0)
            result[name] |= {f"{family} image AUROC": image, f"{family} AUPRO": pro}
    return result


@torch.no_grad()
def line_over_grain(teacher: TeacherEncoder) -> list[float]:
    """Compute at each layer the largest change by a line (2 pixels wide, 0.1 darker) over the mean distance of features
    of grain (standard deviation 0.01; sharp, or blurred by 1 or 2 pixels) from their mean. Cosine distances."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    draw, plain = default_rng(SEED), np.full((1, 1, SIZE, SIZE), 0.5)
    noise = [gaussian_filter(draw.standard_normal((4, 1, SIZE, SIZE)), (0, 0, blur, blur)) for blur in (0, 1, 2)]
    lined = plain.copy()
    lined[..., SIZE // 2:SIZE // 2 + 2, SIZE // 6:-SIZE // 6] -= 0.1

    def features(image: NDArray) -> list[Tensor]:
        x = torch.from_numpy(image.astype(np.float32)).expand(-1, 3, -1, -1)
        return [F.normalize(f, dim=1)[..., 2:-2, 2:-2] for f in teacher((x - mean) / std)]  # without the border
    grain = [[1 - (f * F.normalize(f.mean((0, 2, 3)), dim=0).view(1, -1, 1, 1)).sum(1).mean() for f in features(
        plain + 0.01 * n / n.std())] for n in noise]
    line = [(1 - (a * b).sum(1)).max() for a, b in zip(features(plain), features(lined), strict=True)]
    return [float(a / (sum(g) / len(g))) for a, g in zip(line, zip(*grain, strict=True), strict=True)]


@torch.no_grad()
def directions(teacher: TeacherEncoder) -> list[float]:
    """Count at each layer the directions in which features of one length vary over places of 96 bank images, the
    exponential of the entropy of their covariance's eigenvalues. From 1 to the number of channels."""
    bank = Bank()
    chosen = [bank.classes[i * len(bank.classes) // 96] for i in range(96)]
    images = np.concatenate([draw_images(*each, 1, SIZE, bank.seed) for each in chosen])
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    found = []
    for layer in teacher((torch.from_numpy(images).float() / 255 - mean) / std):
        v = F.normalize(layer, dim=1).transpose(0, 1).flatten(1).double()  # (C, B h w)
        share = torch.linalg.eigvalsh(torch.cov(v)).clamp_min(1e-15)
        share = share / share.sum()
        found.append(torch.exp(-(share * share.log()).sum()).item())
    return found


def named(weights: str) -> tuple[str, str]:
    """Split NAME=FILE into its two parts; anything else is its own name."""
    name, _, file = weights.partition("=")
    return name, file or name


def teacher_crc(teacher: TeacherEncoder) -> int:
    """Compute the CRC-32 of a teacher's weights, as float32, that the results on record name."""
    crc = 0
    for value in teacher.state_dict().values():
        crc = zlib.crc32((value.float() if value.is_floating_point() else value).contiguous().numpy().tobytes(), crc)
    return crc


def keep(path: Path, teachers: dict[str, TeacherEncoder], found: dict[str, dict]) -> None:
    """Write the results of each teacher, and where and with which weights."""
    rows = {name: found[name] | {"teacher_crc": teacher_crc(teacher)} for name, teacher in teachers.items()}
    with written_atomically(path) as temporary:
        found = {"teachers": rows} | provenance(torch.device("cpu"))
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def load_teacher(weights: str) -> TeacherEncoder:
    """Load a teacher from the word "random_calibrated", a weights file, or the average of a state (*.state)."""
    if not weights.endswith(".state"):
        return TeacherEncoder("resnet18", weights=weights)
    with TemporaryDirectory() as folder:  # rounded to half precision on the way, as what ships is
        path = Path(folder) / "teacher.safetensors"
        export(torch.load(weights, weights_only=True)["average"], path, {})
        return TeacherEncoder("resnet18", weights=path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", metavar="[NAME=]WEIGHTS",
                        help="weights files, training states (*.state), or random_calibrated")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    teachers = {name: load_teacher(file) for name, file in map(named, args.weights)}
    found = {name: {"line over grain": line_over_grain(teacher), "directions": directions(teacher)}
             for name, teacher in teachers.items()}
    for name, values in found.items():
        parts = [f"{what} {', '.join(f'{v:.1f}' for v in three)}" for what, three in values.items()]
        print(f"{name}: {'; '.join(parts)}")
    for name, values in validate(teachers).items():
        print(name + ": " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()), flush=True)
        found[name] |= values
    if args.out:
        keep(args.out, teachers, found)
