"""Reading images and masks as they come: grey, 16-bit, palette, with alpha, turned by EXIF, of any size."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rdlib.utils.errors import DataError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, hidden ones aside, by name: every machine sees the same order."""
    return sorted(path for path in folder.iterdir()
                  if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith("."))


def open_image(path: Path) -> Image.Image:
    """Decode a whole file and turn it upright (EXIF). Raises DataError where it is no readable image."""
    try:
        # Not by its path: Pillow would map an uncompressed TIFF into memory, and scramble it where EXIF turns it.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({error}). It may be truncated: copy it again, "
                        "or remove it from the folder.") from error


def to_rgb(image: Image.Image, background: str = "white") -> list[Image.Image]:
    """One picture per channel, each in a mode that resizes without loss: 8-bit "L", or "F" in [0, 255] from 16-bit.

    Alpha is laid on `background`, by default white, as a page would show it. Grey becomes three equal channels.
    """
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey arrives as I;16, I;16B or I
        values = np.asarray(image, dtype=np.float32)
        scale = 255 / 65535 if image.mode != "F" else 1.0
        return [Image.fromarray(values * np.float32(scale))] * 3
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return list(image.convert("RGB").split())


def read_image(path: Path, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """The image as (3, H, W) uint8 RGB at `size` = (H, W), and its own (height, width).

    Both sides are resized, nothing is cropped, as in the official protocol: bilinear with antialiasing.
    Raises DataError for an unreadable file.
    """
    image = open_image(path)
    return to_pixels(image, size), (image.height, image.width)


def to_pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """An image of any mode as (3, H, W) uint8 RGB at `size`, resized as `read_image` says."""
    height, width = size
    channels = [np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR)) for channel in to_rgb(image)]
    return torch.from_numpy(np.clip(np.rint(np.stack(channels)), 0, 255).astype(np.uint8))


def read_mask(path: Path, size: tuple[int, int], threshold: float | None = None) -> tuple[Tensor, tuple[int, int]]:
    """The mask as (H, W) bool at `size`, True = defect, nearest neighbour; and its own (height, width).

    Foreground is what exceeds `threshold`, by default half of the mask's own maximum, so that 0/1, 0/255 and 16-bit
    masks all work; a mask of zeros is empty, and what is transparent is no defect. Raises DataError for an unreadable
    file.
    """
    image = open_image(path)
    deep = image.mode.startswith("I") or image.mode == "F"  # 16-bit, or float: PIL would clip these to 8 bits
    values = np.asarray(image if deep else Image.merge("RGB", to_rgb(image, "black")).convert("L"), dtype=np.float64)
    foreground = values > (values.max() / 2 if threshold is None else threshold)
    height, width = size
    resized = Image.fromarray(foreground).resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized, dtype=bool)), (image.height, image.width)
