"""Read images and masks of any common kind: gray, 16-bit, palette, alpha, rotated by EXIF, any size."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rdlib.utils.errors import DataError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """List the image files directly in `folder`, sorted by name; hidden files are left out."""
    files = (path for path in folder.iterdir()
             if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith("."))
    return sorted(files, key=lambda path: path.name)  # a Path sorts differently on Windows


def open_image(path: Path) -> Image.Image:
    """Decode a whole file and rotate it upright (EXIF). Raises DataError for a file that is no readable image."""
    try:
        # Not by its path: Pillow would map an uncompressed TIFF into memory and scramble it when EXIF rotates it.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({error}). It may be truncated: copy it again, "
                        "or remove it from the folder.") from error


def to_rgb(image: Image.Image, background: str = "white") -> list[Image.Image]:
    """Split an image into its three RGB channels: 8-bit "L" images, or "F" images in [0, 255] for 16-bit input.

    Alpha is composited on `background`. A gray image gives three equal channels.
    """
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit gray arrives as I;16, I;16B or I
        values = np.asarray(image, dtype=np.float32)
        scale = 255 / 65535 if image.mode != "F" else 1.0
        return [Image.fromarray(values * np.float32(scale))] * 3
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return list(image.convert("RGB").split())


def read_image(path: Path, size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Read an image as (3, H, W) uint8 RGB at `size` = (H, W). Return it and its own (height, width).

    The whole image is resized, bilinear with antialiasing, as in the official protocol. Raises DataError for an
    unreadable file.
    """
    image = open_image(path)
    return to_pixels(image, size), (image.height, image.width)


def to_pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Convert an image of any mode to (3, H, W) uint8 RGB at `size` = (H, W), resized as in `read_image`."""
    height, width = size
    channels = [np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR)) for channel in to_rgb(image)]
    return torch.from_numpy(np.clip(np.rint(np.stack(channels)), 0, 255).astype(np.uint8))


def read_mask(path: Path, size: tuple[int, int], threshold: float | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Read a mask as (H, W) bool at `size` = (H, W), True = defect. Return it and its own (height, width).

    A defect pixel exceeds `threshold`, by default half of the mask's maximum: 0/1, 0/255 and 16-bit masks all work.
    Transparent pixels are normal. Masks are resized with the nearest neighbor. Raises DataError for an unreadable file.
    """
    image = open_image(path)
    deep = image.mode.startswith("I") or image.mode == "F"  # 16-bit or float: Pillow would clip these to 8 bits
    values = np.asarray(image if deep else Image.merge("RGB", to_rgb(image, "black")).convert("L"), dtype=np.float64)
    foreground = values > (values.max() / 2 if threshold is None else threshold)
    height, width = size
    resized = Image.fromarray(foreground).resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized, dtype=bool)), (image.height, image.width)
