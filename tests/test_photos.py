"""Patches of photographs keep their promises: frozen pixels, no pixel in both parts, exact masks."""
import hashlib
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
from skimage import data as skimage_data

from rdlib import load_dataset
from rdlib.datasets import photos
from rdlib.datasets.fingerprint import images_digest
from rdlib.datasets.photos import DEFECTS, patch_list, photograph
from rdlib.utils.errors import DataError

FROZEN = {  # SHA-256 of images and masks at 128 x 128, train before test
    "brick": "3af6d9a7bf706fd91d005a89a7e6d4bc808b0fe3a1e5f455b41dbfab93835f67",
    "grass": "60db791cef13ea7f5e97b2855b9e72e2cc4c5c0c4a654a0b586bbd49e2c7cc8f",
    "gravel": "846c2876241effc479539a7f4046eee1520347a9098dd7f70a02e7a713fddd7a",
}


def parts(name, **options):
    data = load_dataset(f"photo/{name}", **options)
    return data.train, data.test


@pytest.mark.parametrize("name", DEFECTS)
def test_the_default_patches_are_frozen(name):
    total = hashlib.sha256()
    for patch in patch_list(name, "train") + patch_list(name, "test"):
        for part in patch.render(128):
            total.update(part.tobytes())
    assert total.hexdigest() == FROZEN[name]


@pytest.mark.parametrize("name", DEFECTS)
def test_numbers_labels_and_sizes(name):
    train, test = parts(name, size=64)
    assert (len(train), sum(train.labels), len(test), sum(test.labels)) == (100, 0, 100, 60)
    assert {kind: test.defect_types.count(kind) for kind in test.defect_types} == {
        "good": 40, **dict.fromkeys(DEFECTS[name], 15)}
    assert len({sample.name for part in (train, test) for sample in part.samples}) == 200
    for item in (train[0], test[40]):
        assert item.image.shape == (3, 64, 64) and item.mask.shape == (64, 64) and bool(item.mask.any()) == item.label
    assert [sample.scene for sample in parts(name, n_train=7)[0].samples] == patch_list(name, "train")[:7]


@pytest.mark.parametrize("name", DEFECTS)
def test_a_good_patch_is_a_piece_of_the_photograph(name):
    whole, mirrored = getattr(skimage_data, name)(), set()
    for patch in patch_list(name, "test")[:40]:
        piece = whole[patch.top:patch.top + 128, patch.left:patch.left + 128]
        mirrored.add(patch.mirrored)
        image, mask = patch.render(128)
        assert not mask.any() and all(np.array_equal(image[..., c], np.fliplr(piece) if patch.mirrored else piece)
                                      for c in range(3))
    assert mirrored == {True, False}


@pytest.mark.parametrize("seed", [0, 1])
def test_train_and_test_share_no_pixel(seed, monkeypatch):
    """Seen in the patches of a picture whose pixels say where they are from."""
    columns = np.tile(np.arange(512) // 2, (512, 1)).astype(np.uint8)
    monkeypatch.setattr(photos, "photograph", lambda name: columns)
    train, test = ({value for patch in patch_list("grass", part, seed) for value in
                    np.unique(replace(patch, defect=None).render(128)[0])} for part in ("train", "test"))
    assert max(train) + 10 <= min(test) and min(train) < 5 and max(test) > 250


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("name", DEFECTS)
def test_masks_are_exact(name, size):
    for patch in patch_list(name, "test")[40:]:
        (image, mask), (good, _) = patch.render(size), replace(patch, defect=None).render(size)
        difference = np.abs(image.astype(int) - good).max(-1)
        assert mask.dtype == bool and np.array_equal(difference > 0, mask) and difference[mask].min() >= 2
        assert 0.001 < mask.mean() < 0.1 and difference[mask].mean() > 5


def test_patches_follow_the_seed():
    one, same, other = (parts("gravel", seed=seed) for seed in (0, 0, 1))
    for part in (0, 1):
        patches = [[sample.scene for sample in data[part].samples] for data in (one, same, other)]
        assert patches[0] == patches[1] and not {*patches[0]} & {*patches[2]}
    copied = pickle.loads(pickle.dumps(one[1]))
    assert np.array_equal(copied[50].image, one[1][50].image) and np.array_equal(copied[50].mask, one[1][50].mask)


def test_the_fingerprint_knows_a_patch_without_drawing_it(monkeypatch):
    monkeypatch.setattr(photos.Patch, "render", None)
    digests = [images_digest(parts(name, seed=seed)[0]) for name, seed in (
        ("brick", 0), ("brick", 0), ("brick", 1), ("grass", 0))]
    assert digests[0] == digests[1] and len({*digests}) == 3


def test_what_cannot_be_loaded_is_said_in_words(monkeypatch):
    with pytest.raises(DataError, match="square"):
        parts("brick", size=(64, 96))[0][0]
    photograph.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(skimage_data, "brick", lambda: np.zeros((512, 512), np.uint8))
        with pytest.raises(DataError, match="'brick' .*SHA-256 of its pixels is .* pip install scikit-image"):
            parts("brick")
    monkeypatch.setitem(sys.modules, "skimage", None)  # as where it is not installed
    with pytest.raises(DataError, match="'grass' of scikit-image cannot be read .*pip install scikit-image"):
        parts("grass")
