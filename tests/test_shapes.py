"""The shape of images: a size that fits, a word where a size squeezes, and what squeezing costs."""
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from test_datasets import paint

from rdlib import folder_dataset, load_dataset
from rdlib.datasets.shapes import fitting_size


@pytest.mark.parametrize("sizes, expected", [
    ([(160, 400)], (160, 416)), ([(400, 160)], (416, 160)), ([(500, 500)], (256, 256)), ([(1, 1)], (256, 256)),
    ([(480, 640)], (224, 288)), ([(1000, 1000), (100, 250), (100, 250)], (160, 416)), ([], (256, 256))])
def test_the_fitting_size(sizes, expected):
    assert fitting_size(sizes, 256 * 256) == expected


@pytest.mark.parametrize("ratio", np.geomspace(1 / 40, 40, 25))
@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_fitting_size_keeps_shape_and_cost(ratio, side):
    height, width = fitting_size([(round(1000 / ratio**.5), round(1000 * ratio**.5))], side * side)
    assert height % 32 == width % 32 == 0 and 0.5 < height * width / side**2 < 1.5
    if 1 / 4 <= ratio <= 4:
        assert 1 / 1.34 < width / height / ratio < 1.34


def words(root, size=None, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_dataset(f"folder:{root}", size=size, **settings)
    return data, "\n".join(str(entry.message) for entry in caught if entry.category is UserWarning)


def test_a_size_that_squeezes_is_said_with_one_that_does_not(tmp_path):
    for i in range(4):
        paint(tmp_path / f"train/good/{i}.png", i, size=(160, 400))
    data, said = words(tmp_path)
    assert said == (f"folder:{tmp_path.name}: images are 2.5 times as wide as high, and size 256 x 256 squeezes them: "
                    "small defects get lost. size=(160, 416) keeps their shape at about the same cost")
    assert data.notes == (said.partition(": ")[2],) and data.train.size == (256, 256)
    assert words(tmp_path, (160, 416))[1] == ""
    data, said = words(tmp_path, "fit")
    assert said == "" and data.train.size == (160, 416) and tuple(data.train[0].image.shape) == (3, 160, 416)
    assert data.notes == ("size: 160 x 416 pixels, to fit the images' shape",)
    assert "2.5 times as wide as high, and size 416 x 160 squeezes" in words(tmp_path, (416, 160))[1]


def test_high_images_and_folders_by_role(tmp_path):
    for i in range(4):
        paint(tmp_path / f"{i}.png", i, size=(300, 100))
    with pytest.warns(UserWarning, match=r"images are 3\.0 times as high as wide, and size 64 x 64 squeezes them"):
        folder_dataset(good=tmp_path, size=64)
    data = folder_dataset(good=tmp_path, size="fit")
    assert data.train.size == data.test.size == (416, 160) and "size: 416 x 160 pixels" in str(data.notes)


@pytest.mark.parametrize("height, width", [(1070, 1404), (1000, 1500), (100, 159), (159, 100), (64, 64)])
def test_common_shapes_are_not_said(tmp_path, height, width):
    paint(tmp_path / "train/good/a.png", 1, size=(height, width))
    assert words(tmp_path)[1] == ""


def test_a_turned_photograph_counts_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("L", (100, 300), i).save(tmp_path / f"{i}.jpg", exif=exif)
    assert "3.0 times as wide as high" in words(tmp_path)[1]


def test_fit_is_the_usual_size_where_images_are_square():
    assert load_dataset("synthetic/weave", size="fit").train.size == (256, 256)
    assert load_dataset("digits/3", size="fit").train.size == (32, 32)


def test_squeezing_long_images_loses_small_defects(tmp_path):
    """Surfaces of 400 x 1000 pixels with pinholes of 3 x 3: squeezed to a square, some vanish from the masks."""
    lost = {}
    for i in range(6):
        rng, mask = np.random.default_rng(i), np.zeros((400, 1000), np.uint8)
        for y, x in zip(range(20, 380, 40), rng.permutation(np.arange(20, 980, 40))[:9], strict=True):
            y, x = y + rng.integers(5), x + rng.integers(5)
            mask[y:y + 3, x:x + 3] = 255
        surface = np.clip(rng.normal(128, 10, mask.shape) + mask / 2.0, 0, 255).astype(np.uint8)
        for place, pixels in (("test/hole", surface), ("ground_truth/hole", mask), ("train/good", surface // 2)):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / place / f"{i}.png")
    for size in (256, "fit"):
        data, _ = words(tmp_path, size)
        lost[size] = 6 * 9 - sum(ndimage.label(item.mask, np.ones((3, 3)))[1] for item in data.test)
    assert 0 < 2 * lost["fit"] < lost[256]
    data, _ = words(tmp_path, 256, keep_defects=True)
    assert sum(ndimage.label(item.mask, torch.ones(3, 3))[1] for item in data.test) >= 6 * 9 - 1


def test_images_of_different_shapes_are_said_to_differ(tmp_path):
    for i in range(8):
        paint(tmp_path / f"{i}.png", i, size=(100, 300) if i % 2 else (300, 100))
    assert words(tmp_path)[1] == (
        f"folder:{tmp_path.name}: shapes of images differ, from 0.3 to 3.0 times as wide as high: size 256 x 256 "
        "squeezes 8 of 8, and no size fits all. Train on images of one shape")
    assert words(tmp_path, "fit")[0].train.size == (256, 256)


def test_no_size_is_advised_that_was_given(tmp_path):
    for i in range(2):
        paint(tmp_path / f"{i}.png", i, size=(100, 165))
    said = words(tmp_path, 64)[1]
    assert said.endswith("1.6 times as wide as high, and size 64 x 64 squeezes them: small defects get lost. Only a "
                         "larger size fits better")
