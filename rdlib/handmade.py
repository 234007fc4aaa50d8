"""Defects made by hand: painted on a good image, or designed from the procedural ones by kind, strength and place."""
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdlib import synthetic
from rdlib.synthetic.noise import sensor_noise, single_threaded_blas, stream, uniform


def as_image(pixels: NDArray) -> Tensor:
    """(H, W, 3) uint8 pixels as the networks take them: (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def painted(image: Tensor, layer: NDArray) -> Tensor:
    """Paint over an image: (3, H, W) in [0, 1] and (H, W, 4) uint8 RGBA, not premultiplied -> (3, H, W)."""
    layer = torch.from_numpy(layer.astype(np.float32) / 255).permute(2, 0, 1)
    return image + layer[3:] * (layer[:3] - image)


def spot(size: tuple[int, int], x: float, y: float, radius: float, colour: str = "#46301e",
         opacity: float = 1.0) -> NDArray:
    """A round spot as a layer for `painted`: (H, W, 4) uint8; place and radius in image sides, x right, y down."""
    height, width = size
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(columns - x * width, rows - y * height) - radius * width
    layer = np.empty((height, width, 4), np.uint8)
    layer[..., :3] = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    layer[..., 3] = np.round(255 * opacity * np.clip(0.5 - distance, 0, 1))  # an edge one pixel soft
    return layer


def can_be_placed(defect: str) -> bool:
    """Whether a synthetic defect is damage to the surface, which can be put anywhere; a faulty part stays its part."""
    return defect in synthetic.DAMAGE


def designed(category: str, defect: str, strength: float = 0.7, seed: int = 0, place: tuple[float, float] | None = None,
             size: int = 256) -> tuple[NDArray, NDArray]:
    """`rdlib.synthetic.render` with a place for the defect: image (size, size, 3) uint8 and mask (size, size) bool.

    `place` is (x, y) in image sides, and means nothing to a defect that cannot be placed; with None the seed decides,
    and the picture is that of `render`. The defect keeps its shape wherever it is put; off the object there is nothing
    to damage, and the mask is empty. Raises ValueError as `render` does.
    """
    image, mask = synthetic.render(category, size=size, seed=seed, defect=defect, strength=strength)
    if place is None or not can_be_placed(defect):
        return image, mask
    with single_threaded_blas():
        good = synthetic.paint(category, seed, size, None)
        spots = good.spots or (lambda rng: (uniform(rng, 0.2, 0.8), uniform(rng, 0.2, 0.8)))

        def here(rng: np.random.Generator) -> tuple[float, float]:
            spots(rng)  # draws what it would have drawn, so that what is drawn later, the shape, stays
            return place

        good.spots = here
        picture = synthetic.shown(good.image, good.lamp)
        faulty = synthetic.shown(synthetic.damaged(good, category, seed, defect, strength), good.lamp)
    mask = synthetic.visible(np.abs(faulty - picture).max(0))
    picture = np.where(mask, faulty, picture) + sensor_noise(stream(category, "sensor", seed=seed), size, 1.6)
    return np.ascontiguousarray(np.clip(picture + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)), mask
