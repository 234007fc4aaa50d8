"""Files that a data set does not use: counted, named, and said in one warning; equal files; linked folders."""
import os
import shutil
import warnings
from pathlib import Path

import pytest
from test_datasets import levels, paint, paint_mask
from test_layouts import images, masks

from rdlib import folder_dataset, load_dataset
from rdlib.utils.errors import DataError


def heard(root, **settings):
    """The data set of a folder, and the lines of its only warning, without its name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_dataset(f"folder:{root}", size=(20, 30), **settings)
    said = [str(entry.message) for entry in caught if entry.category is UserWarning]
    assert len(said) <= 1
    return data, [line.removeprefix(f"folder:{root.name}: ") for text in said for line in text.splitlines()]


@pytest.fixture
def mvtec(tmp_path):
    """A clean folder in MVTec AD's layout: 4 images to train, 2 good and 2 defective ones to test."""
    images(tmp_path, "train/good", 1, 2, 3, 4)
    images(tmp_path, "test/good", 11, 12)
    images(tmp_path, "test/hole", 21, 22)
    masks(tmp_path, "ground_truth/hole", 21, 22)
    for name in ("license.txt", "readme.txt"):
        (tmp_path / name).write_text("CC", encoding="utf-8")
    return tmp_path


def test_a_clean_folder_prints_nothing(mvtec):
    data, said = heard(mvtec)
    assert said == [] and data.notes == ("left out: 2 .txt files",)
    assert (len(data.train), len(data.test), sum(data.test.labels)) == (4, 4, 2)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN",
                                  "System Volume Information", "lost+found", "#recycle", "found.000", "Thumbs",
                                  "_thumbs", ".thumbnails"])
def test_hidden_and_system_folders_are_no_defect_types(mvtec, name):
    images(mvtec, f"test/{name}", 91, 92, 93)
    images(mvtec, name, 94)
    paint(mvtec / "test/hole/._021.png", 95)
    (mvtec / "test/hole/.DS_Store").touch()
    data, said = heard(mvtec)
    assert said == [] and set(data.test.defect_types) == {"good", "hole"} and len(data.test) == 4
    assert {f"left out: 3 hidden images in test/{name}", f"left out: 1 hidden image in {name}",
            "left out: 1 hidden image in test/hole", "left out: 1 hidden file"} <= {*data.notes}


@pytest.mark.parametrize("name", ["__scratch", "@thumb", "$5"])
def test_folders_whose_names_begin_as_those_of_a_system_are_noted(mvtec, name):
    images(mvtec, f"test/{name}", 91, 92)
    images(mvtec, f"train/bad/{name}", 93)
    data, said = heard(mvtec)
    assert said == [] and len(data.test) == 4
    assert f"left out: 2 hidden images in test/{name}" in data.notes
    assert f"left out: 1 hidden image in train/bad/{name}" in data.notes


@pytest.mark.parametrize("name", ["Good", "ok", "OK", "normal"])
def test_good_test_images_under_another_name_are_good(mvtec, name):
    (mvtec / "test/good").rename(mvtec / "test/renamed")  # where case is ignored, good is Good
    (mvtec / "test/renamed").rename(mvtec / f"test/{name}")
    data, said = heard(mvtec)
    assert said == [] and sum(data.test.labels) == 2 and data.test.defect_types.count("good") == 2


@pytest.mark.parametrize("suffix", ["gif", "heic", "avif", "NEF", "jp2", "pgm", "npy", "exr", "svg", "psd", "mat",
                                    "dds", "pcx", "sgi", "j2c", "dicom", "czi", "jpg_"])
def test_formats_that_are_not_read_are_counted(mvtec, suffix):
    for name in ("a", "b", "c"):
        (mvtec / f"train/good/{name}.{suffix}").write_bytes(b"any")
    (mvtec / f"test/hole/a.{suffix}").write_bytes(b"any")
    data, said = heard(mvtec)
    assert said == [f"left out: {what}: not read as images. Convert images to PNG" for what in
                    (f"1 .{suffix.lower()} file in test/hole", f"3 .{suffix.lower()} files in train/good")]
    assert data.notes[:2] == tuple(said) and len(data.train) == 4


