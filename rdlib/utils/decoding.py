"""Open and decode image files of five formats, within limits that are checked before decoding."""
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.Image import Transpose

from rdlib.utils.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # recognized by content, not by extension
SIGNS = {b"II": "TIFF", b"MM": "TIFF", b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"BM": "BMP", b"RIFF": "WEBP"}
MOST_PIXELS, MOST_RATIO = 61_000_000, 1000  # of a file, so that reading it takes less than 5 s and 1 GB
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
# Pillow warns of these without the file's name, and reads the pixels all the same.
warnings.filterwarnings("ignore", "(possibly )?corrupt exif|metadata warning|truncated file read|tag (data|offset)|"
                        "image appears to be a malformed mpo", module=r"PIL\.")


class Header(NamedTuple):
    """What the header of an image file says."""

    height: int  # of the upright image, in pixels
    width: int
    mode: str  # Pillow's
    format: str  # Pillow's, such as "PNG"
    deep: bool  # more than 8 bits a channel
    orientation: int  # EXIF's, 1 (upright) to 8


def header(path: Path) -> Header:
    """Read the header of an image file without decoding it. Raises DataError if the file cannot be read."""
    with _opened(path) as (_, found):
        return found


def open_image(path: Path) -> Image.Image:
    """Decode an image file and rotate it upright (EXIF).

    Raises DataError if it is missing, unreadable, too large, or in color with 16 bits, which Pillow cuts to 8.
    """
    if isinstance(image := decoded(path), Image.Image):
        return image
    raise DataError(f"{path} is in color with 16 bits a channel. Save it in gray, or with 8 bits.")


def decoded(path: Path) -> Image.Image | NDArray:
    """Decode an image file upright; in color with 16 bits a channel as an array (h, w, C)."""
    with _opened(path) as (image, found):
        if not found.deep or len(image.getbands()) == 1:
            return _loaded(image, path)
        layout = str(_layout(image))
    if not (known := re.fullmatch(r"(LA|RGB|RGBA);16([BLN])", layout)):
        raise DataError(f"{path} has 16 bits a channel in a layout that is not read ({layout}). Save it as a PNG file.")
    # Pillow takes the first byte of a value in "B" layouts and the second in "L", in a file of any byte order.
    layouts = ["RGBA"] if known[1] == "LA" else [f"{known[1]};16B", f"{known[1]};16L"]  # LA: four bytes are RGBA's
    pair = np.stack([_bytes(path, layout) for layout in layouts], -1)
    return pair.reshape(*pair.shape[:2], -1).view({"B": ">u2", "L": "<u2", "N": "=u2"}[known[2]])


def _layout(image: Any) -> str:
    """Return Pillow's name for the layout of an opened image's bytes, such as "RGB;16B"."""
    options = image.tile[0][3]
    return options if isinstance(options, str) else options[0]


def _bytes(path: Path, layout: str) -> NDArray:
    """Decode a file as if it had another layout, see `_layout`: (h, w, C) uint8."""
    image: Any
    with _opened(path) as (image, _):
        image.tile = [ImageFile._Tile(codec, box, start, layout if isinstance(old, str) else (layout, *old[1:]))
                      for codec, box, start, old in image.tile]
        return np.asarray(_loaded(image, path))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, Header]]:
    """Open an image file, not yet decoded, for a block. Any error in the block becomes a DataError with its name."""
    try:
        # Not by its path: Pillow would map an uncompressed TIFF into memory and scramble it when EXIF rotates it.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image, _checked(image, path)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}. Check the path.") from error
    except Image.DecompressionBombError as error:  # also by Pillow, whose limit comes first
        pixels = int(re.findall(r"\d+", str(error))[0]) / 1e6
        raise DataError(f"{path} has {pixels:.0f} megapixels. At most {MOST_PIXELS / 1e6:.0f} are read, or half of "
                        "that for WEBP and color with 16 bits. Shrink it, or cut it into tiles.") from error
    except Exception as error:  # decoders raise errors of many kinds
        raise DataError(f"{path} is not a readable image ({_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """Say why a file cannot be decoded, a closing bracket, and what to do about it."""
    again = "If it is truncated, copy it again."
    if not isinstance(error, UnidentifiedImageError):
        return f"{error}). {'It is a folder: pass its files.' if os.path.isdir(path) else again}"
    if not (start := path.read_bytes()[:4]):
        return "an empty file). Copy it again, or leave it out."
    kind = next((f"a kind of {kind} that is not read, or damaged" for sign, kind in SIGNS.items()
                 if start.startswith(sign)), f"none of {', '.join(FORMATS)}")
    return f"{kind}). Save it with 8 or 16 bits, in gray or RGB. {again}"


def _checked(image: Image.Image, path: Path) -> Header:
    """Read the header of an opened file. Raise an error for what is too large or long, or has several pages."""
    tags: Any = getattr(image, "tag_v2", {})  # of a TIFF, whose upright size some versions of Pillow report
    width, height = (tags[256], tags[257]) if tags else image.size
    deep = max(tags.get(258, (1,))) > 8 or image.format == "PNG" and ";16" in _layout(image)
    if width * height > MOST_PIXELS / (2 if image.format == "WEBP" or deep and len(image.getbands()) > 1 else 1):
        raise Image.DecompressionBombError(f"{width * height} pixels")
    if max(width, height) > MOST_RATIO * min(width, height):
        raise DataError(f"{path} has {width} x {height} pixels, a ratio above {MOST_RATIO}. Cut it into tiles.")
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a JPEG and its previews
        raise DataError(f"{path} has several pages or frames. Save each of them as a file of its own.")
    if deep and ("transparency" in image.info or tags.get(262) == 0):  # neither is in what Pillow decodes
        raise DataError(f"{path} has 16 bits and declares a color transparent, or 0 white. Save it as gray or RGB.")
    orientation = Image.Image.getexif(image).get(ORIENTATION, 1)  # PNG's own method would decode the image
    size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    return Header(*size, image.mode, str(image.format), deep, orientation if orientation in TURNS else 1)


def _loaded(image: Any, path: Path) -> Image.Image:
    """Decode an opened file upright. Raise an error if the last rows of a PNG file are missing."""
    image.load()
    last = (0, image.height - 1, image.width, image.height)
    if image.format == "PNG" and not image.crop(last).getbbox(alpha_only=False):
        again: Any
        with Image.open(path) as again:
            again.im = Image.new(again.mode, again.size, 255).im  # on which Pillow decodes the rows that are there
            if again.crop(last).getbbox(alpha_only=False):
                raise ValueError("its last rows are missing")
    return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """Rotate an image upright (EXIF). Nothing but the orientation is read."""
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)
