"""Folders by role: what is read, what is refused, and which good images are held out to test with."""
from pathlib import Path

import pytest
from test_datasets import levels, paint, paint_mask
from test_layouts import images, masks, truth

from rdlib import folder_dataset
from rdlib.utils.errors import DataError


def test_good_and_defective_folders(tmp_path):
    images(tmp_path, "a", *range(10))
    images(tmp_path, "more/batch 2", *range(10, 20))
    images(tmp_path, "scrap/dent", 100, 101)
    images(tmp_path, "scrap/scratch/side", 102)
    images(tmp_path, "scrap", 103)
    masks(tmp_path, "outlines/dent", 100, 101, rows=2)
    masks(tmp_path, "outlines/scratch", 102, rows=3)
    masks(tmp_path, "outlines/scrap", 103, rows=4)
    data = folder_dataset(good=[tmp_path / "a", str(tmp_path / "more")], defective=tmp_path / "scrap",
                          masks=tmp_path / "outlines", size=(20, 30))
    assert [row for row in truth(data.test) if row[1] != "good"] == [
        (103, "scrap", 4), (100, "dent", 2), (101, "dent", 2), (102, "scratch", 3)]
    held = [level for level, kind, _ in truth(data.test) if kind == "good"]
    assert len(held) == 4 and sorted(levels(data.train) + held) == list(range(20)) and data.test.has_masks
    assert {sample.name for sample in data.test.samples} >= {"scrap/103.png", "scrap/scratch/side/102.png"}
    assert data.layout == "folders by role" and "4 of 20 images held out" in data.notes[0]


def test_test_good_and_validation(tmp_path):
    for place, *numbers in (("a", 1, 2), ("b", 3), ("c", 4), ("d", 5)):
        images(tmp_path, place, *numbers)
    data = folder_dataset(good=tmp_path / "a", defective=tmp_path / "b", test_good=tmp_path / "c",
                          validation=[tmp_path / "d"], size=32)
    assert levels(data.train) == [1, 2] and data.test.defect_types == ["b", "good"] and data.notes == ()
    assert levels(data.validation) == [5] and not data.test.has_masks
    given = folder_dataset(good=tmp_path / "a", test_good=tmp_path / "c", size=32)
    assert levels(given.train) == [1, 2] and levels(given.test) == [4] and given.test.labels == [0]


def test_a_share_of_the_good_images_is_held_out_without_defective_ones_too(tmp_path):
    images(tmp_path, "a", *range(10))
    data = folder_dataset(good=tmp_path / "a", size=32)
    assert len(data.train) == 8 and data.test.labels == [0, 0] and not data.test.has_masks
    assert sorted(levels(data.train) + levels(data.test)) == list(range(10)) and "2 of 10 images" in data.notes[0]
    assert levels(folder_dataset(good=tmp_path / "a", size=32, seed=1).test) != levels(data.test)


def test_relative_paths_and_folders_of_one_name(tmp_path, monkeypatch):
    images(tmp_path, "x/Imgs", 1, 2)
    images(tmp_path, "y/Imgs", 3)
    images(tmp_path, "z/Imgs", 4)
    monkeypatch.chdir(tmp_path / "x")
    data = folder_dataset(good="Imgs", defective=["../y/Imgs", "../z/Imgs"])
    assert sorted(data.test.defect_types) == ["good", "y/Imgs", "z/Imgs"]
    assert {sample.name for sample in data.test.samples} >= {"y/Imgs/003.png", "z/Imgs/004.png"}


