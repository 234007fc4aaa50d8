"""What the values of masks mean, decided once for a data set; and what becomes of small defects."""
import io
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torch.utils.data import DataLoader
from torchvision import transforms

from rdlib import Report
from rdlib.datasets.samples import AnomalyDataset, FileSample
from rdlib.masks import UNKNOWN, MaskRule, load_mask, lost_defects, mask_codes, mask_rule, read_mask
from rdlib.utils.errors import DataError

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


def disc(row=48, column=48, radius=16, value=255):
    return np.where((ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius ** 2, value, 0).astype(np.uint8)


DISC, ONE, TWO, THREE = disc(), disc(20, 20, 12, 1), disc(20, 70, 12, 2), disc(70, 70, 12, 3)
KINDS = np.maximum(np.maximum(ONE, TWO), THREE)


def written(folder, values, name="mask.png", palette=None, **options):
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    if palette:
        image.putpalette(palette)
    path = folder / name
    image.save(path, **options)
    return path


def blurred(values, radius=2):
    return np.asarray(Image.fromarray(values).filter(ImageFilter.GaussianBlur(radius)))


def colors(*pairs, background=(0, 0, 0)):
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    for where, color in pairs:
        image[where > 0] = color
    return image


def codes_of(*paths):
    rule = mask_rule(paths)
    return [mask_codes(path, rule) for path in paths]


@pytest.mark.parametrize("value", [1, 2, 100, 128, 254, 255])
def test_black_and_one_other_value_are_a_mask(tmp_path, value):
    black, mask = written(tmp_path, DISC * 0, "a.png"), written(tmp_path, disc(value=value), "b.png")
    assert mask_rule([black, mask]) == MaskRule(0)
    empty, found = codes_of(black, mask)
    assert not empty.any() and np.array_equal(found, DISC > 0)
    assert read_mask(mask, (SIDE, SIDE))[0].dtype == torch.bool
    assert np.array_equal(read_mask(mask, (SIDE, SIDE))[0], DISC > 0)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_may_cover_the_whole_image(tmp_path, value):
    assert read_mask(written(tmp_path, np.full((SIDE, SIDE), value, np.uint8)), (32, 32))[0].all()


@pytest.mark.parametrize("convert", [
    lambda a: np.dstack([a] * 3), lambda a: Image.fromarray(a).convert("P"), lambda a: Image.fromarray(a).convert("1"),
    lambda a: np.dstack([a] * 3 + [np.full_like(a, 255)]), lambda a: a.astype(np.uint16) * 257])
def test_gray_is_gray_in_every_mode(tmp_path, convert):
    paths = [written(tmp_path, convert(DISC), "a.png"), written(tmp_path, convert(DISC * 0), "b.png")]
    found, empty = codes_of(*paths)
    assert np.array_equal(found, DISC > 0) and not empty.any()


@pytest.mark.parametrize("quality", [95, 75, 50, 30])
@pytest.mark.parametrize(("name", "convert"), [("a.jpg", np.asarray), ("a.jpg", lambda a: np.dstack([a] * 3)),
                                               ("a.webp", np.asarray)])
def test_lossy_masks_are_cut_at_half_of_white(tmp_path, quality, name, convert):
    path, black = written(tmp_path, convert(DISC), name, quality=quality), written(tmp_path, DISC * 0, "b.jpg")
    assert mask_rule([path, black]) == MaskRule(127.5)
    found, empty = codes_of(path, black)
    expected = np.asarray(Image.open(path).convert("L")) > 127.5
    assert np.array_equal(found, expected) and (found != (DISC > 0)).mean() < 0.01 and not empty.any()


def test_a_lossy_tiff_and_a_jpeg_saved_as_png_are_cut_at_half_of_white(tmp_path):
    assert mask_rule([written(tmp_path, DISC, "a.tif", compression="jpeg")]) == MaskRule(127.5)
    again = np.asarray(Image.open(written(tmp_path, DISC, "a.jpg", quality=75)))
    assert mask_rule([written(tmp_path, again)]) == MaskRule(127.5)


def test_a_set_of_black_lossy_masks_is_black(tmp_path):
    assert not codes_of(written(tmp_path, DISC * 0, "a.jpg"))[0].any()


@pytest.mark.parametrize(("values", "words"), [
    (disc(value=1), r"0 \(9\d\.\d\d%, as in a.jpg\), 1 \(\d\.\d\d%"),
    (disc(value=90), r"90 \(\d\.\d\d%, as in a.jpg\)"),
    (np.maximum(disc(20, 20, 12, 100), disc(70, 70, 12)), r"100 \(\d\.\d\d%, as in a.jpg\)")])
def test_lossy_values_that_do_not_reach_both_ends_are_not_decided(tmp_path, values, words):
    path = written(tmp_path, values, "a.jpg", quality=90)
    with pytest.raises(DataError, match=words) as raised:
        mask_rule([path])
    assert "no clear meaning" in str(raised.value) and "mask_threshold=" in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert mask_rule([path], 0.5) == MaskRule(0.5)


@pytest.mark.parametrize(("scale", "kind", "cut"), [(1, np.uint8, 127.5), (257, np.uint16, 32767.5),
                                                    (1 / 255, np.float32, 0.5), (1, np.float32, 127.5)])
def test_soft_edges_are_cut_at_half_of_white(tmp_path, scale, kind, cut):
    soft = (blurred(DISC) * np.float32(scale)).astype(kind)
    path = written(tmp_path, soft, "a.tif")
    assert mask_rule([path]) == MaskRule(cut)
    assert np.array_equal(codes_of(path)[0], soft > cut)


def test_values_close_to_both_ends_are_cut_at_half_of_white(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, DISC.shape).astype(np.uint8)
    path = written(tmp_path, np.where(DISC > 0, 255 - noise, noise))
    assert mask_rule([path]) == MaskRule(127.5) and np.array_equal(codes_of(path)[0], DISC > 0)


def test_a_value_near_white_for_each_defect_type_is_defect(tmp_path):
    """As in MVTec LOCO."""
    paths = [written(tmp_path, disc(value=value), f"{value}.png") for value in (255, 254, 240, 233)]
    assert all(np.array_equal(found, DISC > 0) for found in codes_of(*paths))


@pytest.mark.parametrize("factor", [2, 4])
def test_few_values_of_soft_edges_lose_no_defect(tmp_path, factor):
    """A dot that shrinks to gray pixels is kept, at the cost of the edges of all others."""
    large = np.kron(disc(radius=6), np.ones((factor, factor), np.uint8))
    large[10:10 + factor, 10:10 + factor // 2] = 255
    soft = Image.fromarray(np.roll(large, 1, (0, 1))).resize((SIDE, SIDE), Image.Resampling.BOX)
    assert 3 < len(np.unique(soft)) < 20
    assert np.array_equal(codes_of(written(tmp_path, soft))[0], np.asarray(soft) > 0)


SQUARE = np.pad(np.full((18, 24), 255, np.uint8), ((30, 48), (40, 32)))
FEW_SOFT = {
    "shrunk by 2": Image.fromarray(np.roll(np.kron(DISC, np.ones((2, 2), np.uint8)), 1, (0, 1))).reduce(2),
    "shrunk by 3": Image.fromarray(np.roll(np.kron(DISC, np.ones((3, 3), np.uint8)), 1, (0, 1))).reduce(3),
    "blurred": Image.fromarray(SQUARE).filter(ImageFilter.BoxBlur(1)),
    "one gray rim": np.where(ndimage.binary_dilation(DISC > 0) & (DISC == 0), 90, DISC).astype(np.uint8),
    "shrunk with rings": Image.fromarray(np.kron(SQUARE, np.ones((2, 2), np.uint8))[1:-1, 1:-1]).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC),
    "enlarged": Image.fromarray(SQUARE[::4, ::4]).resize((SIDE, SIDE), Image.Resampling.BILINEAR),
    "in color": Image.merge("RGB", [Image.fromarray(SQUARE).filter(ImageFilter.BoxBlur(1)), *[
        Image.new("L", (SIDE, SIDE))] * 2])}


@pytest.mark.parametrize("kind", FEW_SOFT)
def test_few_values_of_a_soft_edge_are_cut_at_half_of_white(tmp_path, kind):
    path, gray = written(tmp_path, FEW_SOFT[kind]), np.asarray(FEW_SOFT[kind])
    gray = gray if gray.ndim == 2 else gray.max(-1)
    assert 3 <= len(np.unique(gray)) <= 31
    assert mask_rule([path]) == MaskRule(127.5) and np.array_equal(codes_of(path)[0], gray > 127.5)
    assert mask_rule([path, written(tmp_path, DISC, "b.png"), written(tmp_path, DISC * 0, "c.png")]).cut == 127.5


def test_two_kinds_of_defect_that_fill_areas_or_stand_alone_are_no_soft_edge(tmp_path):
    area, thin = np.maximum(disc(20, 20, 12, 100), disc(70, 70, 12)), disc(70, 70, 12)
    thin[10, 10:40] = 100
    for values in (area, thin):
        path = written(tmp_path, values)
        assert mask_rule([path]) == MaskRule(0) and np.array_equal(codes_of(path)[0], values > 0)


@pytest.mark.parametrize("values", [
    KINDS, KINDS.astype(np.uint16), np.maximum(disc(20, 20, 12, 100), disc(70, 70, 12)),
    np.maximum(disc(20, 20, 12, 0), KINDS * 40), (KINDS / np.float32(4)), KINDS * np.uint16(1000)])
def test_few_values_are_codes_and_all_of_them_defect(tmp_path, values):
    path = written(tmp_path, values, "a.tif")
    assert mask_rule([path]) == MaskRule(0) and np.array_equal(codes_of(path)[0], values > 0)


def test_codes_are_decided_for_the_data_set_and_not_for_a_file(tmp_path):
    paths = [written(tmp_path, values, f"{values.max()}.png") for values in (disc(value=100), disc(value=255))]
    both = written(tmp_path, np.maximum(disc(20, 20, 12, 100), disc(70, 70, 12)), "both.png")
    assert all(found.any() for found in codes_of(*paths, both)) and mask_rule([*paths, both]) == MaskRule(0)


PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 30]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_palettes_are_read_by_index(tmp_path, name):
    path = written(tmp_path, KINDS.copy(), name, palette=PALETTE)
    assert np.array_equal(codes_of(path)[0], KINDS > 0)  # 3 is nearly black


