"""Layouts of folders as people have them: recognized and read, or refused with a command that fits."""
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image
from test_datasets import levels, paint, paint_mask

from rdlib import folder_dataset, load_dataset
from rdlib.datasets.roles import role_of
from rdlib.utils.errors import DataError


def images(root, place, *numbers, suffix="png"):
    """Paint images NNN.png in the gray levels `numbers`."""
    for number in numbers:
        paint(root / place / f"{number:03d}.{suffix}", number)


def masks(root, place, *numbers, form="{:03d}_mask.png", rows=5):
    """Paint masks with `rows` rows of defect."""
    for number in numbers:
        paint_mask(root / place / form.format(number), rows)


def read(root):
    return load_dataset(f"folder:{root}", size=(20, 30))


def truth(dataset):
    """Level, defect type and rows of defect of every image."""
    return [(level, kind, int(item.mask.sum()) // 30) for level, kind, item in
            zip(levels(dataset), dataset.defect_types, dataset, strict=True)]


@pytest.mark.parametrize("good, bad", [
    ("good", "bad"), ("OK", "NG"), ("normal", "abnormal"), ("ok_front", "def_front"), ("Good", "defective"),
    ("ok", "nok"), ("pass", "FAIL"), ("no_defect", "defect"), ("GoodParts", "BadParts"), ("ok", "not ok")])
def test_good_beside_bad(tmp_path, good, bad):
    images(tmp_path, good, *range(10, 110, 10))
    images(tmp_path, bad, 200, 201)
    data = read(tmp_path)
    assert data.layout == "good and defective folders side by side" and not data.test.has_masks
    held = [level for level, label in zip(levels(data.test), data.test.labels, strict=True) if not label]
    assert len(held) == 2 and sorted(levels(data.train) + held) == list(range(10, 110, 10))
    assert sorted(truth(data.test))[2:] == [(200, bad, 0), (201, bad, 0)]
    assert f"4 images (2 {bad}, 2 good), without masks" in repr(data) or f"(2 good, 2 {bad})" in repr(data)
    assert "2 of 10 images held out at random (seed 0)" in repr(data) and len(repr(data).splitlines()) < 8
    other = load_dataset(f"folder:{tmp_path}", size=(20, 30), seed=1)
    assert levels(other.train) != levels(data.train)
    assert levels(read(tmp_path).train) == levels(data.train)


@pytest.mark.parametrize("form", ["{:03d}.png", "{:03d}_mask.png", "{:03d}_GT.png", "{:03d}_label.bmp"])
@pytest.mark.parametrize("by_type", [True, False])
def test_masks_beside_good_and_bad(tmp_path, form, by_type):
    images(tmp_path, "normal", 1, 2, 3)
    for number, kind in ((100, "dent"), (101, "scratch")):
        images(tmp_path, f"abnormal/{kind}", number)
        masks(tmp_path, f"mask/{kind}" if by_type else "mask", number, form=form, rows=number - 98)
    images(tmp_path, "abnormal", 102)
    masks(tmp_path, "mask/abnormal" if by_type else "mask", 102, form=form, rows=4)
    data = read(tmp_path)
    assert truth(data.test)[:3] == [(102, "abnormal", 4), (100, "dent", 2), (101, "scratch", 3)]
    assert data.test.has_masks and data.test.labels == [1, 1, 1, 0] and len(data.train) == 2


def test_good_and_defective_folders_in_train_and_test(tmp_path):
    for part, first in (("train", 0), ("test", 10)):
        images(tmp_path, f"{part}/ok_front", first + 1, first + 2)
        images(tmp_path, f"{part}/def_front", first + 3, first + 4, first + 5)
    data = read(tmp_path)
    assert levels(data.train) == [1, 2] and not data.test.has_masks
    assert truth(data.test) == [(13, "def_front", 0), (14, "def_front", 0), (15, "def_front", 0), (11, "good", 0),
                                (12, "good", 0)]
    assert data.notes == ("left out: 3 defective images in train/def_front",
                          "read as good: ok_front. Rename a folder that is not")


@pytest.mark.parametrize("val", ["val", "validation"])
def test_validation_good_is_for_the_threshold(tmp_path, val):
    for place, *numbers in (("train/good", 1, 2), (f"{val}/good", 3, 4), (f"{val}/defective", 5), ("test/good", 6),
                            ("test/defective", 7)):
        images(tmp_path, place, *numbers)
    data = read(tmp_path)
    assert levels(data.train) == [1, 2] and levels(data.validation) == [3, 4] and levels(data.test) == [7, 6]
    assert data.notes == (f"left out: 1 defective image in {val}/defective",) and not data.test.has_masks
    assert "validation: 2 good images" in repr(data)


def test_mvtec_3d(tmp_path):
    for place, *numbers in (("train/good", 1, 2), ("validation/good", 3), ("test/good", 4), ("test/hole", 5),
                            ("test/cut", 5)):
        images(tmp_path, f"{place}/rgb", *numbers)
        images(tmp_path, f"{place}/xyz", *numbers, suffix="tiff")
    for kind, rows in (("good", 0), ("hole", 2), ("cut", 3)):
        masks(tmp_path, f"test/{kind}/gt", 4 if kind == "good" else 5, form="{:03d}.png", rows=rows)
    data = read(tmp_path)
    assert data.layout == "MVTec 3D-AD" and levels(data.train) == [1, 2] and levels(data.validation) == [3]
    assert truth(data.test) == [(5, "cut", 3), (4, "good", 0), (5, "hole", 2)]
    assert ("left out: 2 images in train/good/xyz: 001.tiff, 002.tiff. Move images to a folder with a role, or remove "
            "them") in data.notes
    assert "left out: 1 mask in test/good/gt, of good images" in data.notes
    assert not any(item.mask.any() for item in data.test if item.label == 0)
    (tmp_path / "test/hole/gt/005.png").unlink()
    for _ in range(2):
        test = read(tmp_path).test
        assert test.has_masks and [bool(item.unknown.all()) for item in test] == [False, False, True]
        shutil.rmtree(tmp_path / "test/hole/gt", ignore_errors=True)


def test_loco(tmp_path):
    images(tmp_path, "train/good", 7)
    images(tmp_path, "validation/good", 2)
    images(tmp_path, "test/good", 3)
    images(tmp_path, "test/logical_anomalies", 0, 1)
    for number, part, rows in ((0, 0, 3), (0, 1, 5), (1, 0, 2)):
        masks(tmp_path, f"ground_truth/logical_anomalies/{number:03d}", part, form="{:03d}.png", rows=rows)
    data = read(tmp_path)
    assert data.layout == "MVTec LOCO AD" and levels(data.validation) == [2]
    assert data.notes == ("read as MVTec LOCO AD",)
    assert truth(data.test) == [(3, "good", 0), (0, "logical_anomalies", 5), (1, "logical_anomalies", 2)]


def test_mvtec_ad_2(tmp_path):
    for place, *numbers in (("train/good", 1), ("validation/good", 2), ("test_public/good", 3), ("test_public/bad", 4),
                            ("test_private", 5, 6), ("test_private_mixed", 7)):
        images(tmp_path, place, *numbers)
    masks(tmp_path, "test_public/ground_truth/bad", 4)
    data = read(tmp_path)
    assert data.layout == "MVTec AD 2" and levels(data.validation) == [2] and data.test.has_masks
    assert truth(data.test) == [(4, "bad", 5), (3, "good", 0)]
    assert data.notes == (*(
        f"left out: {what}. Move images to a folder with a role, or remove them"
        for what in ("2 images in test_private: 005.png, 006.png", "1 image in test_private_mixed: 007.png")),
        "read as MVTec AD 2, with test_public")


@pytest.mark.parametrize("names", [("Train", "Test", "Label"), ("train", "test", "label")])
def test_dagm(tmp_path, names):
    (train, test, label), root = names, tmp_path
    images(root, train, 1, 2, 3, suffix="PNG")
    images(root, test, 4, 5, suffix="PNG")
    masks(root, f"{train}/{label}", 2, form="{:03d}_label.PNG")
    masks(root, f"{test}/{label}", 5, form="{:03d}_label.PNG")
    (root / train / label / "Labels.txt").write_text("1", encoding="utf-8")
    data = read(tmp_path)
    assert data.layout == "DAGM" and levels(data.train) == [1, 3]
    assert truth(data.test) == [(4, "good", 0), (5, "defective", 5)] and data.test.has_masks
    assert data.notes == (f"left out: 1 defective image in {train}", "left out: 1 .txt file")


def test_several_data_sets_in_a_folder(tmp_path):
    for number in (1, 2):
        images(tmp_path, f"Class{number}/Train", 1)
        masks(tmp_path, f"Class{number}/Train/Label", 7)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert "Class2/Train: 2 .png" in str(caught.value) and "Read one of its folders" in str(caught.value)
    assert levels(read(tmp_path / "Class2").train) == [1]


def test_kolektor(tmp_path):
    for part, first in (("train", 10), ("test", 20)):
        images(tmp_path, part, first, first + 1, first + 2)
        masks(tmp_path, part, first, first + 2, form="{:03d}_GT.png", rows=0)
        masks(tmp_path, part, first + 1, form="{:03d}_GT.png", rows=4)
    data = read(tmp_path)
    assert data.layout == "KolektorSDD2" and levels(data.train) == [10, 12]
    assert truth(data.test) == [(20, "good", 0), (21, "defective", 4), (22, "good", 0)]
    assert data.notes == ("left out: 1 defective image in train",)
    (tmp_path / "test/022_GT.png").unlink()
    with pytest.raises(DataError, match=r"022\.png has no mask 022_GT"):
        read(tmp_path)


def test_a_training_folder_without_a_good_image_is_refused(tmp_path):
    images(tmp_path, "train", 1)
    masks(tmp_path, "train", 1, form="{:03d}_GT.png")
    with pytest.raises(DataError, match="holds 0 good images of folder:.* takes 1 to train"):
        read(tmp_path)


@pytest.mark.parametrize("form, noise, bad", [("{:03d}_GT.jpg", [0, 1, 2], False), ("{:03d}_GT.png", [0, 1, 2], True),
                                              ("{:03d}_GT.jpg", [0, 1], False), ("{:03d}_GT.png", [0, 1], True),
                                              ("{:03d}_GT.png", [0, 2, 250], True), ("{:03d}_GT.bmp", [0, 127], True),
                                              ("{:03d}_GT.png", [0, 3, 127], True)])
def test_a_mask_that_is_black_but_for_noise_marks_nothing(tmp_path, form, noise, bad):
    """JPEG leaves noise; in a lossless file, a few separate values are codes."""
    images(tmp_path, "train", 1, 2, 3)
    if form.endswith("jpg"):
        images(tmp_path, "train", 4)
    for number in (1, 2, 3, 4)[:3 + form.endswith("jpg")]:
        levels_of = np.resize(noise if number == 3 else [0], (20, 30)).astype(np.uint8)
        levels_of[4:12, 4:12] = 255 * (number == 4)
        Image.fromarray(levels_of).save(tmp_path / "train" / form.format(number), quality=100)
    if form.endswith("jpg"):
        assert 0 < np.asarray(Image.open(tmp_path / "train/003_GT.jpg")).max() < 9
    assert levels(read(tmp_path).train) == ([1, 2] if bad else [1, 2, 3])


def refused(root):
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def test_boxes_are_not_masks(tmp_path):
    for part in ("train", "val"):
        images(tmp_path, f"images/{part}", 1, 2)
        for number in (1, 2):
            (tmp_path / f"labels/{part}").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"labels/{part}/{number:03d}.txt").write_text("0 .5 .5 .1 .1", encoding="utf-8")
    words = refused(tmp_path)
    assert "4 text files of labels, but boxes are not masks" in words
    assert "  images/train: 2 .png\n" in words and "  labels/val: 2 .txt\n" in words
    assert "rdlib train --good GOOD_FOLDER --defective DEFECTIVE_FOLDER -o model.safetensors" in words


