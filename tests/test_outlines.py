"""What is said about the masks of a test set, and when nothing is."""
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rdlib import load_dataset
from rdlib.datasets.outlines import outline_notes
from rdlib.datasets.samples import FileSample
from rdlib.masks import mask_rule
from rdlib.utils.errors import DataError

SIZE = (32, 32)


def square(row=20, column=20, side=24, height=64, width=64):
    mask = np.zeros((height, width), np.uint8)
    mask[row:row + side, column:column + side] = 255
    return mask


def saved(path, values, orientation=1):
    path.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(path, **({"exif": exif} if orientation > 1 else {}))
    return path


def samples(folder, masks, orientations=None, shape=(64, 64), **more):
    """One defective image for each mask (None: not outlined), and two good ones."""
    turned = orientations or [(1, 1)] * len(masks)
    bad = [FileSample(saved(folder / f"{i}.png", np.full((*shape, 3), 128, np.uint8), image), f"hole/{i}.png", "hole",
                      None if mask is None else saved(folder / f"masks/{i}.png", mask, own), **more)
           for i, (mask, (image, own)) in enumerate(zip(masks, turned, strict=True))]
    return [FileSample(saved(folder / f"good{i}.png", np.full((64, 64, 3), 99, np.uint8)), f"good/{i}.png")
            for i in range(2)] + bad


def test_clean_masks_need_no_words(tmp_path):
    assert outline_notes(samples(tmp_path, [square(side=side) for side in (4, 10, 40)]), SIZE, False) == []


def test_a_real_category_needs_no_words(shared):
    test = load_dataset("mvtec/screw", root=shared / "data/mvtec", size=256).test
    assert sum(test.labels) == 119 and outline_notes(test.samples, (256, 256), False) == []


def test_images_without_any_mask_need_no_words(tmp_path):
    assert outline_notes(samples(tmp_path, [None, None]), SIZE, False) == []
    assert outline_notes([], SIZE, False) == []


def test_missing_masks_are_counted_and_two_are_named(tmp_path):
    note, = outline_notes(samples(tmp_path, [None, square(), None, None, square()]), SIZE, False)
    assert note == ("3 of 5 defective images without a mask (hole/0.png, hole/2.png, ...): their pixels are unknown, "
                    "and pixel metrics leave them out")


def test_black_masks_are_counted(tmp_path):
    note, = outline_notes(samples(tmp_path, [square(), square() * 0, square()]), SIZE, False)
    assert note.startswith("1 of 3 defective images with an all-black mask (hole/1.png): their pixels count as "
                           "normal. Remove the files if they are unknown")


def test_the_four_black_masks_of_the_tiles_are_counted(shared):
    test = load_dataset("magnetic_tile", root=shared / "data/magnetic-tile", size=256).test
    notes = outline_notes(test.samples, (256, 256), True)
    assert len(notes) == 1 and notes[0].startswith("4 of 392 defective images with an all-black mask (")


def test_inverted_masks_are_counted(tmp_path):
    note, = outline_notes(samples(tmp_path, [255 - square(side=20)] * 4), SIZE, False)
    assert note.startswith("4 of 4 defective images with a mask that covers more than half of the image (hole/0.png, "
                           "hole/1.png, ...): white marks defects. Invert the masks")
    (tmp_path / "some").mkdir()
    note, = outline_notes(samples(tmp_path / "some", [255 - square(side=8)] * 3 + [square(side=8)]), (64, 64), False)
    assert note.startswith("3 of 4 defective images with a mask that covers 98% of the image, where most others cover "
                           "about 1.56% (hole/0.png, hole/1.png, ...)")


def test_one_inverted_mask_among_others_is_named(tmp_path):
    masks = [square(row=4 * i, side=6) for i in range(1, 7)]
    note, = outline_notes(samples(tmp_path, [*masks, 255 - square(side=6)]), (64, 64))
    assert note == ("1 of 7 defective images with a mask that covers 99% of the image, where most others cover "
                    "about 0.88% (hole/6.png): inverted? White marks defects")


