"""VisA and BTAD as their archives lay them out: the same set from either layout of VisA, masks by value and by name."""
import csv
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from test_datasets import levels, paint, paint_mask

from rdlib import load_dataset
from rdlib.datasets.downloads import CATEGORIES
from rdlib.utils.errors import DataError

# split, label, name, gray level; in no good order, as in the published table
ROWS = [("train", "normal", "0007.JPG", 70), ("test", "anomaly", "001.JPG", 20), ("train", "normal", "0002.JPG", 30),
        ("test", "normal", "0001.JPG", 50), ("test", "anomaly", "000.JPG", 10), ("train", "normal", "0003.JPG", 40)]
KINDS = np.zeros((20, 30), np.uint8)  # a mask: two kinds of defect, by number
KINDS[:4, :5], KINDS[10:, 20:] = 1, 5


@pytest.fixture
def visa(tmp_path):
    """Two layouts of one small category: as published in tmp_path/published, MVTec-like in tmp_path/mvtec_like."""
    published, like = tmp_path / "published", tmp_path / "mvtec_like"
    table = [("object", "split", "label", "image", "mask"), ("pcb1", "test", "normal", "pcb1/Data/gone.JPG", "")]
    for split, label, name, level in ROWS:
        image, mask = f"candle/Data/Images/{'Normal' if label == 'normal' else 'Anomaly'}/{name}", ""
        paint(published / image, level)
        folder = like / "candle" / split / ("good" if label == "normal" else "bad")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(published / image, folder)
        if label == "anomaly":
            mask = f"candle/Data/Masks/Anomaly/{name[:3]}.png"
            binary = 255 * (KINDS > 0).astype(np.uint8)  # as the authors' script has it; some copies keep the numbers
            for path, values in ((published / mask, KINDS), (like / f"candle/ground_truth/bad/{name[:3]}.png",
                                                             binary if name == "000.JPG" else KINDS)):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
        table.append(("candle", split, label, image, mask))
    (published / "split_csv").mkdir()
    with (published / "split_csv" / "1cls.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return published


@pytest.mark.parametrize("layout", ["published", "mvtec_like"])
def test_visa(visa, layout):
    data = load_dataset("visa/candle", visa.parent / layout, size=(20, 30))
    assert data.name == "visa/candle" and data.normalize and data.test.has_masks
    assert levels(data.train) == [30, 40, 70] and data.train.labels == [0, 0, 0]
    assert levels(data.test) == [10, 20, 50] and data.test.labels == [1, 1, 0]
    assert data.test.defect_types == ["bad", "bad", "good"]
    for item in data.test:
        assert torch.equal(item.mask, torch.from_numpy((KINDS > 0) & bool(item.label)))


def test_visas_layouts_give_identical_sets(visa):
    one, other = (load_dataset("visa/candle", visa.parent / layout, size=16) for layout in ("published", "mvtec_like"))
    for ours, theirs in ((one.train, other.train), (one.test, other.test)):
        assert ours.defect_types == theirs.defect_types and len(ours) == len(theirs) == 3
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) and a.label == b.label


def test_visa_that_is_incomplete(visa):
    def said(root=visa):
        with pytest.raises(DataError) as caught:
            load_dataset("visa/candle", root)
        return str(caught.value)

    table = visa / "split_csv" / "1cls.csv"
    content = table.read_text(encoding="utf-8")
    (visa / "candle/Data/Masks/Anomaly/001.png").unlink()
    assert "1cls.csv, line 4: " in said() and "Masks/Anomaly/001.png is no file in" in said()
    (visa / "candle/Data/Images/Normal/0007.JPG").unlink()
    assert "1cls.csv, line 3: " in said() and "Images/Normal/0007.JPG is no file in" in said()
    for damaged in (content.replace("object", "thing"), content.replace("candle,", "bottle,")):
        table.write_text(damaged, encoding="utf-8")
        assert "holds 0 good images of visa/candle" in said()
    table.unlink()
    assert f"no {table}" in said()
    words = said(visa / "elsewhere")
    assert str(visa / "elsewhere/split_csv") in words and "1,930 MB" in words and "CC BY 4.0" in words
    assert "VisA_20220922.tar" in words and 'load_dataset("synthetic/weave")' in words and len(words.splitlines()) == 5


IMAGE, MASK = b"candle/Data/Images/Anomaly/001.JPG", b"candle/Data/Masks/Anomaly/001.png"  # of line 4


@pytest.mark.parametrize("old, new, words", [
    (b"Anomaly/001.JPG", b"Anomaly/\xff01.JPG", r"line 4: .*Anomaly/\\xff01.JPG is no file in"),
    (b"$", b"candle,train,normal," + b"x" * 200_000, "line 9: field larger than field limit"),
    (IMAGE, b"../outside.JPG", "line 4: .*/../outside.JPG is no file in"),
    (MASK, b"../outside.JPG", "line 4: .*/../outside.JPG is no file in"),
    (IMAGE, b"/etc/hostname", "line 4: /etc/hostname is no file in"),
    (IMAGE, b"link.JPG", "line 4: .*/link.JPG is no file in"),
    (b"candle,train", b"candle,trian", "line 3: There is no split 'trian'"),
    (b"candle,test,anomaly", b"candle,test,Anomaly", "line 4: There is no label 'Anomaly'"),
    (b"label", b"class", "line 3: 'label'"), (IMAGE, b"a\0b", "line 4: "),
    (b"$", b"candle,train", "line 9: There is no label ''")])