def test_the_command_by_role_fits(tmp_path):
    """What the error proposes for a folder, run as it is, reads that folder; paths are quoted for the shell."""
    root = tmp_path / "Bob's parts; $new"
    images(root, "good/monday", 1, 2, 3)
    images(root, "scratch", 4)
    images(root, "dent", 5, 6)
    masks(root, "mask", 4, 5, 6)
    words = refused(root)
    assert words.splitlines()[1:5] == ["  dent: 2 .png", "  good/monday: 3 .png", "  mask: 3 .png", "  scratch: 1 .png"]
    given = shlex.split(words.splitlines()[-1])
    assert given == ["rdlib", "train", "--good", f"{root}/good", "--defective", f"{root}/dent", f"{root}/scratch",
                     "--masks", f"{root}/mask", "-o", "model.safetensors"]
    data = folder_dataset(good=given[3], defective=given[5:7], masks=given[8])
    assert sorted(data.test.defect_types) == ["dent", "dent", "good", "scratch"] and data.test.has_masks


@pytest.mark.parametrize("folders, command", [
    ({"train": [1, 2], "test/good": [3], "test/rust": [4]}, "--good train --defective test/rust --test-good test/good"),
    ({"good": [1], "bad": [2], ".": [3]}, "--good GOOD_FOLDER --defective DEFECTIVE_FOLDER"),
    ({"a": [1], "b": [2]}, "--good GOOD_FOLDER --defective DEFECTIVE_FOLDER"),
    ({"test/OK": [1], "test/NG": [2]}, "--good GOOD_FOLDER --defective test/NG --test-good test/OK"),
    ({"good": [1], "bad": [2], "train/good": [3]}, "--good GOOD_FOLDER --defective DEFECTIVE_FOLDER"),
    ({"good/train": [1], "good/test": [2], "bad/test": [3]},
     "--good good/train --defective bad/test --test-good good/test"),
    ({"OK/a": [1], "NG/Validation": [3]}, "--good OK --defective NG/Validation"),
    ({"train": [1], "train/def_front": [2]}, "--good GOOD_FOLDER --defective train/def_front"),
    ({"test/a": [1], "test/a/b": [2]}, "--good GOOD_FOLDER --defective test/a"),
    ({"valves/ok": [1], "valves/dent": [2]}, "--good valves/ok --defective valves/dent")])