def test_images_without_a_role_are_counted_by_folder(mvtec):
    images(mvtec, ".", 91)
    images(mvtec, "raw/2024", 92, 93)
    images(mvtec, "train/bad", 94)
    images(mvtec, "test", 95)
    assert heard(mvtec)[1] == ["left out: 1 defective image in train/bad", *(
        f"left out: {what}. Move images to a folder with a role, or remove them"
        for what in ("2 images in raw/2024: 092.png, 093.png", "1 image in test: 095.png",
                     f"1 image in {mvtec.name}: 091.png"))]


def test_a_folder_of_masks_under_another_name_is_said(mvtec):
    (mvtec / "ground_truth").rename(mvtec / "groundtruth")
    data, said = heard(mvtec)
    assert said == ["read as MVTec AD, with groundtruth"] and data.test.has_masks


def test_a_picture_beside_good_and_bad(tmp_path):
    images(tmp_path, "good", *range(10, 20))
    images(tmp_path, "bad", 50, 51)
    with pytest.raises(DataError, match=r"(?s)can be read as .*or as one folder of good images.*  \.: 1 \.png"):
        images(tmp_path, ".", 99)
        heard(tmp_path)


def test_images_one_folder_deeper_are_found(mvtec):
    images(mvtec, "train/good/batch2/side", *range(40, 50))
    (mvtec / "test/hole/imgs").mkdir()
    for path in sorted((mvtec / "test/hole").glob("*.png")):
        path.rename(mvtec / "test/hole/imgs" / path.name)
    for number in range(20):
        paint(mvtec / f"train/good/more{number}.jpg", 60 + number)
        (mvtec / f"train/good/more{number}.jpg").rename(mvtec / f"train/good/more{number}.jfif")
    data, said = heard(mvtec)
    assert said == [] and len(data.train) == 34 and data.test.labels == [0, 0, 1, 1]
    assert [int(item.mask.sum()) for item in data.test] == [0, 0, 150, 150]


def test_text_files_named_as_images_are_said(mvtec):
    for number in (21, 22):
        (mvtec / f"test/hole/{number:03d}.txt").write_text("0 .5 .5 .1 .1", encoding="utf-8")
    (mvtec / "test/hole/classes.txt").write_text("hole", encoding="utf-8")
    (mvtec / "labels").mkdir()
    (mvtec / "labels/021.json").write_text("{}", encoding="utf-8")
    data, said = heard(mvtec)
    assert said == [f"left out: {what}. Boxes and outlines in text are no masks" for what in
                    ("1 .json file in labels, named as images: 021.json",
                     "2 .txt files in test/hole, named as images: 021.txt, 022.txt")]
    assert "left out: 3 .txt files" in data.notes


def test_masks_without_an_image_are_named(mvtec):
    masks(mvtec, "ground_truth/hole", 31, 32, 33)
    masks(mvtec, "ground_truth/good", 11, 12, rows=0)
    data, said = heard(mvtec)
    assert said == ["left out: 3 masks in ground_truth/hole without a defective image: 031_mask.png, 032_mask.png, "
                    ".... Rename a mask as its image"]
    assert "left out: 2 masks in ground_truth/good, of good images" in data.notes


def test_label_files_beside_images(tmp_path):
    for place, first, rows in (("train/good", 1, 0), ("test/good", 11, 0), ("test/crack", 21, 4)):
        for number in range(first, first + 6):
            paint(tmp_path / place / f"part{number}.jpg", number)
            paint_mask(tmp_path / place / f"part{number}_label.bmp", rows)
            if rows:
                paint_mask(tmp_path / place / f"part{number}_mask.png", rows)
    data, said = heard(tmp_path)
    assert (len(data.train), len(data.test), sum(data.test.labels)) == (6, 12, 6) and not data.test.has_masks
    assert said == [f"left out: {number} label files in {place}, beside their images: {first}_label.bmp, "
                    f"{second}, .... Move masks to a folder of their own" for number, place, first, second in
                    ((12, "test/crack", "part21", "part21_mask.png"), (6, "test/good", "part11", "part12_label.bmp"),
                     (6, "train/good", "part1", "part2_label.bmp"))]


def test_a_long_list_is_cut_in_the_warning_and_whole_in_the_notes(mvtec):
    for number in range(20):
        images(mvtec, f"other{number:02d}", 100 + number)
    data, said = heard(mvtec)
    assert len(said) == 13 and said[-1] == "and 8 more, see the data set's notes"
    assert sum(note.startswith("left out: 1 image in other") for note in data.notes) == 20


