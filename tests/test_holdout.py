"""Held-out images: random by seed, near-duplicates on one side, and what is said where that is not possible."""
import shutil

import numpy as np
import pytest
from PIL import Image

from rdlib import load_dataset
from rdlib.datasets import AnomalyDataset, ArraySample, FileSample, hold_out
from rdlib.datasets.holdout import near_duplicates
from rdlib.utils.errors import DataError

RNG = np.random.default_rng(0)
ROW, COLUMN = np.mgrid[:64, :64]


def part(number, noise=5.0, shift=0.0):
    """A textured image, (64, 64) uint8: the same number gives the same texture, with other noise."""
    a, b, c, d = np.random.default_rng(number).uniform(0, 6, 4)
    waves = np.sin(COLUMN / 5 + a) + np.sin(ROW / 7 + b) + np.sin(COLUMN / 9 + c) * np.sin(ROW / 4 + d)
    gray = 128 + shift + 20 * waves
    return np.clip(gray + RNG.normal(0, noise, (64, 64)), 0, 255).astype(np.uint8)


def in_memory(arrays):
    return AnomalyDataset([ArraySample(array, str(i)) for i, array in enumerate(arrays)], (32, 32))


def in_files(folder, names, arrays=None):
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part(i) if arrays is None else arrays[i]).save(folder / name)
    return AnomalyDataset([FileSample(folder / name, name) for name in names], (32, 32))


def groups(dataset):
    """The names of every group of several images."""
    return [[dataset.samples[i].name for i in group] for group in near_duplicates(dataset.samples) if len(group) > 1]


def names(dataset):
    return [sample.name for sample in dataset.samples]


def test_a_share_is_held_out_by_seed():
    dataset = in_memory([part(i) for i in range(40)])
    rest, held, how = hold_out(dataset, 8, seed=3)
    assert len(rest) == 32 and len(held) == 8 and not {*names(rest)} & {*names(held)}
    assert names(rest) == sorted(names(rest), key=int) and names(held) == sorted(names(held), key=int)
    assert names(hold_out(dataset, 8, seed=3)[1]) == names(held) != names(hold_out(dataset, 8, seed=4)[1])
    assert how == "8 of 40 images held out at random (seed 3)" and rest.size == held.size == (32, 32)
    for n in (0, 40, -1):
        with pytest.raises(ValueError, match=f"Cannot hold out {n} of 40|n must be a whole number from 1"):
            hold_out(dataset, n)


def test_the_same_bytes_stay_together(tmp_path):
    dataset = in_files(tmp_path, [f"{i}.png" for i in range(12)])
    for i in (3, 4, 5):
        (tmp_path / f"sub{i}").mkdir()
        shutil.copy(tmp_path / "2.png", tmp_path / f"sub{i}/other.png")
        dataset.samples.append(FileSample(tmp_path / f"sub{i}/other.png", f"sub{i}"))
    assert groups(dataset) == [["2.png", "sub3", "sub4", "sub5"]]
    for seed in range(10):
        rest, held, how = hold_out(dataset, 5, seed)
        assert len(held) == 5 and len(rest) == 10
        assert len({"2.png", "sub3", "sub4", "sub5"} & {*names(held)}) in (0, 4)
        assert how == f"5 of 15 images held out at random (seed {seed}); 4 near-duplicates in 1 group, on one side each"


@pytest.mark.parametrize("copy", ["0 (1).png", "0 (12).png", "0 copy.png", "0 Copy 2.jpg", "0 - Copy.png",
                                  "0 - Copy (2).png", "0_copy.png", "0-copy.bmp"])
def test_a_copy_by_name_stays_with_its_original(tmp_path, copy):
    dataset = in_files(tmp_path, ["0.png", "1.png", "2.png", "3.png", copy])  # other pixels, as after an edit
    assert groups(dataset) == [["0.png", copy]]
    (tmp_path / "0.png").rename(tmp_path / "5.png")
    dataset.samples[0] = FileSample(tmp_path / "5.png", "5.png")
    assert groups(dataset) == []  # NAME is not there


