"""Data sets from folders: what is found, in which order, with which mask, and what is said where one is missing."""
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rdlib import load_dataset
from rdlib.datasets import samples
from rdlib.datasets.load import data_root
from rdlib.datasets.samples import AnomalyDataset
from rdlib.masks import read_mask
from rdlib.utils.errors import DataError


def paint(path, level=100, size=(20, 30)):
    """A gray image of one level, (H, W) = `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, level, np.uint8)).save(path)


def paint_mask(path, rows, size=(20, 30)):
    """A mask whose first `rows` rows are defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 * (np.arange(size[0])[:, None] < rows).repeat(size[1], 1).astype(np.uint8)).save(path)


@pytest.fixture
def bottle(tmp_path):
    """A small category in MVTec AD's layout at tmp_path/mvtec/bottle, written in no good order."""
    folder = tmp_path / "mvtec" / "bottle"
    for i in (2, 0, 10, 1):
        paint(folder / f"train/good/{i:03d}.png", i)
    for part, level in (("test/scratch/001", 61), ("test/good/001", 51), ("test/dent/000", 40), ("test/good/000", 50),
                        ("test/scratch/000", 60)):
        paint(folder / f"{part}.png", level)
    paint_mask(folder / "ground_truth/scratch/000_mask.png", 5)
    paint_mask(folder / "ground_truth/scratch/001_mask.png", 0)
    paint_mask(folder / "ground_truth/dent/000.png", 10)  # as some other sets name them
    return folder


def levels(dataset):
    """The gray level that each image was painted in."""
    return [round(item.image.mean().item() * 255) for item in dataset]


def test_mvtec_layout(bottle, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "iterdir", lambda self: (self / name for name in sorted(os.listdir(self), reverse=True)))
    data = load_dataset("mvtec/bottle", tmp_path / "mvtec", size=20)
    assert data.name == "mvtec/bottle"
    assert levels(data.train) == [0, 1, 2, 10] and data.train.labels == [0] * 4
    assert levels(data.test) == [40, 50, 51, 60, 61]
    assert data.test.defect_types == ["dent", "good", "good", "scratch", "scratch"]
    assert data.test.labels == [1, 0, 0, 1, 1]  # the last one's mask is empty: the folder decides
    assert [sample.name for sample in data.test.samples[:2]] == ["test/dent/000.png", "test/good/000.png"]
    assert [int(item.mask.sum()) for item in data.test] == [10 * 20, 0, 0, 5 * 20, 0]
    assert data.test.has_masks and [item.index for item in data.test] == [0, 1, 2, 3, 4]


def test_items(bottle):
    data = load_dataset(f"folder:{bottle}", size=(32, 64))
    assert data.name == "folder:bottle" and data.train.size == (32, 64)
    item = data.test[0]
    assert item.image.shape == (3, 32, 64) and item.image.dtype == torch.float32
    assert torch.allclose(item.image, torch.tensor(40 / 255))
    assert item.mask.shape == (32, 64) and item.mask.dtype == torch.bool and item.mask[:16].all()
    assert not item.mask[16:].any() and (item.label, item.index) == (1, 0)
    paint(bottle / "test/good/000.png", 255)
    assert data.test[1].image.max() == 1


@pytest.mark.parametrize("size", [48, (48, 48), [48, 48]])
def test_one_number_is_a_square(bottle, size):
    data = load_dataset(f"folder:{bottle}", size=size)
    assert data.test.size == (48, 48) and data.train[0].image.shape == (3, 48, 48)


def test_default_size_is_the_papers(bottle):
    assert load_dataset(f"folder:{bottle}").train[0].image.shape == (3, 256, 256)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches(bottle, workers):
    data = load_dataset(f"folder:{bottle}", size=(32, 64))
    first, second = DataLoader(data.test, batch_size=3, num_workers=workers)
    assert first.image.shape == (3, 3, 32, 64) and first.image.dtype == torch.float32
    assert first.mask.shape == (3, 32, 64) and first.mask.dtype == torch.bool
    assert first.label.tolist() == [1, 0, 0] and first.index.tolist() == [0, 1, 2]
    assert second.label.tolist() == [1, 1] and second.index.tolist() == [3, 4]
    assert torch.equal(second.image[1], data.test[4].image) and torch.equal(second.mask[0], data.test[3].mask)