def test_what_is_not_recognized_is_never_guessed(tmp_path, folders, command):
    for place, numbers in folders.items():
        images(tmp_path, place, *numbers)
    words = refused(tmp_path)
    assert f"rdlib train {command} -o" in words.replace(f"{tmp_path}/", "")
    assert "has no layout" in words or " or as " in words


def test_two_layouts_in_one_folder(tmp_path):
    images(tmp_path, "good", 1)
    images(tmp_path, "bad", 2)
    images(tmp_path, ".", 3)
    assert "can be read as good and defective folders side by side or as one folder of good images" in refused(tmp_path)


def test_a_large_folder_is_shown_in_part(tmp_path):
    for number in range(30):
        images(tmp_path, f"{number:02d}/a/b", 1)
    words = refused(tmp_path)
    assert "  and 10 more" in words and "  00/a: 1 .png\n" in words and len(words.splitlines()) == 24


def test_a_flat_folder_names_what_it_leaves_out(tmp_path):
    images(tmp_path, ".", 1, 2)
    images(tmp_path, "old", 3)
    data = read(tmp_path)
    assert levels(data.train) == [1, 2] and data.test is None and data.layout == "one folder of good images"
    assert data.notes == ("left out: 1 image in old: 003.png. Move images to a folder with a role, or remove them",)
    assert "test: no images" in repr(data)