def test_a_palette_may_have_a_transparent_or_a_white_background(tmp_path):
    palette = [255, 255, 255, 128, 0, 0, 0, 0, 0, 0, 0, 30]
    assert np.array_equal(codes_of(written(tmp_path, ONE.copy(), palette=palette))[0], ONE > 0)
    transparent = written(tmp_path, KINDS.copy(), palette=palette, transparency=0)
    assert np.array_equal(codes_of(transparent)[0], KINDS > 0)


def test_in_a_palette_black_is_the_background_whatever_its_index(tmp_path):
    path = written(tmp_path, (ONE == 0).astype(np.uint8), palette=[255, 0, 0, 0, 0, 0])
    assert np.array_equal(codes_of(path)[0], ONE > 0)


def test_in_colors_all_but_black_is_defect(tmp_path):
    path = written(tmp_path, colors((ONE, (0, 0, 255)), (TWO, (1, 0, 0)), (THREE, (255, 255, 0))))
    assert np.array_equal(codes_of(path)[0], KINDS > 0)


def void(where, border, value=1):
    """A defect with a border of 255, as VOC has it."""
    return np.where(where > 0, value, np.where(border > 0, 255, 0)).astype(np.uint8)


@pytest.mark.parametrize("palette", [None, [0, 0, 0, 128, 0, 0, *[9, 8, 7] * 253, 224, 224, 192]])
def test_255_beside_small_codes_is_unknown(tmp_path, palette):
    inner, outer = disc(radius=12), disc(radius=15)
    path = written(tmp_path, void(inner, outer), palette=palette)
    other = written(tmp_path, np.maximum(disc(20, 20, 9, 255), disc(70, 70, 12, 3)), "b.png", palette=palette)
    assert mask_rule([path, other]) == MaskRule(0, 255)
    found, second = codes_of(path, other)
    assert np.array_equal(found, np.where(inner > 0, 1, np.where(outer > 0, UNKNOWN, 0)))
    assert np.array_equal(second == UNKNOWN, disc(20, 20, 9) > 0) and np.array_equal(second == 1, disc(70, 70, 12) > 0)
    with pytest.raises(DataError, match=r"mask\.png marks unknown pixels with 255"):
        read_mask(path, (SIDE, SIDE))
    assert np.array_equal(read_mask(path, (SIDE, SIDE), threshold=0)[0], outer > 0)