def test_what_is_refused(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "good/ng", 3)
    images(tmp_path, "bad", 4)
    images(tmp_path, "bad/ok", 5)
    images(tmp_path, "one", 6)
    (tmp_path / "empty").mkdir()

    def said(**roles):
        with pytest.raises(DataError) as caught:
            folder_dataset(**{role: tmp_path / place for role, place in roles.items()})
        return str(caught.value)

    assert f"{tmp_path / 'good' / 'ng'} is inside" in said(good="good")
    assert f"{tmp_path / 'bad' / 'ok'} is inside" in said(good="one", defective="bad")
    for role in ("defective", "masks", "test_good", "validation"):
        for name in ("gone", "empty"):
            assert f"{tmp_path / name} is no folder or holds no images" in said(good="one", **{role: name})
    assert "empty is no folder or holds no images" in said(good="empty")
    assert "006.png has two roles" in said(good="one", defective="one")
    assert "006.png has two roles" in said(good="one", validation="one")
    assert "holds 1 good image of folder:" in said(good="one", defective="good/ng")
    assert "holds 1 good image of folder:one, but it takes 2, to train and to test" in said(good="one")
    assert "Masks belong to defective images" in said(good="one", masks="bad")


@pytest.mark.parametrize("role", ["good", "defective", "masks", "test_good", "validation"])
@pytest.mark.parametrize("nothing", ["", Path(""), [], [""]])
def test_a_role_of_no_folder_is_refused(tmp_path, role, nothing, monkeypatch):
    images(tmp_path, ".", 1, 2)
    images(tmp_path, "bad", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="names no folder"):
        folder_dataset(**{"good": tmp_path, "defective": "bad", role: nothing})


@pytest.mark.parametrize("part", ["test", "Test", "val", "validation", "train", "testing set", "val_2", "a/test"])
def test_a_split_inside_a_role_is_refused(tmp_path, part):
    images(tmp_path, f"good/{part}", 1, 2, 3)
    images(tmp_path, "other", 4, 5, 6)
    for roles in ({"good": "good"}, {"good": "other", "defective": "good"}, {"good": "other", "validation": "good"}):
        with pytest.raises(DataError, match="is inside .*means another role"):
            folder_dataset(**{role: tmp_path / place for role, place in roles.items()})
    assert len(folder_dataset(good=tmp_path / "good" / part, test_good=tmp_path / "other").train) == 3


@pytest.mark.parametrize("linked", ["bad/3.png", "bad"])
def test_one_file_in_two_roles_through_a_link_is_refused(tmp_path, linked):
    images(tmp_path, "good", 1, 2, 3)
    (tmp_path / linked).parent.mkdir(exist_ok=True)
    (tmp_path / linked).symlink_to(tmp_path / ("good/003.png" if linked != "bad" else "good"))
    with pytest.raises(DataError, match=r"good/00\d\.png has two roles"):
        folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad")


def test_what_has_two_roles_is_named_once(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "test/hole", 3)
    (tmp_path / "test/hole2").symlink_to(tmp_path / "test/hole")
    with pytest.raises(DataError, match=r"001\.png has two roles: it is listed twice\. Move"):
        folder_dataset(good=tmp_path / "good", validation=tmp_path / "good")
    with pytest.raises(DataError, match=r"003\.png has two roles: .*hole/003\.png and to .*hole2/003\.png, a link to"):
        folder_dataset(good=tmp_path / "good", defective=[tmp_path / "test/hole", tmp_path / "test/hole2"])


def test_a_mask_of_two_images_is_refused(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "bad/a", 7)
    images(tmp_path, "bad/b", 7)
    masks(tmp_path, "masks", 7)
    with pytest.raises(DataError, match=r"007_mask.png has two roles.*bad/a/007\.png.*bad/b/007\.png"):
        folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad", masks=tmp_path / "masks")


def test_two_images_of_one_name_are_refused(tmp_path):
    images(tmp_path, "good", 1, 2)
    masks(tmp_path, "good", 1, form="001.jpg")
    with pytest.raises(DataError, match=r"001 has two roles.*001\.jpg.*001\.png.*Move masks to a folder of their own"):
        folder_dataset(good=tmp_path / "good")