def test_data_are_shown(tmp_path):
    images(tmp_path, "train/good", 1, 2)
    images(tmp_path, "test/ok", 3)
    images(tmp_path, "test/dent", 4, 5)
    masks(tmp_path, "ground_truth/dent", 4, 5)
    images(tmp_path, "train/bad", 6)
    text, name = repr(read(tmp_path)), tmp_path.name
    assert text == (f"AnomalyData\n  name: folder:{name}\n  layout: MVTec AD\n  train: 2 good images\n"
                    "  test: 3 images (2 dent, 1 good), with masks\n  note 1: left out: 1 defective image in train/bad")
    assert "<table>" in read(tmp_path)._repr_html_()


def test_names_that_say_a_role():
    words = {"good": "good OK ok normal Pass ok_front good-2 normal01 goodParts defect_free no_defects non-defective "
                    "anomaly_free anomaly-free AnomalyFree fault_free failure_free damage_free scratch_free no_anomaly "
                    "not_defective NoFaults without_failures free-of-defects faultless anomaly_free_2",
             "bad": "bad NG nok ko not_ok defect defects defective def_front abnormal anomaly FAIL bad_3 NGParts NG-2",
             "masks": "mask masks ground_truth GroundTruth gt label Labels defect_masks",
             "": "train rgb cap_less CapLess thread_less screw_free scratch ok_bad good_masks broken goods ngc badge "
                 "default masked definition"}
    for role, names in words.items():
        assert {name: role_of(name) for name in names.split()} == dict.fromkeys(names.split(), role)


