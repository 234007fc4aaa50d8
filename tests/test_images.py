"""Images and masks in the many forms that files take, read as an obvious reference would."""
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps
from torchvision.transforms.v2.functional import InterpolationMode, resize

from rdlib.images import as_images, header, images_below, list_images, open_image, read_image, subfolders
from rdlib.masks import read_mask
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

H, W = 40, 60
DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (H, W, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = DRAW.integers(0, 256, (H, W), dtype=np.uint8)
RAMP = np.add.outer(np.arange(H) * 3, np.arange(W) * 2)[..., None] + np.array([0, 10, 17])  # smooth, so JPEG keeps it
DEFECT = np.zeros((H, W), dtype=bool)
DEFECT[10:25, 5:30] = DEFECT[3, 50] = True


def png(width, height, rows):
    """The bytes of a PNG file of 1 bit."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)),
              (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(body)) + name + body + struct.pack(
        ">I", zlib.crc32(name + body)) for name, body in chunks)


def written(folder, image, name="image.png", **options):
    """The path of an array or a PIL image saved in `folder`."""
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def pixels(path, size=(H, W)):
    """What `read_image` makes of a file, as (H, W, 3) int64."""
    image, own = read_image(path, size)
    assert image.shape == (3, *size) and image.dtype == torch.uint8 and own == (H, W)
    return image.permute(1, 2, 0).numpy().astype(int)


def on_white(colour, alpha):
    """The formula of alpha compositing, (H, W, 3) float."""
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF"])
def test_rgb_as_it_is(tmp_path, name):
    assert np.array_equal(pixels(written(tmp_path, RGB, name)), RGB)


def test_grey_becomes_three_equal_channels(tmp_path):
    assert np.array_equal(pixels(written(tmp_path, GREY)), np.stack([GREY] * 3, -1))


def test_bits_become_black_and_white(tmp_path):
    assert np.array_equal(pixels(written(tmp_path, DEFECT))[..., 1], 255 * DEFECT)


def test_palette(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(pixels(written(tmp_path, image)), np.array(image.getpalette()).reshape(-1, 3)[image])


def test_palette_with_one_transparent_colour_is_laid_on_white(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    expected = np.array(image.getpalette()).reshape(-1, 3)[image]
    expected[np.asarray(image) == 3] = 255
    assert np.array_equal(pixels(written(tmp_path, image, transparency=3)), expected)


def test_palette_with_an_alpha_each(tmp_path):
    image = Image.fromarray(RGB).quantize(4)
    colours = np.array(image.getpalette()).reshape(-1, 3)[image]
    expected = on_white(colours, np.array([0, 100, 255, 200])[image])
    path = written(tmp_path, image, transparency=bytes([0, 100, 255, 200]))
    assert np.abs(pixels(path) - expected).max() <= 1


def test_alpha_is_laid_on_white(tmp_path):
    rgba = written(tmp_path, np.dstack([RGB, ALPHA]))
    assert np.abs(pixels(rgba) - on_white(RGB, ALPHA)).max() <= 1
    la = written(tmp_path, Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]))
    assert np.abs(pixels(la) - on_white(np.dstack([GREY] * 3), ALPHA)).max() <= 1


@pytest.mark.parametrize("source, colour", [(RGB, tuple(map(int, RGB[4, 7]))), (GREY, int(GREY[4, 7]))])
def test_a_colour_declared_transparent_becomes_white(tmp_path, source, colour):
    gone = (source == colour).reshape(H, W, -1).all(-1)
    expected = np.where(gone[..., None], 255, source if source.ndim == 3 else source[..., None])
    assert gone.any() and np.array_equal(pixels(written(tmp_path, source, transparency=colour)),
                                         np.broadcast_to(expected, (H, W, 3)))


def test_cmyk_jpeg(tmp_path):
    cmyk = np.dstack([255 - RAMP, np.zeros((H, W), int)]).clip(0, 255).astype(np.uint8)
    path = written(tmp_path, Image.fromarray(cmyk, "CMYK"), "a.jpg", quality=100)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(pixels(path) - RAMP.clip(0, 255)).max() <= 6  # JPEG is not exact


# What EXIF calls 1 to 8, as what must be done to the stored array to see it upright.
UPRIGHT = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
           5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
           8: lambda a: np.rot90(a)}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name, stored, tolerance", [
    ("a.jpg", RAMP.clip(0, 255).astype(np.uint8), 6), ("a.png", GREY, 0), ("rgb.tif", RGB, 0), ("grey.tif", GREY, 0)])
def test_exif_turns_the_picture_upright(tmp_path, orientation, name, stored, tolerance):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, stored, name, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    expected = UPRIGHT[orientation](stored)
    size = expected.shape[:2]
    assert size == ((W, H) if orientation >= 5 else (H, W))
    image, own = read_image(path, size)
    assert own == size
    expected = np.broadcast_to(expected.reshape(*size, -1), (*size, 3)).astype(int)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= tolerance


def test_a_mask_is_turned_as_its_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask, own = read_mask(written(tmp_path, (255 * DEFECT).astype(np.uint8), exif=exif), (W, H))
    assert own == (W, H) and np.array_equal(mask, np.rot90(DEFECT, -1))


@pytest.mark.parametrize("size", [(16, 16), (32, 20), (13, 70), (100, 90)])
def test_images_are_resized_bilinearly_with_antialiasing(tmp_path, size):
    ours = pixels(written(tmp_path, RGB), size)
    torchvisions = resize(torch.from_numpy(RGB).permute(2, 0, 1), list(size), InterpolationMode.BILINEAR,
                          antialias=True).permute(1, 2, 0).numpy()
    assert np.abs(ours - torchvisions).max() <= 1
    assert np.array_equal(ours, Image.fromarray(RGB).resize(size[::-1], Image.Resampling.BILINEAR))


def test_16_bit_images_are_resized_the_same_way(tmp_path):
    grey = pixels(written(tmp_path, GREY, "8.png"), (16, 20))
    deep, own = read_image(written(tmp_path, GREY.astype(np.uint16) * 257, "16.png"), (16, 20), white=65535)
    assert np.abs(grey - 255 * deep.permute(1, 2, 0).numpy()).max() <= 1 and own == (H, W)


def as_palette(mask):
    """0 is black, 1 a dark red, as annotation tools write it."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


def with_alpha(mask):
    """White everywhere, and transparent where there is no defect."""
    return np.dstack([np.full((H, W, 3), 255), 255 * mask]).astype(np.uint8)


MASKS = {"0/1": lambda m: m.astype(np.uint8), "0/255": lambda m: 255 * m.astype(np.uint8),
         "16-bit 0/1": lambda m: m.astype(np.uint16), "16-bit": lambda m: 65535 * m.astype(np.uint16),
         "16-bit, dark": lambda m: 300 * m.astype(np.uint16), "bits": lambda m: m, "palette": as_palette,
         "rgb": lambda m: np.dstack([255 * m.astype(np.uint8)] * 3), "alpha": with_alpha}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_every_kind(tmp_path, kind):
    mask, own = read_mask(written(tmp_path, MASKS[kind](DEFECT)), (H, W))
    assert mask.dtype == torch.bool and own == (H, W) and np.array_equal(mask, DEFECT)
    empty, _ = read_mask(written(tmp_path, MASKS[kind](np.zeros_like(DEFECT))), (H, W))
    assert not empty.any()


def test_float_and_32_bit_masks(tmp_path):
    for values in (DEFECT * np.float32(0.5), DEFECT * np.int32(70_000)):
        assert np.array_equal(read_mask(written(tmp_path, values, "a.tif"), (H, W))[0], DEFECT)


@pytest.mark.parametrize("size", [(16, 16), (32, 20), (13, 70), (128, 96)])
def test_masks_are_resized_as_images_and_cut_at_half_of_white(tmp_path, size):
    """Torchvision resizes numbers, not bytes. Only where it gives about a half may rounding decide."""
    mask, _ = read_mask(written(tmp_path, (ALPHA > 128).astype(np.uint8)), size)
    shares = resize(torch.from_numpy((ALPHA > 128)[None].astype(np.float32)), list(size), antialias=True)[0]
    clear = (shares - 0.5).abs() > 0.005
    assert torch.equal(mask[clear], (shares > 0.5)[clear]) and clear.float().mean() > 0.9 and mask.any()


def test_image_and_mask_stay_on_top_of_each_other(tmp_path):
    image = np.where(DEFECT, 255, 0).astype(np.uint8)
    small = pixels(written(tmp_path, image, "a.png"), (20, 30))[..., 0] > 127
    assert (small != read_mask(written(tmp_path, image, "b.png"), (20, 30))[0].numpy()).sum() <= 20


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
def test_truncated_files_are_named(tmp_path, read, name):
    path = written(tmp_path, RGB, name)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"{name} is not a readable image.*truncated.*copy it again"):
            read(path, (16, 16))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name} is not a readable image \(an empty file\). Copy it again, or leave"):
        read(path, (16, 16))