@pytest.mark.parametrize("large", [square(0, 0, 60), square(0, 0, 64, 64, 50), square(0, 0, 64)])
def test_a_large_defect_among_small_ones_needs_no_words(tmp_path, large):
    """A defect that ends within the image does not cover its whole border, and one may cover the whole image."""
    masks = [square(row=4 * i, side=6) for i in range(1, 7)]
    large = np.pad(large, ((0, 0), (0, 64 - large.shape[1])))
    assert outline_notes(samples(tmp_path, [*masks, large]), (64, 64)) == []


def test_unknown_pixels_are_counted(tmp_path):
    border = np.where(square(side=24) > 0, 255, 0).astype(np.uint8)
    border[24:40, 24:40] = 1
    found = samples(tmp_path, [border, (square() > 0).astype(np.uint8)])
    rule = mask_rule([sample.masks[0] for sample in found if sample.masks])
    assert rule.void == 255
    found = [replace(sample, rule=rule) for sample in found]
    note, = outline_notes(found, (64, 64))
    assert note == ("1 of 2 defective images whose mask marks unknown pixels (hole/0.png): 7.8% of their pixels are "
                    "left out of pixel metrics")


@pytest.mark.parametrize(("orientations", "count"), [
    ([(6, 1), (3, 1), (1, 1)], 2), ([(6, 6), (3, 3), (1, 1)], 0), ([(1, 6), (1, 1), (1, 1)], 1)])
def test_masks_that_are_not_turned_as_their_images_are_counted(tmp_path, orientations, count):
    notes = outline_notes(samples(tmp_path, [square()] * 3, orientations), SIZE, False)
    assert len(notes) == (count > 0)
    if count:
        assert f"{count} of 3 defective images where image and mask differ in EXIF's rotation (hole/0.png" in notes[0]


def test_a_mask_of_the_size_of_the_upright_image_is_upright(tmp_path):
    """A photo on its side is 64 x 40 once upright. A mask of 64 x 40 was drawn then, one of 40 x 64 before."""
    upright, lying = square(height=64, width=40), square(10, height=40, width=64)
    (tmp_path / "other").mkdir()
    assert outline_notes(samples(tmp_path / "other", [upright], [(6, 1)], shape=(40, 64)), SIZE, False) == []
    bad = samples(tmp_path, [lying], [(6, 1)], shape=(40, 64))
    note, = outline_notes(bad, SIZE, False)
    assert note.startswith("1 of 1 defective images where image and mask differ in EXIF's rotation (hole/0.png)")
    with pytest.raises(DataError, match="64 x 40 pixels but its image .* 40 x 64.*EXIF"):
        bad[-1].load(SIZE)


def test_defects_that_vanish_are_counted(tmp_path):
    dots = square(side=0)
    for i in range(4):
        dots[1 + 8 * i, 9] = 255  # a sixteenth of a pixel at a quarter of the size
    whole = [dots, np.maximum(dots, square(30, 30)), square()]
    note, = outline_notes(samples(tmp_path, whole), (16, 16), False)
    assert note == ("2 of 3 defective images that lose defects at 16 x 16 pixels (hole/0.png, hole/1.png): 8 of 10 "
                    "outlined regions have no pixel left. Choose a larger size, or keep_defects=True (--keep-defects)")
    assert outline_notes(samples(tmp_path, whole), (16, 16), True) == []
    assert outline_notes(samples(tmp_path, whole), (64, 64), False) == []
    lost, kept = (samples(tmp_path, whole, keep_defects=keep)[2].load((16, 16))[1] for keep in (False, True))
    assert lost.sum() == 0 and kept.sum() == 4 and kept[[0, 2, 4, 6], 2].all()


def test_parts_of_a_mask_count_together(tmp_path):
    sample = samples(tmp_path, [square()])[-1]
    black = saved(tmp_path / "masks/black.png", square() * 0)
    half = saved(tmp_path / "masks/half.png", square(0, 0, 40))
    for parts, words in [((sample.mask, black), None), ((black, black), "all-black"),
                         ((half, saved(tmp_path / "masks/other.png", square(24, 0, 40))), "more than half")]:
        notes = outline_notes([FileSample(sample.path, "0", "hole", parts)], SIZE, False)
        assert len(notes) == bool(words) and all(words in note for note in notes)