def test_an_image_with_unknown_pixels_alone_is_neither_good_nor_trained_on(tmp_path):
    images(tmp_path, "train", 1, 2, 3)
    masks(tmp_path, "train", 1, form="{:03d}_GT.png", rows=0)
    border = np.zeros((32, 32), np.uint8)
    border[8:24, 8:24] = 255
    Image.fromarray(border).save(tmp_path / "train/003_GT.png")
    border[10:22, 10:22] = 1
    Image.fromarray(border).save(tmp_path / "train/002_GT.png")
    with pytest.raises(DataError, match=r"002_GT.png has white beside small codes, .*003_GT.png has it alone"):
        read(tmp_path)


@pytest.mark.parametrize("good, bad", [("OK_{}", "NG_{}"), ("good_{}", "bad_{}"), ("{}", "{}_defect"),
                                       ("part{}", "part{}-NG"), ("ok{}", "nok{}"), ("screw_{}", "screw_anomaly_{}"),
                                       ("IMG {}", "IMG {} (not ok)")])
def test_a_flat_folder_whose_names_say_defective_is_refused(tmp_path, good, bad):
    for i in range(3):
        paint(tmp_path / f"{good.format(i)}.png", i)
    for i in range(2):
        paint(tmp_path / f"{bad.format(i)}.png", 100 + i)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    names = f"{bad.format(0)}.png, {bad.format(1)}.png"
    assert f"2 of 5 images have names as defective ones ({names}). Put " in str(caught.value)


def test_plain_names_in_a_flat_folder(tmp_path):
    names = ["001", "ok_1", "good 2", "part_no_defect_3", "DSCNG01", "badge", "a1bad3f", "defect_free_4", "king",
             "7ng8", "2b8a4c11-bad1-4def-9f00-0123456789ab", "definition", "IMG_20240101_101500", "ngc224",
             "anomaly-free", "ngx1_2", "1bad", "bad3f"]
    for i, name in enumerate(names):
        paint(tmp_path / f"{name}.png", i)
    assert len(read(tmp_path).train) == len(names)


def test_a_folder_behind_a_broken_link_is_named(tmp_path):
    images(tmp_path, "test/good", 1)
    (tmp_path / "train").mkdir()
    (tmp_path / "train/good").symlink_to("/gone/good")
    words = refused(tmp_path)
    assert f"(see data/README.md). Broken links: {tmp_path}/train/good -> /gone/good. It holds:" in words


def test_a_longer_name_that_is_read_as_good_is_said(tmp_path):
    for part, kind in (("train", "ok_front"), ("train", "good"), ("test", "good_but_scratched"), ("test", "hole")):
        images(tmp_path, f"{part}/{kind}", 1, 2)
    with pytest.warns(UserWarning, match="read as good: good_but_scratched, ok_front. Rename a folder that is not"):
        data = read(tmp_path)
    assert (len(data.train), data.test.labels) == (4, [0, 0, 1, 1])