def test_corrupt_exif_data_need_no_words(tmp_path):
    """Pillow warns of them without the file's name; the pixels are whole."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0e\x01\x02\0\xff\0\0\0\x50\0\0\0\x12\x01"
    path = written(tmp_path, RGB, "a.jpg", exif=exif)
    code = ("import sys; from rdlib.images import read_image; from pathlib import Path; "
            "read_image(Path(sys.argv[1]), (8, 8))")
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    again = "import warnings; warnings.filterwarnings('always')"
    found = subprocess.run([sys.executable, "-c", code + "; " + again + code[10:], str(path)], capture_output=True,
                           text=True, check=True)
    assert "orrupt EXIF data" in found.stderr  # as Pillow says it


def test_what_is_no_image(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("not an image at all")
    with pytest.raises(DataError, match="a.png"):
        read_image(tmp_path / "a.png", (16, 16))
    with pytest.raises(DataError, match="gone.png"):
        read_image(tmp_path / "gone.png", (16, 16))
    path = written(tmp_path, np.zeros((1000, 2000), np.uint8), "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    with pytest.raises(DataError, match="huge.png has 2 megapixels. At most 61 are read"):
        read_image(path, (16, 16))


@pytest.mark.parametrize(("size", "words"), [
    ((100_000_000, 1), "has 100 megapixels. At most 61 are read, or half of that for WEBP and color with 16 bits. S"),
    ((13_000, 13_000), "has 169 megapixels"), ((14_035, 14_036), "has 197 mega"), ((7_811, 7_810), "has 61 meg"),
    ((64_001, 64), "has 64001 x 64 pixels, a ratio above 1000. Cut it into tiles."),
    ((1, 1_001), "has 1 x 1001 pixels, a ratio above 1000")])
def test_large_images_are_refused_before_they_are_decoded(tmp_path, size, words, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(*size, b"\0\0"))
    assert len(path.read_bytes()) < 80
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for read in (header, open_image, lambda path: read_image(path, (16, 16)), lambda path: read_mask(path, (16, 16))):
        with warnings.catch_warnings(), pytest.raises(DataError, match=f"a.png {words}"):
            warnings.simplefilter("ignore")  # Pillow's own, from 89 megapixels on
            read(path)


def test_long_images_are_read(tmp_path):
    for shape in ((64, 9_600), (9_600, 64), (1, 1_000), (1, 1)):
        assert read_image(written(tmp_path, np.full(shape, 7, np.uint8)), (16, 16))[1] == shape


def test_a_png_file_with_too_few_rows_is_refused(tmp_path):
    path = tmp_path / "a.png"
    for rows in (1, 2, 15):
        path.write_bytes(png(24, 16, b"\0\xaa\xaa\xaa" * rows))
        with pytest.raises(DataError, match=r"a.png is not a readable image \(its last rows are missing\)"):
            read_image(path, (16, 16))
    path.write_bytes(png(24, 16, b"\0\xaa\xaa\xaa" * 15 + b"\0\0\0\0"))
    assert read_image(path, (16, 24))[0][:, -1].max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_black_image_is_no_file_with_missing_rows(tmp_path, mode):
    path = written(tmp_path, Image.new(mode, (W, H)))
    assert read_image(path, (H, W), white=255)[1] == (H, W)
    data = path.read_bytes()
    at = data.index(b"IDAT")
    rows = zlib.decompress(data[at + 4:at + 4 + int.from_bytes(data[at - 4:at])])
    body = b"IDAT" + zlib.compress(rows[:len(rows) // 2])
    path.write_bytes(data[:at - 4] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
                     + png(1, 1, b"")[-12:])
    with pytest.raises(DataError, match="its last rows are missing"):
        read_image(path, (H, W), white=255)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp"])
def test_files_of_several_pages_are_refused_by_name(tmp_path, name):
    frames = [Image.fromarray(frame) for frame in (RGB, 255 - RGB)]
    path = written(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    for read in (header, open_image, lambda path: read_image(path, (16, 16)), lambda path: read_mask(path, (16, 16))):
        with pytest.raises(DataError, match=f"{name} has several pages or frames. Save each of them as a file of"):
            read(path)


def test_the_first_picture_of_an_mpo_file_is_read(tmp_path):
    ramp = RAMP.clip(0, 255).astype(np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp).save(path, "MPO", save_all=True, append_images=[Image.fromarray(255 - ramp)], quality=100)
    assert header(path).format == "MPO" and np.abs(pixels(path) - ramp).max() <= 6


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "TGA"])
def test_other_formats_are_refused_under_any_name(tmp_path, kind):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, kind)
    with pytest.raises(DataError, match="a.png is not a readable image"):
        read_image(path, (16, 16))
    Image.fromarray(RGB).save(path, "BMP")  # the content decides
    assert np.array_equal(pixels(path), RGB) and header(path) == (H, W, "RGB", "BMP", False, 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_of_exif_only_the_orientation_is_applied(tmp_path, name):
    """A rational number of -1/0, which Pillow cannot write again."""
    exif = struct.pack("<2sHIHHHIHHHHII", b"II", 42, 8, 2, 0x0112, 3, 1, 6, 0, 0x011A, 10, 1, 38)
    exif += struct.pack("<Iii", 0, -1, 0)
    path = written(tmp_path, RAMP.clip(0, 255).astype(np.uint8), name, exif=b"Exif\0\0" + exif)
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(path))
    assert header(path)[:2] == (W, H) and header(path).orientation == 6
    assert read_image(path, (16, 16))[1] == (W, H)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_header_says_what_decoding_gives(tmp_path, name, orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = written(tmp_path, RGB, name, exif=exif)
    image = open_image(path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    expected = {"a.jpg": "JPEG", "a.png": "PNG", "a.tif": "TIFF", "a.webp": "WEBP"}[name]
    assert header(path) == (image.height, image.width, "RGB", expected, False, orientation)


def test_list_images_is_sorted_and_takes_images_only(tmp_path):
    names = ["10.bmp", "9.tiff", "a.JPG", "b.png", "d.webp", "e.jfif", "f.JPE", "g.tif", "h.jpeg"]
    for name in (*names[::-1], "c.txt", "k.gif", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == names


def test_hidden_and_system_folders_hold_no_images(tmp_path):
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, GREY, "a.png")
    for name in ("b", "a b", "a/deep/er"):
        (tmp_path / name).mkdir(parents=True)
    written(tmp_path / "a/deep/er", GREY, "c.png")
    written(tmp_path / "b", GREY, "c.png")
    assert [path.name for path in subfolders(tmp_path)] == ["a", "a b", "b"] and subfolders(tmp_path / "gone") == []
    assert [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)] == ["a/deep/er/c.png", "b/c.png"]
    assert images_below(tmp_path, [tmp_path / "a"]) == [tmp_path / "b/c.png"]


def test_linked_folders_are_entered_once(tmp_path):
    share, folder = tmp_path / "share", tmp_path / "in"
    for place in (share / "monday", folder / "line"):
        place.mkdir(parents=True)
        written(place, GREY, "a.png")
    for link, target in ((folder / "a_share", share), (folder / "again", share), (folder / "line/up", folder),
                         (share / "back", folder), (folder / "b_line", folder / "line"),
                         (folder / "broken", share / "x")):
        link.symlink_to(target, target_is_directory=True)
    assert [path.relative_to(folder).as_posix() for path in images_below(folder)] == ["line/a.png",
                                                                                      "a_share/monday/a.png"]


@pytest.mark.parametrize(("size", "expected"), [(64, (64, 64)), (np.int64(32), (32, 32)), ([24, 40], (24, 40)),
                                                (torch.Size([8, 16]), (8, 16)), (np.array([4, 6]), (4, 6))])
def test_a_size_is_a_side_or_height_and_width(size, expected):
    assert as_size(size) == expected and all(type(side) is int for side in as_size(size))


@pytest.mark.parametrize("size", [(64,), (3, 64, 64)])
def test_a_size_has_two_sides(size):
    with pytest.raises(ValueError):
        as_size(size)


@pytest.mark.parametrize("convert, words", [
    (torch.Tensor.to_sparse, r"dense and have data; got torch\.sparse_coo on cpu"),
    (lambda x: x.to("meta"), "dense and have data; got torch.strided on meta"),
    (lambda x: torch.nested.nested_tensor([x, x]), "nested: True"),
    (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "got quint8"), (lambda x: x + 0j, "got complex64")])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_numbers_are_refused_in_words(convert, words):
    for images in (convert(torch.rand(3, 32, 32)), [torch.rand(3, 32, 32), convert(torch.rand(3, 32, 32))]):
        with pytest.raises(ValueError, match=words):
            as_images(images)
