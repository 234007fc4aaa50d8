"""Defects made by hand: paint on a good image."""
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
