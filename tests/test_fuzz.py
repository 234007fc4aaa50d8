"""Thousands of malformed image files: each is read or refused by name, within 5 s and 1 GB."""
import io
import os
import struct
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdlib.images import header, read_image
from rdlib.masks import read_mask
from rdlib.utils.errors import DataError

SECONDS, BYTES = 5, 1_000_000_000


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def originals():
    """Small intact files of all formats and modes, with their extensions."""
    draw = np.random.default_rng(0)
    floats = Image.fromarray(255 * draw.random((24, 32), np.float32))
    rgb = Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    deep = Image.fromarray(draw.integers(0, 4096, (24, 32), dtype=np.uint16))
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "camera", 0x011A: 72.0})
    modes = {mode: rgb.convert(mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA")}
    rows = b"".join(b"\0" + draw.bytes(8 * 6) for _ in range(8))
    color = (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
             + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))
    files = [(encoded(image, "PNG", exif=exif), ".png") for image in (*modes.values(), deep)] + [(color, ".png")]
    files += [(encoded(modes[mode], "JPEG", exif=exif, **options), ".jpg")
              for mode, options in (("L", {}), ("RGB", {}), ("RGB", {"progressive": True}))]
    files += [(encoded(rgb.convert("CMYK"), "JPEG"), ".jpeg")]
    files += [(encoded(modes[mode], "BMP"), ".bmp") for mode in ("1", "L", "P", "RGB", "RGBA")]
    files += [(encoded(image, "TIFF", compression=kind, exif=exif), ".tif")
              for kind in (None, "tiff_lzw", "tiff_adobe_deflate")
              for image in (modes["L"], rgb, deep, floats)]
    files += [(encoded(modes["1"], "TIFF", compression="group4"), ".tiff")]
    return files + [(encoded(rgb, "WEBP", lossless=lossless, exif=exif), ".webp") for lossless in (False, True)]


def mended(data):
    """Give the chunks of a PNG file their checksums, so that its damage gets past them."""
    if not data.startswith(b"\x89PNG"):
        return data
    out, at = bytearray(data[:8]), 8
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4])
        out += png_chunk(data[at + 4:at + 8], data[at + 8:end])
        at = end + 4
    return bytes(out)


def flipped(data, draw, among=None):
    out = bytearray(data)
    for at in draw.integers(0, min(among or len(out), len(out)), draw.integers(1, 12)):
        out[at] ^= int(draw.integers(1, 256))
    return bytes(out)


def huge(data, draw):
    """Claim another size, in the header of any of the formats."""
    sizes = [0, 1, 7, 1_001, 8_000, 13_000, 60_000, 100_000_000, 2**31 - 1, 2**32 - 1]
    out = bytearray(data)
    for offset, form in ((16, ">I"), (20, ">I")) if data[1:4] == b"PNG" else ((18, "<I"), (22, "<I")):
        struct.pack_into(form, out, offset, int(draw.choice(sizes)))
    return mended(bytes(out))


def zeros(data, draw):
    first, last = sorted(int(i) for i in draw.integers(0, len(data), 2))
    return data[:first] + bytes(last - first) + data[last:]


def swapped(data, draw):
    n = int(draw.integers(1, max(2, len(data) // 3)))
    first, second = sorted(int(i) for i in draw.integers(0, len(data), 2))
    return data[:first] + data[second:second + n] + data[first + n:second] + data[first:first + n] + data[second + n:]


def in_exif(data, draw):
    at = max(data.find(b"Exif"), data.find(b"eXIf"), data.find(b"II*\0"), data.find(b"MM\0*"), 0)
    out = bytearray(data)
    for i in draw.integers(at, min(at + 90, len(out)), 6):
        out[i] = int(draw.integers(0, 256))
    return mended(bytes(out))


def short_rows(_, draw):
    """A whole stream of fewer rows than the header says."""
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 30, 8, 0, 0, 0, 0))
            + png_chunk(b"IDAT", zlib.compress(b"\0" * 31 * int(draw.integers(0, 30)))) + png_chunk(b"IEND", b""))


def pages(_, draw):
    frames = [Image.fromarray(frame) for frame in draw.integers(0, 256, (3, 8, 8), dtype=np.uint8)]
    return encoded(frames[0], str(draw.choice(["TIFF", "PNG", "WEBP", "GIF"])), save_all=True, append_images=frames[1:])


