"""Read images of any common kind: gray, 16-bit, palette, alpha, rotated by EXIF, any size."""
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rdlib.utils.errors import DataError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
KINDS = ("uint8", "float16", "bfloat16", "float32", "float64")  # dtypes of arrays and tensors
Images = str | os.PathLike | Image.Image | NDArray | Tensor | list | tuple  # see `as_images`


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
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}. Check the path.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        advice = "It is a folder: pass its files." if os.path.isdir(path) else "If it is truncated, copy it again."
        raise DataError(f"{path} is not a readable image ({error}). {advice}") from error


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
    channels = [np.asarray(channel.resize(size[::-1], Image.Resampling.BILINEAR)) for channel in to_rgb(image)]
    return torch.from_numpy(np.clip(np.rint(np.stack(channels)), 0, 255).astype(np.uint8))


def as_images(images: Images, size: tuple[int, int] | None = None) -> Tensor:
    """Convert an image, a batch, or a list of these to one batch.

    Args:
        images: the path of a file; Pillow's image; an array (H, W), (H, W, C) or (B, H, W, C), C = 1, 3 or 4; a tensor
            (C, H, W) or (B, C, H, W), C = 1 or 3; or a list or tuple of these. uint8 in 0 to 255, or floating point.
        size: (H, W) in pixels that files and Pillow's images are resized to, as in `read_image`; None if unknown.

    Returns:
        (B, 3, H, W) RGB, floating point as given, or float32 in [0, 1] for files, Pillow's images and uint8.

    Raises:
        DataError: a file is missing or no readable image.
        ValueError: another type, shape or dtype; images of several sizes; an empty list; or a file without `size`.
    """
    if isinstance(images, list | tuple):
        parts = [as_images(image, size) for image in images]
        sizes = {tuple(part.shape[2:]) for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"A list must hold images of one size, got {sorted(sizes) or 'none'}. Resize them first.")
        return torch.cat([part.to(parts[0].device) for part in parts])
    if 0 in (images.size if isinstance(images, Image.Image) else getattr(images, "shape", ())[-3:]):
        raise ValueError(f"This {type(images).__name__} has no pixels. Leave it out, or read it again.")
    if isinstance(images, str | os.PathLike | Image.Image):
        if size is None:
            raise ValueError("The size to resize the image to is unknown. Train the model, set its size with "
                             "model.set_trained(size, (0, 1)), or pass a tensor with sides that are multiples of 32.")
        upright = ImageOps.exif_transpose(images) if isinstance(images, Image.Image) else open_image(Path(images))
        images = to_pixels(upright, size)
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(f"An image is a path, Pillow's image, an array or a tensor, got {type(images).__name__}.")
    kind = str(getattr(images.dtype, "name", images.dtype)).removeprefix("torch.")
    if kind not in KINDS:
        raise ValueError(f"Images are uint8, or floating point in [0, 1]; got {kind}. Divide 16-bit images by 65535.")
    values = images if isinstance(images, Tensor) else _from_array(images)
    if values.ndim not in (3, 4) or values.shape[-3] not in (1, 3):
        raise ValueError(f"A tensor of images must be (3, H, W) or (B, 3, H, W), or have 1 channel if they are gray; "
                         f"got {tuple(values.shape)}. If the channels come last, use tensor.movedim(-1, -3).")
    values = values.float() / 255 if kind == "uint8" else values
    return values.expand(*values.shape[:-3], 3, -1, -1).reshape(-1, 3, *values.shape[-2:])


def _from_array(array: NDArray) -> Tensor:
    """Convert an array (H, W), (H, W, C) or (B, H, W, C) to a tensor, channels first. uint8 may have an alpha channel.

    Like files, such images are laid on white.
    """
    array = array[..., None] if array.ndim == 2 else array
    channels = array.shape[-1] if array.ndim in (3, 4) else 0
    if channels == 4 and array.dtype == np.uint8:
        flat = array.reshape(-1, *array.shape[-3:])
        return torch.stack([to_pixels(Image.fromarray(one), one.shape[:2]) for one in flat])
    if channels not in (1, 3):
        raise ValueError(f"An array of images must be (H, W), (H, W, C) or (B, H, W, C), C = 1 or 3, or 4 for uint8; "
                         f"got {array.shape}. If the channels come first, pass torch.from_numpy(array).")
    array = np.array(array, array.dtype.newbyteorder("="), order="C")  # any strides, writable
    return torch.from_numpy(array).movedim(-1, -3)


def image_size(path: Path) -> tuple[int, int]:
    """Read the (height, width) of an upright image from the header of its file."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # EXIF's orientation: the image lies on its side
        return (image.width, image.height) if turned else (image.height, image.width)
