"""Paint defects by hand on a good image."""
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageColor
from torch import Tensor


def painted(image: Tensor, layer: NDArray) -> Tensor:
    """Paint a layer over an image.

    Args:
        image: (3, H, W) float32 in [0, 1].
        layer: (H, W, 4) uint8 RGBA, not premultiplied.

    Returns:
        The painted image, (3, H, W) float32 in [0, 1]; `image` is not changed.
    """
    paint = torch.from_numpy(layer.astype(np.float32) / 255).permute(2, 0, 1)
    return image + paint[3:] * (paint[:3] - image)


def spot(size: tuple[int, int], x: float, y: float, radius: float, colour: str = "#46301e",
         opacity: float = 1.0) -> NDArray:
    """Draw a round spot as a layer for `painted`.

    Args:
        size: (H, W) of the layer, in pixels.
        x: horizontal position of the center, in image widths from the left.
        y: vertical position of the center, in image heights from the top.
        radius: radius of the spot, in image widths.
        colour: color as "#rrggbb".
        opacity: 0 (invisible) to 1 (opaque).

    Returns:
        The layer, (H, W, 4) uint8 RGBA.

    Raises:
        ValueError: `colour` is no color.
    """
    height, width = size
    rows, columns = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(columns - x * width, rows - y * height) - radius * width
    cover = np.round(255 * opacity * np.clip(0.5 - distance, 0, 1))  # an edge one pixel soft
    return np.dstack([np.broadcast_to(ImageColor.getrgb(colour), (height, width, 3)), cover]).astype(np.uint8)