@pytest.mark.parametrize("white", [255, 65535])
def test_white_alone_beside_a_file_with_a_white_border_is_not_taken_for_unknown(tmp_path, white):
    """The files of white alone would lose their whole defect without a word."""
    deep = np.uint16 if white > 255 else np.uint8
    values = np.where(disc(radius=12) > 0, 1, np.where(DISC > 0, white, 0)).astype(deep)
    border = written(tmp_path, values, "border.png")
    others = [written(tmp_path, (np.roll(DISC, i, 1) > 0) * deep(white), f"{i}.png") for i in range(3)]
    with pytest.raises(DataError, match=r"border.png has white beside small codes, .* but .*2.png has it alone, as "
                                        r"defects .* mask_threshold= \(--mask-threshold"):
        mask_rule([border, *others])
    assert mask_rule([border, *others], 127) == MaskRule(127)
    small = written(tmp_path, disc(value=1).astype(deep), "small.png")
    assert mask_rule([border, small]) == MaskRule(0, white)


def test_255_beside_thin_edges_is_not_taken_for_unknown(tmp_path):
    """An edge of value 28 is no code, and losing the whole defect would be worse than an error."""
    edge = ndimage.binary_dilation(DISC > 0) & (DISC == 0)
    with pytest.raises(DataError, match=r"28 \(.*mask_threshold="):
        mask_rule([written(tmp_path, np.where(edge, 28, DISC).astype(np.uint8))])