def test_without_ground_truth_there_are_no_pixel_metrics(bottle):
    for path in sorted(bottle.glob("ground_truth/*/*")):
        path.unlink()
    for folder in [*bottle.glob("ground_truth/*"), bottle / "ground_truth"]:
        folder.rmdir()
    test = load_dataset(f"folder:{bottle}", size=32).test
    assert not test.has_masks and test.labels == [1, 0, 0, 1, 1] and not any(item.mask.any() for item in test)


def test_good_images_alone(bottle, tmp_path):
    data = load_dataset(f"folder:{bottle / 'train' / 'good'}", size=32)
    assert levels(data.train) == [0, 1, 2, 10] and data.test is None and data.name == "folder:good"
    paint(tmp_path / "own/train/good/a.png", 7)
    data = load_dataset(f"folder:{tmp_path / 'own'}", size=32)
    assert levels(data.train) == [7] and data.test is None


def test_n_train(bottle):
    data = load_dataset(f"folder:{bottle}", size=32, n_train=3)
    assert levels(data.train) == [0, 1, 2] and len(data.test) == 5
    assert len(load_dataset(f"folder:{bottle}", n_train=100).train) == len(load_dataset(f"folder:{bottle}").train) == 4


def test_pixels_without_a_mask_are_unknown(bottle):
    (bottle / "ground_truth/scratch/001_mask.png").unlink()
    paint(bottle / "test/crack/000.png")
    test = load_dataset(f"folder:{bottle}", size=32).test
    assert test.has_masks and test.defect_types == ["crack", "dent", "good", "good", "scratch", "scratch"]
    assert [item.unknown.float().mean().item() for item in test] == [1, 0, 0, 0, 0, 1]
    assert not any(item.mask[item.unknown].any() for item in test)


def test_a_mask_of_another_size_is_named(bottle):
    paint_mask(bottle / "ground_truth/dent/000.png", 5, size=(30, 20))
    with pytest.raises(DataError, match=r"000\.png is 20 x 30 pixels but its image .*dent/000\.png is 30 x 20"):
        load_dataset(f"folder:{bottle}", size=32).test[0]


def test_a_damaged_image_is_named(bottle):
    path = bottle / "train/good/002.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="002.png is not a readable image"):
        levels(load_dataset(f"folder:{bottle}", size=32).train)


