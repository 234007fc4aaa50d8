"""The fingerprint of all training images, by which a checkpoint knows them again."""
import random
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import Images, Jittered, images
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from rdlib import ReverseDistillation, fit
from rdlib.datasets.fingerprint import READS, images_digest
from rdlib.datasets.samples import END_BYTES, AnomalyDataset, ArraySample, FileSample, SceneSample
from rdlib.synthetic import Scene
from rdlib.utils.errors import DataError

SIZE = (64, 64)


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def files(folder, size=SIZE, **options):
    return AnomalyDataset([FileSample(path, path.name) for path in sorted(folder.glob("*.png"))], size, **options)


def arrays(pixels):
    return AnomalyDataset([ArraySample(p, str(i)) for i, p in enumerate(pixels)], SIZE)


def scenes(*seeds):
    return AnomalyDataset([SceneSample(Scene("weave", seed), str(seed)) for seed in seeds], SIZE)


def test_equal_files_are_the_same_wherever_they_lie(folder, tmp_path_factory):
    expected, data = images_digest(files(folder)), files(folder)
    moved = shutil.copytree(folder, tmp_path_factory.mktemp("moved") / "copy")
    (moved / "3.png").rename(moved / "4.png")
    assert len(expected) == 64 and set(expected) <= set("0123456789abcdef")
    for same in (files(moved), data.subset(range(4)), Subset(data, range(4)),
                 Subset(Subset(data, [3, 2, 1, 0]), [3, -2, 1, 0]),
                 ConcatDataset([Subset(data, [0]), data.subset([1, 2, 3])]),
                 Subset(ConcatDataset([data, data]), [0, 5, 2, -1])):
        assert images_digest(same) == expected


@pytest.mark.parametrize("i", range(4))
def test_every_file_counts(folder, i):
    before = images_digest(files(folder))
    Image.new("RGB", (40, 40)).save(folder / f"{i}.png")
    assert images_digest(files(folder)) != before


def test_number_order_size_and_transform_count(folder):
    data = files(folder)
    others = [data, data.subset([0, 1, 2]), data.subset([1, 0, 2, 3]), data.subset([0, 0, 1, 2]),
              files(folder, (64, 96)), files(folder, transform=torch.clone), []]
    assert len({images_digest(other) for other in others}) == len(others)


@pytest.mark.parametrize("place", [0, END_BYTES - 1, -END_BYTES, -1, None])
def test_of_a_large_file_length_and_both_ends_count(tmp_path, place):
    path, content = tmp_path / "0.png", bytearray(bytes(3 * END_BYTES))
    path.write_bytes(content)
    before = images_digest(files(tmp_path))
    if place is None:
        content.append(0)
    else:
        content[place] = 1
    path.write_bytes(content)
    assert images_digest(files(tmp_path)) != before


def test_the_white_of_deep_files_counts(folder):
    from rdlib.datasets.depth import Depth
    found = {images_digest(AnomalyDataset([FileSample(folder / "0.png", "0", depth=Depth(white=white))], SIZE))
             for white in (1023, 4095)}
    assert len(found) == 2