def test_visas_table_is_checked(visa, old, new, words):
    """Nothing outside the root is read, and every fault is named with its line."""
    table = visa / "split_csv" / "1cls.csv"
    paint(visa.parent / "outside.JPG", 5)
    (visa / "link.JPG").symlink_to(visa.parent / "outside.JPG")
    content = table.read_bytes()
    table.write_bytes(content + new if old == b"$" else content.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"(?s)1cls\.csv, {words}.*Unpack the archive again"):
        load_dataset("visa/candle", visa, size=32)


def test_visas_rows_of_anomalies(visa):
    """One to train on is refused with its line; one without a mask is unknown."""
    table = visa / "split_csv" / "1cls.csv"
    content = table.read_bytes()
    table.write_bytes(content.replace(b"," + MASK, b","))
    with pytest.warns(UserWarning, match=r"1 of 2 defective images without a mask \(candle/.*/001\.JPG\): their"):
        test = load_dataset("visa/candle", visa, size=32).test
    assert [bool(item.unknown.all()) for item in test] == [False, True, False]
    table.write_bytes(content.replace(b"candle,test,anomaly", b"candle,train,anomaly", 1))
    with pytest.raises(DataError, match=r"1cls\.csv, line 4: .*Anomaly/001\.JPG is an anomaly in train, but only n"):
        load_dataset("visa/candle", visa, size=32)


@pytest.mark.parametrize("old, new, words", [
    (b"$", b"candle,test,anomaly," + IMAGE + b"," + MASK, "Anomaly/001.JPG has two roles"),
    (b"$", b"candle,test,normal,candle/Data/Images/Normal/0003.JPG,", "Normal/0003.JPG has two roles"),
    (MASK, IMAGE, "Anomaly/001.JPG has two roles")])
def test_a_file_that_stands_twice_in_visas_table_is_refused(visa, old, new, words):
    table = visa / "split_csv" / "1cls.csv"
    content = table.read_bytes()
    table.write_bytes(content + new if old == b"$" else content.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        load_dataset("visa/candle", visa, size=32)


@pytest.fixture
def btad(tmp_path):
    """BTAD's three categories, as its archive has them: bmp and png, masks of either kind by the image's name."""
    for category, images, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        folder = tmp_path / "btad" / "BTech_Dataset_transformed" / category
        for part, level in (("train/ok/0001", 1), ("train/ok/0000", 0), ("test/ok/0000", 30), ("test/ko/0001", 21),
                            ("test/ko/0000", 20)):
            paint(folder / f"{part}.{images}", level)
        for i in range(2):
            paint_mask(folder / f"ground_truth/ko/{i:04d}.{masks}", 3 + i)
    return tmp_path / "btad"


@pytest.mark.parametrize("category", CATEGORIES["btad"])
def test_btad(btad, category, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(btad.parent))
    for root in (btad, btad / "BTech_Dataset_transformed", None):
        data = load_dataset(f"btad/{category}", root, size=(20, 30))
        assert data.name == f"btad/{category}" and data.normalize
        assert levels(data.train) == [0, 1] and data.train.defect_types == ["good", "good"]
        assert levels(data.test) == [20, 21, 30] and data.test.defect_types == ["ko", "ko", "good"]
        assert data.test.labels == [1, 1, 0] and [int(item.mask.sum()) for item in data.test] == [90, 120, 0]


def test_btad_that_is_not_there(btad):
    shutil.rmtree(btad / "BTech_Dataset_transformed" / "02")
    with pytest.raises(DataError, match=r"(?s)BTAD could not be read from .*02.*CC BY-NC-SA.*synthetic/weave"):
        load_dataset("btad/02", btad)
    shutil.rmtree(btad / "BTech_Dataset_transformed" / "03" / "train")
    with pytest.raises(DataError, match="(?s)no folder train/good.*test/ko: 2 .bmp.*--test-good"):
        load_dataset("btad/03", btad)


@pytest.mark.parametrize("name", ["visa/", "visa", "visa/bottle", "btad/1", "btad", "btad/04", "visa/../candle"])
def test_unknown_categories_are_answered_with_those_there_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RDLIB_DATA", str(tmp_path))
    names = CATEGORIES["visa"] if name.startswith("visa") else CATEGORIES["btad"]
    with pytest.raises(ValueError, match=re.escape(", ".join(names))):
        load_dataset(name)
    assert not list(tmp_path.iterdir())  # nothing was fetched for it