def test_folders_without_what_is_needed(bottle, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, words in ((tmp_path / "empty", "empty holds no images"), (tmp_path / "gone", "no folder .*gone"),
                        (bottle / "train/good/000.png", "no folder"), (bottle / "test", "no layout that is rec")):
        with pytest.raises(DataError, match=words):
            load_dataset(f"folder:{name}")
    (tmp_path / "bare/test/good").mkdir(parents=True)
    with pytest.raises(DataError, match="bare holds no images"):
        load_dataset(f"folder:{tmp_path / 'bare'}")
    (tmp_path / "bare/train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="bare holds 0 good images"):
        load_dataset(f"folder:{tmp_path / 'bare'}")
    paint(tmp_path / "bare/train/good/0.png")
    assert load_dataset(f"folder:{tmp_path / 'bare'}").test is None


@pytest.mark.parametrize("name", ["carpet", "", "Folder:x", "magnetic", "synthetic/carpet"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="Choose|weave"):
        load_dataset(name)


def test_mvtec_that_is_not_there(tmp_path):
    for name in ("mvtec/bottle", "mvtec"):
        with pytest.raises(DataError) as caught:
            load_dataset(name, tmp_path)
        words = str(caught.value)
        assert str(tmp_path) in words and "bottle, cable" in words
        assert "www.mvtec.com" in words and "CC BY-NC-SA" in words
        assert "train/good" in words and "RDLIB_DATA" in words and 'load_dataset("synthetic/weave")' in words


def test_magnetic_tile_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="(?s)abin24/Magnetic-tile.*MT_Free"):
        load_dataset("magnetic_tile", tmp_path)


def test_the_data_folder_is_that_of_the_environment(bottle, tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    assert data_root() == tmp_path and len(load_dataset("mvtec/bottle").train) == 4
    monkeypatch.setenv("RDLIB_DATA", "~/images")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / "images"
    monkeypatch.setenv("RDLIB_DATA", "")  # set but empty is as if not set
    assert data_root() == tmp_path / ".cache" / "rdlib"
    monkeypatch.delenv("RDLIB_DATA")
    assert data_root() == tmp_path / ".cache" / "rdlib"
    with pytest.raises(DataError, match=str(tmp_path / ".cache/rdlib/mvtec/bottle")):
        load_dataset("mvtec/bottle")


def test_synthetic_data_are_rendered_as_items():
    data = load_dataset("synthetic/gear", size=64, n_train=5)
    assert len(data.train) == 5 and len(data.test) == 140 and set(data.train.labels) == {0}
    assert data.test.labels == [0] * 40 + [1] * 100
    item = data.test[-1]
    assert item.image.shape == (3, 64, 64) and item.image.dtype == torch.float32 and 0 <= item.image.min()
    assert 0.2 < item.image.max() <= 1 and item.mask.any() and item.label == 1 and not data.test[0].mask.any()
    assert not torch.equal(load_dataset("synthetic/gear", size=64, seed=1).train[0].image, data.train[0].image)
    assert torch.equal(load_dataset("synthetic/gear", size=64).train[0].image, data.train[0].image)
    with pytest.raises(DataError, match="square"):
        load_dataset("synthetic/weave", size=(64, 96)).train[0]


def test_images_are_decoded_once_and_kept_whole(bottle, monkeypatch):
    dataset = load_dataset(f"folder:{bottle}", size=32).test
    first = dataset[0]
    (bottle / "test/dent/000.png").unlink()
    first.image.zero_()
    first.mask.zero_()  # whoever draws on an item draws on a copy
    again = dataset[0]
    assert torch.allclose(again.image, torch.tensor(40 / 255)) and again.mask[:16].all()
    monkeypatch.setattr(samples, "KEEP_BELOW_BYTES", 10)
    dataset = load_dataset(f"folder:{bottle}", size=32).train
    assert torch.equal(dataset[0].image, dataset[0].image) and not dataset._kept


def test_indices_end(bottle):
    dataset = load_dataset(f"folder:{bottle}", size=32).test
    with pytest.raises(IndexError):
        dataset[5]
    assert len(list(dataset)) == len(dataset) == 5


def test_magnetic_tile_layout(tmp_path):
    for i in range(10):
        paint(tmp_path / f"MT_Free/Imgs/exp{i}.jpg", 20 * i)
        paint(tmp_path / f"MT_Free/Imgs/exp{i}.png", 0)  # masks that good images have too
    for kind, name, noise in (("Fray", "a", 7), ("Crack", "b", 0), ("Crack", "a", 18), ("Break", "a", 1),
                              ("Blowhole", "a", 3), ("Uneven", "a", 18)):
        paint(tmp_path / f"MT_{kind}/Imgs/{name}.jpg", 5 + len(kind + name) + noise)
        paint(tmp_path / f"MT_{kind}/Imgs/{name}.png", noise)
    data = load_dataset("magnetic_tile", tmp_path, size=20)
    assert data.test.defect_types == ["good"] * 2 + ["blowhole", "break", "crack", "crack", "fray", "uneven"]
    assert data.test.has_masks
    assert not any(item.mask.any() for item in data.test)  # noise
    assert sorted(levels(data.train) + levels(data.test)[:2]) == [20 * i for i in range(10)] != levels(data.train)
    assert [sample.name for sample in data.test.samples[2:]] == ["a.jpg"] * 3 + ["b.jpg"] + ["a.jpg"] * 2


@pytest.fixture(scope="module")
def tiles(shared):
    """The real magnetic-tile images, at 128 x 128."""
    root = shared / "data" / "magnetic-tile"
    if not root.is_dir():
        pytest.skip(f"no {root}: get abin24/Magnetic-tile-defect-datasets")
    return load_dataset("magnetic_tile", root, size=128)


def test_magnetic_tile_split(tiles):
    assert len(tiles.train) == 761 and set(tiles.train.defect_types) == {"good"}
    assert tiles.test.labels.count(0) == 191 and tiles.test.labels.count(1) == 392
    kinds = {kind: tiles.test.defect_types.count(kind) for kind in set(tiles.test.defect_types)}
    assert kinds == {"good": 191, "blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}
    train, test = ({sample.path for sample in part.samples} for part in (tiles.train, tiles.test))
    assert len(train) == 761 and len(test) == 583 and not train & test


def test_magnetic_tile_masks(tiles):
    """Four are empty as they are, two more vanish at 128 x 128; compression noise is no defect."""
    sizes, empty = [], set()
    for sample in tiles.test.samples:
        if sample.defect != "good":
            mask, _ = read_mask(sample.masks[0], (128, 128), 127)
            sizes.append(mask.float().mean().item())
            empty |= set() if mask.any() else {sample.path.stem}
    assert empty == {"exp3_num_45042", "exp4_num_124690", "exp4_num_352527", "exp4_num_45057", "exp3_num_24829",
                     "exp4_num_24843"}
    assert max(sizes) < 0.9 and len(sizes) == 392
    noisy = next(sample for sample in tiles.test.samples if sample.path.stem == "exp3_num_45042")
    assert AnomalyDataset([noisy], (128, 128))[0].label == 1


def test_magnetic_tile_foreground_is_above_127(tiles):
    for sample in tiles.test.samples[191::20]:
        with Image.open(sample.masks[0]) as file:
            values = np.asarray(file.convert("L"))
        with Image.open(sample.path) as file:
            assert file.size == values.shape[::-1]
        image, mask = sample.load(values.shape)
        assert np.array_equal(mask, values > 127) and image.shape[1:] == values.shape


def test_incomplete_magnetic_tiles_are_named(tmp_path):
    kinds = ("Free", "Blowhole", "Break", "Crack", "Fray", "Uneven")
    for kind in kinds:
        (tmp_path / f"MT_{kind}" / "Imgs").mkdir(parents=True)
    with pytest.raises(DataError, match="not all of them"):
        load_dataset("magnetic_tile", root=tmp_path)
    for kind in kinds:
        for i in range(3):
            for suffix in ("jpg", "png"):
                Image.new("L", (40, 40)).save(tmp_path / f"MT_{kind}" / "Imgs" / f"{i}.{suffix}")
    assert len(load_dataset("magnetic_tile", root=tmp_path).test) == 16
    (tmp_path / "MT_Crack/Imgs/1.png").unlink()
    with pytest.raises(DataError, match=r"1\.jpg has no mask .*1\.png"):
        load_dataset("magnetic_tile", root=tmp_path)
    shutil.rmtree(tmp_path / "MT_Fray")
    (tmp_path / "MT_Crack/Imgs/1.jpg").unlink()
    with pytest.raises(DataError, match="(?s)not all of them.*MT_Fray"):
        load_dataset("magnetic_tile", root=tmp_path)


@pytest.mark.parametrize("name, near, others", [
    ("mvtec/botle", "bottle", "carpet, grid"), ("mvtec/Scratches", "scratched", "carpet, grid"),
    ("visa/candel", "candle", "candle, capsules"), ("btad/1", "01", "01, 02, 03"),
    ("synthetic/weaves", "weave", "leather"), ("photo/gras", "grass", "gravel"), ("digits/33", "3", "0, 1, 2"),
    ("cifar10/cats", "cat", "airplane"), ("fashion_mnist/sneakers", "Sneaker", "Ankle boot"),
    ("mvtek/bottle", "mvtec", "visa/CATEGORY"), ("magnetic_tiles", "magnetic_tile", "synthetic/CATEGORY")])
def test_a_misspelt_name_is_answered_with_the_nearest_and_all_others(name, near, others, tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    (tmp_path / "mvtec/scratched/train/good").mkdir(parents=True)  # a category of the user's
    with pytest.raises(ValueError) as caught:
        load_dataset(name)
    assert f"Did you mean '{near}'?" in str(caught.value) and others in str(caught.value)


@pytest.mark.parametrize("name", ["mvtec/xyz", "visa/xyz", "synthetic/xyz", "cifar10/xyz", "xyz"])
def test_a_name_like_no_other_gets_no_proposal(name):
    with pytest.raises(ValueError) as caught:
        load_dataset(name)
    assert "Did you mean" not in str(caught.value)