def test_test_images_that_were_trained_on_are_named(mvtec):
    for number, name in ((1, "011.png"), (2, "012.png"), (3, "013.png"), (4, "014.png")):
        shutil.copy(mvtec / f"train/good/{number:03d}.png", mvtec / "test/good" / name)
    data, said = heard(mvtec)
    assert said == ["4 test images are equal to training images: test/good/011.png = train/good/001.png, "
                    "test/good/012.png = train/good/002.png, test/good/013.png = train/good/003.png, .... Keep copies "
                    "on one side: results on them are too good"]
    assert len(data.test) == 6  # named, not removed


def test_copies_within_and_across_parts_are_named(mvtec):
    shutil.copy(mvtec / "train/good/001.png", mvtec / "train/good/001 copy.png")
    shutil.copy(mvtec / "test/good/011.png", mvtec / "test/hole/023.png")
    (mvtec / "validation").mkdir()
    shutil.copytree(mvtec / "train/good", mvtec / "validation/good")
    paint_mask(mvtec / "ground_truth/hole/023.png", 2)
    assert heard(mvtec)[1] == [
        "1 training image is equal to other training images: train/good/001.png = train/good/001 copy.png. "
        "Keep one of each",
        "5 validation images are equal to training images: validation/good/001 copy.png = train/good/001 copy.png, "
        "validation/good/001.png = train/good/001 copy.png, validation/good/002.png = train/good/002.png, .... "
        "Keep copies on one side: results on them are too good",
        "1 test image is equal to other test images: test/hole/023.png = test/good/011.png. Keep one of each"]


def test_files_of_one_size_that_differ_anywhere_are_not_equal(tmp_path):
    images(tmp_path, "train/good", *range(8), suffix="bmp")
    head = (tmp_path / "train/good/000.bmp").read_bytes()
    for position in (60, len(head) // 2, len(head) - 1):
        data = bytearray(head)
        data[position] ^= 1
        (tmp_path / f"train/good/x{position}.bmp").write_bytes(data)
    assert len({path.stat().st_size for path in (tmp_path / "train/good").iterdir()}) == 1
    assert heard(tmp_path)[1] == []


def test_linked_folders_are_entered_and_each_real_folder_once(tmp_path):
    images(tmp_path, "share/line1", 1)
    images(tmp_path, "share/line1/2026-11-25", 2, 3)
    images(tmp_path, "own/train/good", 4)
    for link, target in (("own/train/good/line1", "share/line1"), ("share/line1/again", "share"),
                         ("own/train/good/back", "own/train")):
        os.symlink(tmp_path / target, tmp_path / link, target_is_directory=True)
    data, said = heard(tmp_path / "own")
    assert sorted(levels(data.train)) == [1, 2, 3, 4] and said == []


def test_a_folder_that_cannot_be_read_is_named(mvtec, monkeypatch):
    images(mvtec, "train/good/closed", 5)
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match="train/good/closed cannot be read. Ask for the right to read it"):
        heard(mvtec)
    (mvtec / "train/good/closed").rename(mvtec / "closed")
    (mvtec / "closed/005.png").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "closed")
    assert heard(mvtec)[1] == [f"left out: 1 folder in {mvtec.name} that cannot be read: closed"]


def test_a_link_beside_the_folder_that_is_read_is_not_left_out(mvtec):
    os.symlink(mvtec / "train/good", mvtec / "backup", target_is_directory=True)
    assert heard(mvtec)[1] == []


def test_folders_by_role_say_what_they_leave_out(tmp_path):
    masks(tmp_path / "hidden/.cache", "masks", 3)
    images(tmp_path, "a", 1, 2)
    images(tmp_path, "b", 3)
    (tmp_path / "b/x.gif").touch()
    images(tmp_path, "elsewhere", 9)
    with pytest.warns(UserWarning) as caught:
        data = folder_dataset(good=tmp_path / "a", defective=tmp_path / "b", masks=tmp_path / "hidden/.cache/masks",
                              size=32)
    assert [str(entry.message) for entry in caught if entry.category is UserWarning] == [
        f"folder:{tmp_path.name}: left out: 1 .gif file in b: not read as images. Convert images to PNG"]
    assert data.test.has_masks


