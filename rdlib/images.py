"""List image files and turn images into tensors: gray, palette, alpha, more than 8 bits, rotated by EXIF, any size."""
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torch import Tensor

from rdlib.utils.arrays import as_array
from rdlib.utils.decoding import Header, decoded, header, open_image, upright
from rdlib.utils.errors import DataError

__all__ = ["Header", "as_images", "decoded", "header", "images_below", "list_images", "open_image", "read_image",
           "subfolders", "to_pixels", "to_rgb"]

EXTENSIONS = {".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp"}
KINDS = ("uint8", "float16", "bfloat16", "float32", "float64")  # dtypes of arrays and tensors
OPAQUE = 65535  # in an alpha channel of 16 bits
WHITES = (255, 1023, 4095, 16383, 65535)  # highest values of 8, 10, 12, 14 and 16 bits
SYSTEM_FOLDERS = re.compile(r"(?:[.@$]|__).*|#recycle|#snapshot|found\.\d+|lost\+found|_?[Tt]humb(?:s|nails)|"
                            r"System Volume Information")
Size = tuple[int, int]  # (height, width) in pixels
Images = str | os.PathLike | Image.Image | NDArray | Tensor | list | tuple  # see `as_images`
White = float | Callable[[], float | None] | None  # a function is called for deep images only