def test_masks_of_0_and_1_among_masks_of_0_and_255_are_not_decided(tmp_path):
    paths = [written(tmp_path, disc(value=1), "one.png"), written(tmp_path, DISC, "white.png")]
    with pytest.raises(DataError, match=r"1 \(4\.\d\d%, as in one.png\).*255 \(4\.\d\d%, as in white.png\)|"
                                        r"255 \(4\.\d\d%, as in white.png\).*1 \(4\.\d\d%, as in one.png\)"):
        mask_rule(paths)
    lossy = written(tmp_path, DISC, "a.jpg")
    with pytest.raises(DataError, match="no clear meaning"):  # a cut at half would lose one.png
        mask_rule([lossy, paths[0]])
    with pytest.raises(DataError, match="no clear meaning"):  # or the other one
        mask_rule([lossy, written(tmp_path, DISC.astype(np.uint16) * 257, "deep.png")])


HEAT = (255 * np.exp(-((ROWS - 40) ** 2 + (COLUMNS - 40) ** 2) / 800)).astype(np.uint8)
UNCLEAR = {
    "codes without a background": (DISC > 0) + np.uint8(1), "no black": np.where(DISC > 0, 200, 7).astype(np.uint8),
    "all gray": np.full((SIDE, SIDE), 7, np.uint8), "colored strokes on white": colors((ONE, (200, 0, 0)),
                                                                                      background=(255, 255, 255)),
    "strokes on white": colors((ONE, (200, 0, 0)), (TWO, (0, 0, 0)), background=(255, 255, 255)),
    "gray strokes on white": np.where(ONE > 0, 100, np.where(TWO > 0, 0, 255)).astype(np.uint8),
    "codes on white": np.where(KINDS > 0, KINDS - np.uint8(1), 255).astype(np.uint8), "heat map": HEAT,
    "numbered regions": np.kron(
        np.arange(144, dtype=np.uint8).reshape(12, 12), np.pad(np.ones((6, 6), np.uint8), 1)),
    "photograph": np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8),
    "color photograph": np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_unclear_values_are_listed_with_their_shares(tmp_path, kind):
    values = UNCLEAR[kind]
    path = written(tmp_path, values)
    with pytest.raises(DataError, match="no clear meaning") as raised:
        read_mask(path, (SIDE, SIDE))
    most, number = max(zip(*np.unique(values if values.ndim == 2 else values.max(-1), return_counts=True), strict=True),
                       key=lambda pair: pair[1])
    assert f"{most} ({number / SIDE ** 2:.2%}, as in mask.png)" in str(raised.value)
    assert "mask_threshold= (--mask-threshold; threshold= of read_mask): va" in str(raised.value)
    found = read_mask(path, (SIDE, SIDE), threshold=100)[0]
    assert np.array_equal(found, (values if values.ndim == 2 else values.max(-1)) > 100)