def another_format(_, draw):
    image = Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    texts = [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"%PDF-1.4", b"PK\3\4", b"<!DOCTYPE html>"]
    kinds = ["GIF", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "IM"]
    choice = int(draw.integers(len(texts) + len(kinds)))
    return texts[choice] if choice < len(texts) else encoded(image, kinds[choice - len(texts)])


DAMAGES = {
    "truncated": lambda data, draw: data[:int(draw.integers(0, len(data)))],
    "bytes flipped": flipped,
    "header flipped": lambda data, draw: flipped(data, draw, 60),
    "flipped behind checksums": lambda data, draw: mended(flipped(data, draw)),
    "a run of zeros": zeros,
    "nothing but zeros": lambda data, draw: bytes(int(draw.integers(0, 2_000))),
    "another size": huge,
    "pieces swapped": swapped,
    "EXIF": in_exif,
    "bytes put in": lambda data, draw: data[:(at := int(draw.integers(0, len(data))))]
    + draw.bytes(int(draw.integers(1, 40))) + data[at:],
    "a piece left out": lambda data, draw: data[:(at := int(draw.integers(0, len(data))))]
    + data[at + int(draw.integers(1, 50)):],
    "noise": lambda data, draw: data[:int(draw.integers(0, 40))] + draw.bytes(int(draw.integers(1, 500))),
    "fewer rows": short_rows,
    "several pages": pages,
    "another format": another_format,
}


def peak(reset=False):
    """The highest memory of this process in bytes since the last reset; 0 where the system does not say."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def fuzz(folder, number, seed):
    """Read malformed files by every way. Return how many were read and refused, by kind of damage."""
    draw, files, outcomes = np.random.default_rng(seed), originals(), Counter()
    extensions = sorted({extension for _, extension in files})
    for i in range(number):
        name = list(DAMAGES)[i % len(DAMAGES)]
        data, extension = files[draw.integers(len(files))]
        extension = extension if draw.integers(5) else str(draw.choice(extensions))
        path = folder / f"{i}{extension}"
        path.write_bytes(DAMAGES[name](data, draw))
        found = {}
        for way, read in (("header", lambda path: header(path)[:2]), ("image", lambda path: read_image(path, (16, 16))[1]),
                          ("deep", lambda path: read_image(path, (16, 16), white=65535)[1]),
                          ("mask", lambda path: read_mask(path, (16, 16))[1]),
                          ("threshold", lambda path: read_mask(path, (16, 16), threshold=9)[1])):
            before, began = peak(reset=True), time.process_time()
            try:
                found[way] = read(path)
            except DataError as error:
                assert path.name in str(error), f"{i}: {error}"
            except Exception as error:
                raise AssertionError(f"{way} of file {i} ({name}): {type(error).__name__}: {error}") from error
            assert time.process_time() - began < SECONDS and peak() - before < BYTES, f"{way} of file {i} ({name})"
        assert len(set(found.values())) < 2, f"file {i} ({name}) has several sizes: {found}"
        outcomes[name, "read" if "deep" in found else "refused"] += 1
        path.unlink()
    return outcomes


@pytest.mark.parametrize(("number", "seed"), [(1_000, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)])
def test_malformed_files_are_read_or_refused_by_name(tmp_path, number, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged tags
        outcomes = fuzz(tmp_path, number, seed)
    refused = {name: outcomes[name, "refused"] for name in DAMAGES}
    share = number // len(DAMAGES)
    assert sum(outcomes.values()) == number and all(refused.values()) and sum(refused.values()) > number / 2
    for name in ("nothing but zeros", "fewer rows", "several pages", "another format"):
        assert refused[name] >= share, name
    assert outcomes["EXIF", "read"] > share / 10 and outcomes["bytes flipped", "read"] > share / 20


def test_intact_files_are_read(tmp_path):
    turned = 0
    for i, (data, extension) in enumerate(originals()):
        path = tmp_path / f"{i}{extension}"
        path.write_bytes(data)
        found = header(path)
        upright = (32, 24) if found.orientation == 6 else (24, 32)
        assert read_image(path, (16, 16), white=65535)[1] == found[:2] and found[:2] in (upright, (8, 8)), i
        turned += found.orientation == 6
    assert turned > 20
