"""Images and masks in the many forms that files take, read as an obvious reference would."""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import InterpolationMode, resize

from rdlib.images import list_images, read_image
from rdlib.masks import read_mask
from rdlib.utils.arrays import as_size
from rdlib.utils.errors import DataError

H, W = 40, 60
DRAW = np.random.default_rng(0)
RGB = DRAW.integers(0, 256, (H, W, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = DRAW.integers(0, 256, (H, W), dtype=np.uint8)
DEEP = DRAW.integers(0, 65536, (H, W), dtype=np.uint16)
RAMP = np.add.outer(np.arange(H) * 3, np.arange(W) * 2)[..., None] + np.array([0, 10, 17])  # smooth, so JPEG keeps it
DEFECT = np.zeros((H, W), dtype=bool)
DEFECT[10:25, 5:30] = DEFECT[3, 50] = True


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


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    expected = np.rint(DEEP / 257.0)
    for channel in pixels(written(tmp_path, DEEP, name)).transpose(2, 0, 1):
        assert np.array_equal(channel, expected)


def test_16_bit_grey_is_resized_before_it_is_rounded(tmp_path):
    flat = np.full((H, W), 1000, dtype=np.uint16)
    flat[:, ::2] = 1200  # 3.9 and 4.7, on average 4.28: rounded first, it would be 4.5
    assert (pixels(written(tmp_path, flat), (H, W // 2)) == 4).all()


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
    deep = pixels(written(tmp_path, GREY.astype(np.uint16) * 257, "16.png"), (16, 20))
    assert np.abs(grey - deep).max() <= 1


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


@pytest.mark.parametrize("size", [(16, 16), (32, 20), (8, 64), (128, 96)])  # no center falls between two pixels
def test_masks_are_resized_to_the_nearest_pixel(tmp_path, size):
    """The pixel under the center of the new one; nothing in between is invented."""
    mask, _ = read_mask(written(tmp_path, (ALPHA > 128).astype(np.uint8)), size)
    rows, columns = ((np.arange(n) + 0.5) * own / n for n, own in zip(size, (H, W), strict=True))
    assert np.array_equal(mask, (ALPHA > 128)[np.ix_(rows.astype(int), columns.astype(int))])


def test_image_and_mask_stay_on_top_of_each_other(tmp_path):
    image = np.where(DEFECT, 255, 0).astype(np.uint8)
    small = pixels(written(tmp_path, image, "a.png"), (20, 30))[..., 0] > 127
    assert (small != read_mask(written(tmp_path, image, "b.png"), (20, 30))[0].numpy()).sum() <= 20


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
def test_truncated_files_are_named(tmp_path, read, name):
    path = written(tmp_path, RGB, name)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"{name} is not a readable image.*truncated.*copy it again"):
            read(path, (16, 16))


def test_what_is_no_image(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("not an image at all")
    with pytest.raises(DataError, match="a.png"):
        read_image(tmp_path / "a.png", (16, 16))
    with pytest.raises(DataError, match="gone.png"):
        read_image(tmp_path / "gone.png", (16, 16))
    path = written(tmp_path, RGB, "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    with pytest.raises(DataError, match="huge.png"):
        read_image(path, (16, 16))


def test_list_images_is_sorted_and_takes_images_only(tmp_path):
    for name in ("b.png", "a.JPG", "c.txt", "10.bmp", "9.tiff", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["10.bmp", "9.tiff", "a.JPG", "b.png", "d.webp"]


@pytest.mark.parametrize(("size", "expected"), [(64, (64, 64)), (np.int64(32), (32, 32)), ([24, 40], (24, 40)),
                                                (torch.Size([8, 16]), (8, 16)), (np.array([4, 6]), (4, 6))])
def test_a_size_is_a_side_or_height_and_width(size, expected):
    assert as_size(size) == expected and all(type(side) is int for side in as_size(size))


@pytest.mark.parametrize("size", [(64,), (3, 64, 64)])
def test_a_size_has_two_sides(size):
    with pytest.raises(ValueError):
        as_size(size)