def test_jpeg_photographs_are_no_masks(shared):
    for path in [*sorted((shared / "data/mvtec/screw/test/good").glob("*.png"))[:2],
                 *sorted((shared / "data/magnetic-tile/MT_Crack/Imgs").glob("*.jpg"))[:4]]:
        with pytest.raises(DataError, match="no clear meaning"):
            mask_rule([path])


def test_a_given_threshold_is_not_questioned(tmp_path):
    values = np.where(DISC > 0, 200, 7).astype(np.uint8)
    values[:9] = 127
    path = written(tmp_path, values)
    for threshold in (6, 7, 126, 127, 200):
        assert np.array_equal(read_mask(path, (SIDE, SIDE), threshold=threshold)[0], values > threshold)
    assert mask_rule([tmp_path / "missing.png"], 127) == MaskRule(127)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_masks_with_values_that_are_no_numbers_are_refused(tmp_path, value):
    values = DISC / np.float32(255)
    values[0, 0] = value
    with pytest.raises(DataError, match=r"mask .*a\.tif has values that are negative, NaN or infinite"):
        mask_rule([written(tmp_path, values, "a.tif")])


def test_transparent_pixels_are_normal(tmp_path):
    image = np.dstack([np.full((SIDE, SIDE, 3), 255, np.uint8), DISC])
    assert np.array_equal(codes_of(written(tmp_path, image))[0], DISC > 0)


def test_real_masks(shared):
    screw = sorted((shared / "data/mvtec/screw/ground_truth").rglob("*.png"))
    assert len(screw) == 119 and mask_rule(screw) == MaskRule(0)
    tiles = sorted((shared / "data/magnetic-tile/MT_Fray/Imgs").glob("*.png"))
    assert mask_rule(tiles) == MaskRule(127.5)  # with compression noise


# ---- resizing

SIZES = [(32, 32), (40, 64), (96, 96), (7, 130), (200, 150), (61, 96), (64, 100)]


def official(marked, size):
    """The official code's road: torchvision resizes Pillow's image of 0 and 255, and half of white is the limit."""
    road = transforms.Compose([transforms.Resize(size), transforms.ToTensor()])
    return (road(Image.fromarray(np.where(marked, 255, 0).astype(np.uint8)))[0] > 0.5).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_resized_as_in_the_official_code(tmp_path, size):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((61, 96)), 1.5)
    for values in (smooth > 0.5, smooth > 0.55, np.indices(smooth.shape).sum(0) % 2):  # the last is half of white
        path = written(tmp_path, np.where(values, 255, 0).astype(np.uint8))
        mask, own = load_mask(path, size, MaskRule(0))
        assert mask.dtype == torch.uint8 and own == (61, 96) and np.array_equal(mask, official(values, size))
        assert np.array_equal(read_mask(path, size)[0], official(values, size))
        assert size != own or np.array_equal(mask, values)


