"""Write the page of `rdlib check`, and estimate what training would take."""
import io
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Subset, TensorDataset

from rdlib.datasets.check import Findings
from rdlib.datasets.samples import AnomalyData, Sample
from rdlib.deploy.page import embedded, render
from rdlib.deploy.train import estimate, usual_epochs
from rdlib.figures.picture import draw_outlines
from rdlib.images import as_images
from rdlib.model import ReverseDistillation
from rdlib.training import fit
from rdlib.utils.errors import DataError
from rdlib.utils.hardware import best_device

SIDE, SHOWN = 240, 4  # pixels of the longer side of an image on the page; images of a type


def expected(data: AnomalyData, epochs: int | None = None, batch_size: int = 16, backbone: str = "resnet18") -> str:
    """Measure a few training steps, on noise of the images' size, and estimate the time and memory of the training.

    Args:
        data: the images; they are counted only.
        epochs: number of epochs; default: that of `rdlib train`.
        batch_size: images per step.
        backbone: the teacher's architecture; its weights do not matter.

    Returns:
        The estimate in words.
    """
    said: list[str] = []
    n, size = len(data.train), data.train.size
    scored = sum(len(part) for part in (data.train, data.validation, data.test) if part)  # and features are as much
    images = Subset(TensorDataset(torch.rand(1, 3, *size)), [0] * n)
    fit(ReverseDistillation(backbone, "random").to(best_device()), images, epochs or usual_epochs(n, batch_size),
        batch_size=batch_size, cache=False, progress=False,
        callbacks=[estimate(scored, size[0] * size[1], said.append), lambda run: setattr(run, "stop", bool(said))])
    return f"{said[0]} Estimated from a few steps on this machine, for images of {size[0]} x {size[1]} pixels."


def write_check(path: Path, data: AnomalyData, findings: Findings, expected: str) -> None:
    """Write the page of a check. Its template is check.html, which escapes every text.

    Args:
        path: file to write.
        data: the images that were checked.
        findings: what `datasets.check` found.
        expected: what training would take, in words.
    """
    render(path, "check.html", data=data, findings=findings, expected=expected, shown=SHOWN,
           picture=partial(_picture, size=data.train.size))


def _picture(sample: Sample, size: tuple[int, int]) -> str:
    """Draw an image at (H, W) = `size` with the outline of its mask. Return a source, "" for an unreadable image."""
    try:
        image, mask = sample.load(size)
    except DataError:
        return ""
    pixels = (255 * as_images(image)[0].movedim(0, -1)).round().byte().numpy()
    drawn = ImageOps.contain(Image.fromarray(pixels), (SIDE, SIDE))
    draw_outlines(drawn, np.zeros(size), 1, (mask == 1).numpy())
    drawn.save(content := io.BytesIO(), "jpeg", quality=85)
    return embedded(content.getvalue())
