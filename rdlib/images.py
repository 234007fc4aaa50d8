"""Read images and masks of any common kind: gray, 16-bit, palette, alpha, rotated by EXIF, any size."""
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rdlib.utils.errors import DataError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """List the image files in `folder`, sorted by name, without hidden files and subfolders."""
    files = (path for path in folder.iterdir()
             if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith("."))
    return sorted(files, key=lambda path: path.name)  # a Path sorts differently on Windows


def open_image(path: Path) -> Image.Image:
    """Decode an image file and rotate the image upright (EXIF). Raises DataError if it is missing or unreadable."""
    try:
        # Not by its path: Pillow would map an uncompressed TIFF into memory and scramble it when EXIF rotates it.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({error}). It may be truncated: copy it again, "
                        "or remove it from the folder.") from error


def to_rgb(image: Image.Image, background: str = "white") -> list[Image.Image]:
    """Split an image into its three RGB channels. A gray image gives three equal channels.

    Args:
        image: an image of any mode.
        background: color that shows through transparent pixels.

    Returns:
        Three images of mode "L" (8-bit), or of mode "F" for 16-bit input (scaled to [0, 255]) and float input.
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
    """Read an image and resize it. The whole image is kept, as in the official protocol.

    Args:
        path: the image file.
        size: (H, W) of the result, in pixels; resized bilinearly with antialiasing.

    Returns:
        The image, (3, H, W) uint8 RGB, and (height, width) of the file's image.

    Raises:
        DataError: the file is missing or no readable image.
    """
    image = open_image(path)
    return to_pixels(image, size), (image.height, image.width)


def to_pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Convert an image to a tensor, resized as in `read_image`.

    Args:
        image: an image of any mode.
        size: (H, W) of the result, in pixels.

    Returns:
        (3, H, W) uint8 RGB.
    """
    height, width = size
    channels = [np.asarray(channel.resize((width, height), Image.Resampling.BILINEAR)) for channel in to_rgb(image)]
    return torch.from_numpy(np.clip(np.rint(np.stack(channels)), 0, 255).astype(np.uint8))


def read_mask(path: Path, size: tuple[int, int], threshold: float | None = None) -> tuple[Tensor, tuple[int, int]]:
    """Read a mask and resize it with the nearest neighbor. Transparent pixels are normal.

    Args:
        path: the mask file.
        size: (H, W) of the result, in pixels.
        threshold: values above it are defect, in the file's units. None is half of the mask's maximum, for masks of 0
            and 1, of 0 and 255, and of 16 bits.

    Returns:
        The mask, (H, W) bool, True = defect, and (height, width) of the file's mask.

    Raises:
        DataError: the file is missing or no readable image.
    """
    image = open_image(path)
    deep = image.mode.startswith("I") or image.mode == "F"  # 16-bit or float: Pillow would clip these to 8 bits
    values = np.asarray(image if deep else Image.merge("RGB", to_rgb(image, "black")).convert("L"), dtype=np.float64)
    foreground = values > (values.max() / 2 if threshold is None else threshold)
    height, width = size
    resized = Image.fromarray(foreground).resize((width, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized, dtype=bool)), (image.height, image.width)


def image_size(path: Path) -> tuple[int, int]:
    """Read the (height, width) of an upright image from the header of its file."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF's orientation: the image lies on its side
        return (image.width, image.height) if turned else (image.height, image.width)