def test_codes_are_read_before_a_mask_is_resized(tmp_path):
    """A code of 3 is as white as any other."""
    codes = np.where(disc(40, 40, 12) > 0, 3, np.where(disc(40, 70, 12) > 0, 1, 0)).astype(np.uint8)
    mask = load_mask(written(tmp_path, codes), (40, 40), MaskRule(0))[0]
    assert np.array_equal(mask, official(codes, (40, 40))) and mask.sum() > 150


@pytest.mark.parametrize("size", SIZES)
def test_unknown_pixels_are_resized_in_the_same_way_and_defect_comes_first(tmp_path, size):
    draw = np.random.default_rng(1)
    codes = (ndimage.gaussian_filter(draw.random((61, 96)), 2) * 30).astype(np.uint8) % 3  # thin bands
    mask = load_mask(written(tmp_path, np.array([0, 1, 255], np.uint8)[codes]), size, MaskRule(0, 255))[0].numpy()
    defect = official(codes == 1, size)
    assert np.array_equal(mask == 1, defect)
    assert np.array_equal(mask == UNKNOWN, official(codes == UNKNOWN, size) & ~defect)
    assert size != codes.shape or np.array_equal(mask, codes)


def test_half_a_pixel_of_each_is_defect(tmp_path):
    codes = np.tile(np.array([255, 255, 1, 1], np.uint8), (8, 2))
    assert (load_mask(written(tmp_path, codes), (1, 1), MaskRule(0, 255))[0] == 1).all()