def test_names_of_a_series_are_no_copies(tmp_path):
    assert groups(in_files(tmp_path, [f"part ({i}).png" for i in range(1, 9)])) == []
    assert groups(in_files(tmp_path / "b", ["a/0.png", "b/0 (1).png", "c/1.png", "c/2.png"])) == []  # another folder


@pytest.mark.parametrize("copies", [2, 4])
def test_images_that_are_nearly_equal_stay_together(copies):
    """Every part was photographed several times, with other noise and light: thumbnails tell."""
    numbers = [i for i in range(15) for _ in range(copies)]
    dataset = in_memory([part(number, noise=1, shift=RNG.uniform(-5, 5)) for number in numbers])
    assert [len(group) for group in groups(dataset)] == [copies] * 15
    rest, held, how = hold_out(dataset, 3 * copies)
    assert len(held) == 3 * copies
    assert not {numbers[int(name)] for name in names(rest)} & {numbers[int(name)] for name in names(held)}
    assert f"{15 * copies} near-duplicates in 15 groups, on one side each" in how


@pytest.mark.parametrize("noise", [0.4, 2, 20])
def test_a_camera_on_a_fixture_gives_no_groups(noise):
    """All images show the same scene and differ by noise, and by light, alone."""
    assert groups(in_memory([part(1, noise) for _ in range(60)])) == []
    assert groups(in_memory([part(1, noise, shift=RNG.uniform(-20, 20)) for _ in range(60)])) == []


def test_where_groups_leave_no_choice_images_are_chosen_singly(tmp_path):
    dataset = in_files(tmp_path, [f"{i}.png" for i in range(20)])
    for i in range(1, 20):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{i}.png")
    assert len(near_duplicates(dataset.samples)) == 1
    rest, held, how = hold_out(dataset, 5)
    assert len(held) == 5 and len(rest) == 15 and "image by image, since 20 near-duplicates in 1 group" in how
    assert "not new" in how


def test_a_large_group_does_not_shrink_the_part(tmp_path):
    """Of 20 images, 16 are one file: at most the four others can be held out as new ones."""
    dataset = in_files(tmp_path, [f"{i:02d}.png" for i in range(20)])
    for i in range(5, 20):
        shutil.copy(tmp_path / "04.png", tmp_path / f"{i:02d}.png")
    rest, held, how = hold_out(dataset, 4)
    assert names(held) == ["00.png", "01.png", "02.png", "03.png"] and "16 near-duplicates in 1 group" in how
    rest, held, how = hold_out(dataset, 9)
    assert len(held) == 9 and "image by image" in how


def test_few_images():
    for number in (2, 3):
        rest, held, how = hold_out(in_memory([part(i) for i in range(number)]), 1)
        assert len(rest) == number - 1 and len(held) == 1


def test_damaged_images_are_named_when_they_are_used(tmp_path):
    dataset = in_files(tmp_path, [f"{i}.png" for i in range(9)])
    shutil.copy(tmp_path / "2.png", tmp_path / "3.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "4.png").write_bytes(b"no image either")
    assert groups(dataset) == [["2.png", "3.png"]]
    rest, held, how = hold_out(dataset, 3)
    assert sorted(names(rest) + names(held)) == [f"{i}.png" for i in range(9)] and len(held) == 3
    with pytest.raises(DataError, match="1.png is not a readable image"):
        dataset[1]
    assert near_duplicates(dataset.samples[1:2]) == [[0]]


def test_drawn_images_are_held_out_too():
    assert len(hold_out(load_dataset("synthetic/gear", size=64, n_train=20).train, 5)[1]) == 5


def test_real_tiles(shared):
    """Of 952 good tiles, a few were photographed twice: the numbers in their names are near each other."""
    root = shared / "data" / "magnetic-tile" / "MT_Free" / "Imgs"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    found = groups(AnomalyDataset([FileSample(path, path.stem) for path in sorted(root.glob("*.jpg"))], (128, 128)))
    assert ["exp4_num_1877", "exp5_num_1903"] in found and all(len(group) == 2 for group in found) and len(found) < 12