def test_no_file_is_decoded_and_no_scene_drawn(folder, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr("rdlib.datasets.samples.read_image", fail)
    monkeypatch.setattr(Scene, "render", fail)
    data = ConcatDataset([files(folder), scenes(1, 2)])
    assert images_digest(data) == images_digest(data)


def test_scenes_count_by_their_recipe_arrays_and_tensors_by_their_content():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[2, 31, 31, 2] ^= 1
    values = images(3, 32).images
    other = values.clone()
    other[2, 2, 31, 31] += 1e-6
    bright = AnomalyDataset([SceneSample(Scene("weave", 1, "hole", 0.5), "1")], SIZE)
    for make, one, two in ((arrays, pixels, changed), (list, values, other), (TensorDataset, values, other),
                           (Images, values, other), (lambda seeds: scenes(*seeds), [1, 2], [1, 3])):
        assert images_digest(make(one)) == images_digest(make(one)) != images_digest(make(two))
    assert images_digest(bright) != images_digest(scenes(1))
    assert images_digest(list(values)) == images_digest(TensorDataset(values, torch.arange(3))), "labels do not count"


def test_a_kind_of_sample_of_ones_own_counts_by_its_content(folder):
    class Turned(FileSample):
        def load(self, size):
            image, mask = super().load(size)
            return image.flip(2), mask

    turned = AnomalyDataset([Turned(folder / "0.png", "0")], SIZE)
    assert len({images_digest(data) for data in (turned, files(folder).subset([0]))}) == 2
    before = images_digest(turned)
    Image.new("RGB", (40, 40)).save(folder / "0.png")
    assert images_digest(AnomalyDataset(turned.samples, SIZE)) != before


def test_random_images_are_compared_as_far_as_they_follow_the_seed():
    class Unseeded(Images):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(image=self.images[index] * random.SystemRandom().random())

    data, other = (Jittered(images(3, 32).images / part) for part in (1, 2))
    assert images_digest(data) == images_digest(Jittered(data.images)) != images_digest(other)
    assert images_digest(Unseeded(data.images, augmented=True)) is None
    assert images_digest(ConcatDataset([list(data.images), Unseeded(data.images, augmented=True)])) is None


def test_a_still_image_is_read_once():
    data = images(3, 32)
    images_digest(data)
    assert data.reads == 3


def test_a_missing_file_is_an_error_in_words(folder):
    data = files(folder)
    (folder / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png"):
        images_digest(data)


def test_a_data_set_of_another_class_is_read():
    class Other(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return torch.full((3, 32, 32), index / 2)

    assert images_digest(Other()) == images_digest([torch.zeros(3, 32, 32), torch.full((3, 32, 32), 0.5)])


def test_another_transform_is_another_data_set(folder):
    """The first image, and the last of each such data set, are read several times."""
    def data(change):
        def counted(image):
            reads.append(1)
            return change(image)
        return ConcatDataset([files(folder, transform=counted), files(folder, transform=counted), scenes(1)])

    reads = []
    bright, dark, same = (images_digest(data(lambda image, part=part: image * part)) for part in (1, 0.5, 1))
    assert bright == same != dark and len(reads) == 3 * READS * 3 and bright != images_digest(data(torch.rand_like))
    assert images_digest(data(lambda image: image * random.SystemRandom().random())) is not None, "files are compared"


def test_images_that_cannot_be_compared_are_said_on_resuming(tmp_path):
    class Unseeded(Images):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(image=self.images[index] * random.SystemRandom().random())

    data, path = Unseeded(images(3, 32).images, augmented=True), tmp_path / "run.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(ReverseDistillation("resnet18", weights=None), data, 1, checkpoint=path, progress=False)
    with pytest.warns(UserWarning, match="cannot be compared with those of .*run.ckpt. If they are others"):
        fit(ReverseDistillation("resnet18", weights=None), data, 2, checkpoint=path, progress=False)


class Sometimes:
    """A random change that does not follow the seed, in half of the reads."""

    def __init__(self, number):
        self.rng = np.random.default_rng(number)

    def __call__(self, image):
        return image + 0.1 * (self.rng.random() < 0.5)


def test_of_a_transform_that_does_not_follow_the_seed_the_files_count(folder):
    found = {images_digest(files(folder, transform=Sometimes(number))) for number in range(6)}
    assert len(found) == 1 and found != {None}
    Image.new("RGB", (40, 40)).save(folder / "2.png")
    assert images_digest(files(folder, transform=Sometimes(0))) not in found


def test_the_settings_of_a_transform_count(folder):
    from torchvision.transforms import RandomHorizontalFlip
    found = [images_digest(files(folder, transform=RandomHorizontalFlip(p))) for p in (0.5, 0.3, 0.5)]
    assert found[0] == found[2] != found[1] and None not in found
    assert images_digest(files(folder, transform=lambda x: x)) == images_digest(files(folder, transform=lambda x: x))


class ByName(dict):
    """A data set whose indices are names."""


def test_indices_of_a_subset_may_be_of_any_kind():
    given = [torch.rand(3, 32, 32) for _ in range(2)]
    assert images_digest(Subset(ByName(zip("ab", given, strict=True)), ["b", "a"])) == images_digest(given[::-1])


def test_samples_and_size_may_change_after_images_were_read(folder):
    data = files(folder)
    before = [data[i].image for i in range(4)]
    data.samples = data.samples[3:]
    assert torch.equal(data[0].image, before[3])
    data.size = (32, 32)
    assert data[0].image.shape == (3, 32, 32)