def speckled(seed):
    rng = np.random.default_rng(seed)
    values = np.where(ndimage.gaussian_filter(rng.random((120, 160)), 1.2) > 0.60, 255, 0).astype(np.uint8)
    values[5, :] = 0
    values[:, 7:9] = 255 * (seed % 2)
    return values


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(32, 32), (16, 64), (120, 160), (64, 96), (110, 300), (400, 500)])
def test_every_region_keeps_its_middle_pixel(tmp_path, seed, size):
    """A region is lost if no pixel that is marked in the end holds the center of one of its pixels."""
    values = speckled(seed)
    path = written(tmp_path, values)
    plain, kept = (load_mask(path, size, MaskRule(0), keep)[0].numpy() for keep in (False, True))
    regions, count = ndimage.label(values, np.ones((3, 3)))
    expected, lost = official(values, size).astype(np.uint8), []
    assert np.array_equal(plain, expected)
    for number in range(1, count + 1):
        pixels = np.argwhere(regions == number)
        places = [(int((row + 0.5) * size[0] / 120), int((column + 0.5) * size[1] / 160)) for row, column in pixels]
        if not any(plain[place] for place in places):
            lost.append(places[len(places) // 2])
            assert max(size) > 100 or not official(regions == number, size).any(), "alone it marks no pixel either"
    for place in lost:
        expected[place] = 1
    assert np.array_equal(kept, expected)
    number, places = lost_defects(values > 0, size)
    assert number == count and [*zip(*places, strict=True)] == lost and (kept >= plain).all()
    assert bool(lost) == (size not in [(120, 160), (400, 500)])


def test_two_thin_lines_that_mark_a_pixel_together_are_kept():
    """At a quarter of the size, three of four columns mark a pixel. One or two of them do not."""
    narrow, wide = np.zeros((2, 64, 64), bool)
    narrow[:, 32] = wide[:, 34:36] = True
    assert [len(lost_defects(defect, (16, 16))[1][0]) for defect in (narrow, wide, narrow | wide)] == [1, 1, 0]


def test_a_mask_without_defects_loses_none(tmp_path):
    assert lost_defects(np.zeros((50, 60), bool), (8, 8))[0] == 0
    path = written(tmp_path, DISC * 0)
    assert not load_mask(path, (8, 8), MaskRule(0), keep_defects=True)[0].any()


def test_a_kept_defect_may_lie_in_unknown_pixels(tmp_path):
    inner = np.zeros((SIDE, SIDE), np.uint8)
    inner[30, 30] = 255
    path = written(tmp_path, void(inner, disc(30, 30, 12)))
    mask = load_mask(path, (32, 32), MaskRule(0, 255), keep_defects=True)[0]
    assert mask[10, 10] == 1 and (mask == UNKNOWN).sum() > 20


def test_many_large_masks_are_looked_at_quickly(tmp_path):
    values = np.zeros((1024, 1024), np.uint8)
    values[200:260, 300:340] = values[700:720, 800:900] = 255
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for path in paths:
        path.write_bytes(stream.getvalue())
    began = time.process_time()
    rule = mask_rule(paths)
    for path in paths:
        lost_defects(mask_codes(path, rule) == 1, (256, 256))
    assert time.process_time() - began < 2  # about 0.2 s


def test_many_specks_are_looked_at_quickly():
    specks = np.random.default_rng(0).random((4000, 4000)) < 0.01
    began = time.process_time()
    count, places = lost_defects(specks, (256, 256))
    assert time.process_time() - began < 2 and 140_000 < count and len(places[0]) > 0.9 * count  # about 0.3 s


# ---- samples

def sample(folder, masks=None, defect="hole", **more):
    image = written(folder, np.full((SIDE, SIDE, 3), 128, np.uint8), "image.png")
    return FileSample(image, "image.png", defect, masks, **more)


def test_pixels_of_a_defective_image_without_a_mask_are_unknown(tmp_path):
    bad, good = AnomalyDataset([sample(tmp_path), sample(tmp_path, defect="good")], (32, 32))
    assert bad.unknown.all() and bad.unknown.dtype == torch.bool and not bad.mask.any() and bad.label == 1
    assert not good.unknown.any() and not good.mask.any()


def test_items_hold_defects_and_unknown_pixels(tmp_path):
    path = written(tmp_path, void(disc(radius=12), disc(radius=15)))
    dataset = AnomalyDataset([sample(tmp_path, path, rule=mask_rule([path]))], (SIDE, SIDE))
    batch = next(iter(DataLoader(dataset)))
    assert np.array_equal(batch.mask[0], disc(radius=12) > 0)
    assert np.array_equal(batch.unknown[0], (disc(radius=15) > 0) & (disc(radius=12) == 0))
    assert batch._fields[-1] == "unknown" and batch.mask.dtype == batch.unknown.dtype == torch.bool


def test_in_the_union_of_parts_defect_comes_before_unknown_and_unknown_before_normal(tmp_path):
    parts = (written(tmp_path, void(disc(40, 40, 9), disc(40, 40, 20)), "a.png"),
             written(tmp_path, disc(40, 55, 9, 1), "b.png"))
    for masks in (parts, parts[::-1]):
        mask = sample(tmp_path, masks).load((SIDE, SIDE))[1]
        defect = (disc(40, 40, 9) > 0) | (disc(40, 55, 9) > 0)
        assert np.array_equal(mask == 1, defect)
        assert np.array_equal(mask == UNKNOWN, (disc(40, 40, 20) > 0) & ~defect)


def test_a_data_set_with_missing_masks_is_evaluated_on_the_known_pixels(tmp_path):
    """Painting a missing mask black would count the defect as false alarms."""
    folder = tmp_path / "truth"
    folder.mkdir()
    masks = [written(folder, np.roll(DISC, 9 * i, 1), f"{i}.png") for i in range(3)]
    test = AnomalyDataset([sample(tmp_path, mask) for mask in [*masks[:2], None]] + [sample(tmp_path, defect="good")],
                          (SIDE, SIDE))
    heat = np.stack([*(np.roll(DISC, 9 * i, 1) / np.float32(255) for i in range(3)), np.zeros_like(DISC, np.float32)])
    masks, unknown = (np.stack([np.asarray(getattr(item, name)) for item in test]) for name in ("mask", "unknown"))
    report = Report(test, heat, heat.max((1, 2)), masks, 0.3, 0.0, unknown=unknown)
    assert report.pixel_ap == 1 == report.aupro and "unknown: 1 of 4 masks, in part or whole" in repr(report)
    assert Report(test, heat, heat.max((1, 2)), masks, 0.3, 0.0).pixel_ap < 0.9