@pytest.mark.parametrize("link", ["ground_truth", "test/dent", "train/good/day2", "test/hole/099.png"])
def test_a_link_that_leads_nowhere_is_named_with_its_target(mvtec, link):
    if link == "ground_truth":
        shutil.rmtree(mvtec / link)
    (mvtec / link).symlink_to("/gone/share", target_is_directory=True)
    place = Path(link).parent.as_posix() if "/" in link else mvtec.name
    assert heard(mvtec)[1] == [f"left out: 1 broken link in {place}: {Path(link).name} -> /gone/share. Mount or "
                               "restore what it leads to"]


def test_files_that_are_no_images_stay_quiet_and_all_others_are_named(mvtec):
    for name in ("LICENSE", "README", "checksums", "notes.csv", "Thumbs.db", "info.yaml", "weights.pth", "paper.pdf"):
        (mvtec / name).touch()
    (mvtec / "train/good/LICENSE").touch()
    assert heard(mvtec)[1] == []
    for name in ("IM0001", "IM0002", "1.2.840.1", "1.2.840.2", "a.czi"):
        (mvtec / "train/good" / name).touch()
    assert heard(mvtec)[1] == [f"left out: {what} in train/good: not read as images. Convert images to PNG"
                               for what in ("1 .czi file", "4 files without extension")]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_mask_that_marks_defects_on_a_good_image_is_said(mvtec, suffix):
    for number, rows in ((11, 0), (12, 4)):
        paint_mask(mvtec / f"ground_truth/good/{number:03d}.{suffix}", rows)
    assert heard(mvtec)[1] == ["left out: 1 mask in ground_truth/good, of good images, that mark defects: "
                               f"012.{suffix}. Remove such images or masks"]


def test_a_test_set_without_good_images_is_said(mvtec):
    (mvtec / "test/good").rename(mvtec / "test/perfect")
    shutil.rmtree(mvtec / "ground_truth")
    assert heard(mvtec)[1] == ["no folder in test is named as good: hole, perfect are read as defect types; image "
                               "metrics need good test images"]
    (mvtec / "test/perfect").rename(mvtec / "test/ok")
    shutil.rmtree(mvtec / "test/hole")
    assert heard(mvtec)[1] == ["no folder in test holds defective images: image metrics need some"]


@pytest.mark.parametrize("name", ["{} mask", "{}(mask)", "{}mask", "{}_msk", "{}-m", "{}_binary", "{} (bw)", "{}_Truth",
                                  "{}_overlay", "{}.heatmap", "{}_ROI_2", "{}_defect_mask", "mask {}", "{} defect"])
def test_label_files_with_any_separator(mvtec, name):
    for number in (1, 2):
        paint_mask(mvtec / f"train/good/{name.format(f'{number:03d}')}.png", 3 + number)
    data, said = heard(mvtec)
    assert sorted(levels(data.train)) == [1, 2, 3, 4]
    assert said == [f"left out: 2 label files in train/good, beside their images: {name.format('001')}.png, "
                    f"{name.format('002')}.png. Move masks to a folder of their own"]


def test_names_like_label_files_without_their_image_are_images(tmp_path):
    names = ["gas_mask", "roi 7", "alarm", "alar", "team", "tea", "5mm", "5m", "form", "m", "defects", "overlay_9"]
    for i, name in enumerate(names):
        paint(tmp_path / f"train/good/{name}.png", i)
    data, said = heard(tmp_path)
    assert said == [] and len(data.train) == len(names)


@pytest.mark.parametrize("name", ["annotations", "segmentation", "Segmentations", "annotation"])
def test_other_names_of_mask_folders(mvtec, name):
    (mvtec / "ground_truth").rename(mvtec / name)
    data, said = heard(mvtec)
    assert said == [f"read as MVTec AD, with {name}"] and data.test.has_masks


def test_too_few_good_images_name_what_was_left_out(tmp_path):
    (tmp_path / "train/good").mkdir(parents=True)
    for i in range(20):
        (tmp_path / f"train/good/{i}.pgm").touch()
    images(tmp_path, "train", 1, 2)
    with pytest.raises(DataError, match=r"(?s)holds 0 good images of folder:.*Add good images\.\nleft out: 20 \.pgm "
                                        r"files in train/good.*left out: 2 images in train: 001\.png, 002\.png\. Move"):
        heard(tmp_path)