def list_images(folder: Path) -> list[Path]:
    """List the image files in `folder`, sorted by name, without hidden files and subfolders."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.name[0] != "."]
        return sorted(filter(Path.is_file, files), key=lambda path: path.name)  # a Path sorts differently on Windows
    except PermissionError as error:
        raise DataError(f"{folder} cannot be read. Ask for the right to read it, or move it elsewhere.") from error


def subfolders(folder: Path) -> list[Path]:
    """List the folders in `folder`, if it exists, sorted by name, without hidden ones and those of systems."""
    folders = (path for path in folder.glob("*") if path.is_dir() and not SYSTEM_FOLDERS.fullmatch(path.name))
    return sorted(folders, key=lambda path: path.name)


def images_below(folder: Path, skip: Sequence[Path] = ()) -> list[Path]:
    """List the images in `folder` and its subfolders without those in `skip`.

    Linked folders come last. Each real folder is read once, so a link that leads back, or into `skip`, adds nothing.
    """
    found, waiting, links = list[Path](), [folder], list[Path]()
    seen = {os.path.realpath(path) for path in skip} - {os.path.realpath(folder)}
    while waiting or links:
        place = (waiting or links).pop()
        if (real := os.path.realpath(place)) not in seen:
            seen.add(real)
            found += list_images(place)
            for path in reversed(subfolders(place)):
                (links if path.is_symlink() else waiting).append(path)
    return found


def to_rgb(image: Image.Image, background: str = "white") -> list[Image.Image]:
    """Split an 8-bit image into its three RGB channels. A gray image gives three equal channels.

    Args:
        image: an image of any 8-bit mode.
        background: color that shows through transparent pixels.

    Returns:
        Three images of mode "L".
    """
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image.convert("RGBA"))
    return list(image.convert("RGB").split())


def read_image(path: str | Path, size: Size, white: White = None) -> tuple[Tensor, Size]:
    """Read an image and resize it. The whole image is kept, as in the official protocol.

    Args:
        path: the image file.
        size: (H, W) of the result, in pixels; resized bilinearly with antialiasing.
        white: value of white in files with more than 8 bits a channel, such as 4095 for 12 bits; or a function that
            returns it.

    Returns:
        The image, (3, H, W) RGB, uint8 or, with more than 8 bits, float32 in [0, 1]; and (height, width) of the file's
        image.

    Raises:
        DataError: the file is missing or no readable image; `white` is missing or does not hold its values.
    """
    image = decoded(Path(path))
    own = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    return to_pixels(image, size, white, str(path)), own


def to_pixels(image: Image.Image | NDArray, size: Size, white: White = None, name: str = "This image") -> Tensor:
    """Convert an image to a tensor, resized as in `read_image`.

    Args:
        image: an image of any mode; or an array (h, w, C) of more than 8 bits.
        size: (H, W) of the result, in pixels.
        white: see `read_image`.
        name: name of the image for messages.

    Returns:
        (3, H, W) RGB, uint8 or, with more than 8 bits, float32 in [0, 1].

    Raises:
        DataError: `white` is missing or does not hold the image's values.
    """
    if not isinstance(image, Image.Image) or image.mode.startswith(("I", "F")):
        return torch.from_numpy(_deep_pixels(np.asarray(image), size, white, name))
    channels = [np.asarray(channel.resize(size[::-1], Image.Resampling.BILINEAR)) for channel in to_rgb(image)]
    return torch.from_numpy(np.stack(channels))


def split_alpha(values: NDArray) -> tuple[NDArray, NDArray | None]:
    """Split a deep image, (h, w) or (h, w, C), into its color (h, w, 1 or 3) and its alpha (h, w), None without."""
    values = values.reshape(*values.shape[:2], -1)
    return (values[..., :-1], values[..., -1]) if values.shape[2] in (2, 4) else (values, None)


def _deep_pixels(values: NDArray, size: Size, white: White, name: str) -> NDArray:
    """Scale a deep image, (h, w) or (h, w, C), to [0, 1], lay it on white, and resize it: (3, H, W) float32."""
    color, alpha = split_alpha(values)
    divisor, resized = fitting_white(color, white, name), []
    if alpha is not None and alpha.max() < OPAQUE:
        raise DataError(f"The alpha channel of {name} ends at {alpha.max()}, but {OPAQUE} is opaque. Save it without "
                        "alpha, or with alpha of full range.")
    for i in range(color.shape[2]):  # one after the other, since a large image takes much memory
        channel = np.divide(color[..., i], divisor, dtype=np.float32)
        channel = channel if alpha is None else 1 + (channel - 1) * (alpha / np.float32(OPAQUE))
        resized.append(np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)))
    return np.broadcast_to(resized, (3, *size)).copy()


def fitting_white(values: NDArray, white: White, name: str) -> np.float32:
    """Return the value of white of a deep image. Its `name` is for messages.

    Raises DataError for an unknown white, and for values that are not finite or do not fit it.
    """
    white, low, high = white() if callable(white) else white, values.min(), values.max()
    found = f"{name} has values from {low:g} to {high:g}"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{name} has pixels that are NaN or infinite. Leave it out, or save it again.")
    if low < 0:
        raise DataError(f"{found}, but black is 0. Add one number to the values of all images, or leave it out.")
    if white is None:
        raise DataError(f"{found} in more than 8 bits a channel, but the value of white is unknown. Give white= "
                        f"(--white), such as 1 for floats, or one of {', '.join(map(str, WHITES))} for integers. If "
                        "the model was trained on 8-bit images, save the file with 8 bits, or train on such files.")
    if high > white or values.dtype.kind == "f" and white >= WHITES[0] and 0 < high <= 1:
        raise DataError(f"{found}, which does not fit white={white:g}, the value of white in its data set or model. "
                        "Save it as the others, or read all of them with another white= (--white).")
    return np.float32(white)


def as_images(images: Images, size: Size | None = None, white: float | None = None) -> Tensor:
    """Convert an image, a batch, or a list of these to one batch.

    Args:
        images: the path of a file; Pillow's image; an array (H, W), (H, W, C) or (B, H, W, C), C = 1, 3 or 4; a tensor
            (C, H, W) or (B, C, H, W), C = 1 or 3; or a list or tuple of these. uint8 in 0 to 255, other integers in 0
            to `white`, or floating point.
        size: (H, W) in pixels that files and Pillow's images are resized to, as in `read_image`; None if unknown.
        white: value of white in files, Pillow's images and integers of more than 8 bits; None if unknown.

    Returns:
        (B, 3, H, W) RGB, floating point as given, or float32 in [0, 1] for files, Pillow's images and integers.

    Raises:
        DataError: a file is missing or no readable image, or more than 8 bits do not fit `white`.
        ValueError: another type, shape or dtype; images of several sizes; an empty list; or a file without `size`.
    """
    if isinstance(images, list | tuple):
        parts = [as_images(image, size, white) for image in images]
        sizes = {tuple(part.shape[2:]) for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"A list must hold images of one size, got {sorted(sizes) or 'none'}. Resize them first.")
        return torch.cat([part.to(parts[0].device) for part in parts])
    if np.ma.is_masked(images):
        raise ValueError("An image has masked pixels, which cannot be left out. Fill them: image.filled(0).")
    if isinstance(images, Tensor) and (images.is_nested or images.layout != torch.strided or images.is_meta):
        raise ValueError(f"A tensor of images must be dense and have data; got {images.layout} on {images.device}, "
                         f"nested: {images.is_nested}. Convert it, as with images.to_dense().")
    if 0 in (images.size if isinstance(images, Image.Image) else getattr(images, "shape", ())[-3:]):
        raise ValueError(f"This {type(images).__name__} has no pixels. Leave it out, or read it again.")
    if isinstance(images, ImageFile.ImageFile) and re.search("(A|RGB);16", str(images.tile)):
        raise ValueError("Pillow cuts this image in color with 16 bits a channel to 8. Pass the path of its file.")
    if isinstance(images, str | os.PathLike | Image.Image):
        if size is None:
            raise ValueError("The size to resize the image to is unknown. Train the model, set its size with "
                             "model.set_trained(size, (0, 1)), or pass a tensor with sides that are multiples of 32.")
        images = (to_pixels(upright(images), size, white) if isinstance(images, Image.Image) else
                  read_image(Path(images), size, white)[0])
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(f"An image is a path, Pillow's image, an array or a tensor, got {type(images).__name__}.")
    kind = str(getattr(images.dtype, "name", images.dtype)).removeprefix("torch.")
    if kind not in KINDS and kind.startswith(("int", "uint")) and 0 not in images.shape:
        array = as_array(images)
        array = np.divide(array, fitting_white(array, white, f"This {kind} {type(images).__name__}"), dtype=np.float32)
        images, kind = torch.from_numpy(array) if isinstance(images, Tensor) else array, "float32"
    if kind not in KINDS:
        raise ValueError(f"Images are uint8, or floating point in [0, 1]; got {kind}. Convert them.")
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