@pytest.mark.parametrize("mask", ["001_mask.png", "001_masks.png", "001_label.bmp", "001_labels.png", "001-GT.png",
                                  "001.seg.png", "001_annotation.tif", "mask_001.png", "001_mask_0.png"])
def test_label_files_among_good_images_are_left_out(tmp_path, mask):
    images(tmp_path, "good", 1, 2)
    masks(tmp_path, "good", 1, form=mask)
    with pytest.warns(UserWarning, match=rf"left out: 1 label file in good, beside their images: {mask}"):
        data = folder_dataset(good=tmp_path / "good", size=32)
    assert sorted(levels(data.train) + levels(data.test)) == [1, 2]


def test_an_image_whose_name_ends_like_a_mask_is_an_image(tmp_path):
    images(tmp_path, "good", 1, 2)
    paint(tmp_path / "good/gas_mask.png", 3)
    paint(tmp_path / "good/label_2.png", 4)
    data = folder_dataset(good=tmp_path / "good", size=32)
    assert sorted(levels(data.train) + levels(data.test)) == [1, 2, 3, 4] and "left out" not in str(data.notes)


def test_a_defective_image_without_its_mask_is_unknown(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "bad", 3, 4)
    masks(tmp_path, "masks", 3, 9, rows=2)
    with pytest.warns(UserWarning, match=r"left out: 1 mask in masks without a defective image: 009_mask\.png"):
        data = folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad", masks=tmp_path / "masks",
                              size=(20, 30))
    assert data.test.has_masks and truth(data.test)[:2] == [(3, "bad", 2), (4, "bad", 0)]
    assert [bool(item.unknown.all()) for item in data.test] == [False, True, False]


@pytest.mark.parametrize("first, second", [("003.png", "003_mask.png"), ("003_GT.png", "003_mask.bmp"),
                                           ("003/0.png", "003_mask.png"), ("bad/003.png", "bad/003_gt.png")])
def test_two_masks_for_an_image_are_named(tmp_path, first, second):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "bad", 3)
    for mask in (first, second):
        paint_mask(tmp_path / "masks" / mask, 3)
    with pytest.raises(DataError) as caught:
        folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad", masks=tmp_path / "masks")
    words = str(caught.value)
    assert f"{tmp_path / 'bad/003.png'} has two masks: " in words
    assert str(tmp_path / "masks" / first.replace("/0.png", "")) in words and str(tmp_path / "masks" / second) in words


def test_masks_as_deep_as_their_images(tmp_path):
    images(tmp_path, "good", 1, 2)
    for batch, rows in (("monday", 2), ("tuesday", 3)):
        images(tmp_path, f"bad/dent/{batch}", 3 if batch == "monday" else 4)
        masks(tmp_path, f"masks/dent/{batch}", 3 if batch == "monday" else 4, rows=rows)
    data = folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad", masks=tmp_path / "masks", size=(20, 30))
    assert truth(data.test)[:2] == [(3, "dent", 2), (4, "dent", 3)] and "left out" not in str(data.notes)


def test_masks_inside_the_defective_folder(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "bad", 3)
    masks(tmp_path, "bad/masks", 3, rows=7)
    data = folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad", masks=tmp_path / "bad/masks",
                          size=(20, 30))
    assert truth(data.test)[0] == (3, "bad", 7) and len(data.test) == 2
    with pytest.raises(DataError, match="masks is inside"):
        folder_dataset(good=tmp_path / "good", defective=tmp_path / "bad")


def test_a_link_upward_ends(tmp_path):
    images(tmp_path, "good", 1, 2)
    images(tmp_path, "elsewhere/more", 3)
    (tmp_path / "good/again").symlink_to(tmp_path / "good", target_is_directory=True)
    (tmp_path / "good/more").symlink_to(tmp_path / "elsewhere/more", target_is_directory=True)
    data = folder_dataset(good=tmp_path / "good", size=32)
    assert sorted(levels(data.train) + levels(data.test)) == [1, 2, 3]
