"""`rdlib check`: what it finds in a folder that was spoiled in many ways, and in clean data; its text and its page."""
import base64
import contextlib
import io
import re
import shutil

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from rdlib import load_dataset
from rdlib.cli import main
from rdlib.datasets import ArraySample
from rdlib.datasets.check import check, outliers
from rdlib.deploy.page import write_check
from rdlib.deploy.train import expected

KIND = "划痕 $x_1$ & <b>"
SCRIPT = "<script>alert(1)<script> é.png"


def surface(seed, height=64, width=64):
    """A brushed surface: gray, uint8."""
    rng = np.random.default_rng(seed)
    lines = np.repeat(rng.integers(100, 150, (height, 1)), width, axis=1)
    return (lines + rng.integers(0, 30, (height, width))).astype(np.uint8)


def save(pixels, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def clean(folder, n=12, height=64, width=64):
    """A folder in MVTec AD's layout: good images, and one defect type with masks."""
    for i in range(n):
        save(surface(i, height, width), folder / f"train/good/{i:03d}.png")
    for i in range(3):
        save(surface(100 + i, height, width), folder / f"test/good/{i:03d}.png")
        defective(folder, "dent", f"{i:03d}.png", 200 + i, height, width)
    return folder


def defective(folder, kind, name, seed, height=64, width=64, box=(20, 30, 20, 40)):
    pixels, mask = surface(seed, height, width), np.zeros((height, width), np.uint8)
    top, bottom, left, right = box
    pixels[top:bottom, left:right] = 20
    mask[top:bottom, left:right] = 255
    save(pixels, folder / f"test/{kind}/{name}")
    save(mask, folder / f"ground_truth/{kind}/{name[:-4]}_mask.png")


def spoil(folder, height=96, width=240):
    """A folder of long images that is spoiled in eleven ways; each line is one, or its second half."""
    clean(folder, 20, height, width)
    for i in range(2):  # 12 bits in 16
        save(surface(300 + i, height, width).astype(np.uint16) * 16, folder / f"train/good/deep{i}.png")
    shutil.copy(folder / "train/good/003.png", folder / "test/good/same.png")
    save(np.zeros((height, width), np.uint8), folder / "train/good/005_mask.png")
    save(surface(400, height, width), folder / "test/.ipynb_checkpoints/000-checkpoint.png")
    (folder / "test/good/torn.png").write_bytes((folder / "test/good/000.png").read_bytes()[:300])
    for i in range(6):
        defective(folder, "inverted", f"{i:03d}.png", 500 + i, height, width)
    defective(folder, KIND, SCRIPT, 800, height, width)
    for path in folder.glob("ground_truth/*/*.png"):
        save(255 - np.asarray(Image.open(path)), path)
    (folder / "ground_truth/dent/001_mask.png").unlink()
    defective(folder, "pinhole", "000.png", 600, height, width, (31, 32, 51, 52))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(surface(700, width, height), folder / "train/good/turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """What `rdlib check` prints of the spoiled folder, what it writes beside that, and its page."""
    root = tmp_path_factory.mktemp("spoiled")
    spoil(root / "images")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["check", str(root / "images"), "--size", "64", "--page", str(root / "page.html")])
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.name != "page.html"}
    assert {**after, root: 0} == {**before, root: 0}, "nothing is changed or removed"
    return status, out.getvalue(), err.getvalue(), (root / "page.html").read_text(encoding="utf-8")


def test_what_was_read(spoiled):
    status, out, err, _ = spoiled
    assert status == 0 and err == ""
    for words in ("layout: MVTec AD", "train: 23 good images", "6 inverted", f"1 {KIND}", "5 good", "1 pinhole",
                  "3 dent", "size: 64 x 64 pixels", "size of files: 96 x 240 (39)",
                  "L PNG (36), I;16 PNG deep (2), L JPEG (1)", "depth: white is 4095",
                  "mask values: above 0 is defect", "masks: 10 known"):
        assert words in out, words


@pytest.mark.parametrize("words", [
    r"left out: 1 hidden image in test/\.ipynb_checkpoints",
    r"left out: 1 label file in train/good.*005_mask\.png",
    r"1 test image is equal to training images: test/good/same\.png = train/good/003\.png",
    r"images are 2\.5 times as wide as high, and size 64 x 64 .*\(32, 96\)",
    r"1 of 39 images cannot be read \(test/good/torn\.png\), and training would stop: test/good/torn\.png is not a",
    r"differ in color mode or format: 3 occur, L JPEG of train/good/turned\.jpg most rarely \(1\)",
    r"1 of 11 defective images without a mask \(test/dent/001\.png\): their pixels are unknown",
    r"9 of 11 defective images with a mask that covers more than half of the image .*Invert the masks",
    r"1 of 11 defective images that lose defects at 64 x 64 pixels \(test/pinhole/000\.png\): 1 of \d+ outlined",
    r"About \d+ min|Less than a minute for \d+ epochs and 39 images to score\. Memory: about \d+\.\d GiB",
])
def test_what_looks_wrong_has_numbers_and_names(words, spoiled):
    assert re.search(words, spoiled[1]), spoiled[1]


def test_the_page_says_the_same_beside_images_and_needs_no_other_file(spoiled):
    _, out, _, text = spoiled
    page = BeautifulSoup(text, "html.parser")
    assert page.select("script, link, iframe, b") == [] and not re.search(r"(src|href)=.?https?:", text)
    for number, item in enumerate(page.select(".warnings li"), 1):
        assert f"warning {number}: {item.get_text()}" in out
    assert "min-width" in page.style.string and page.select_one("meta[name=viewport]")
    names = [image["alt"] for image in page.select("img")]
    assert f"test/{KIND}/{SCRIPT}" in names and not any("torn" in name for name in names)
    assert [h3.get_text() for h3 in page.select("h3")][:3] == ["train: good, 23 images", "test: dent, 3 images",
                                                               "test: good, 5 images"]
    assert [image["alt"] for image in page.select(".pair img")] == ["train/good/003.png", "test/good/same.png"]


def drawn(page, name):
    """The image of this name on a page, gray."""
    source = page.select_one(f'h3 ~ .row img[alt="{name}"]')["src"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("L"))


def test_nothing_looks_wrong_in_clean_data(tmp_path):
    data = load_dataset(f"folder:{clean(tmp_path)}", size=64)
    found = check(data)
    assert list(found.wrong) == [] and list(found.twins) == [] and "warning" not in repr(found)
    assert found.facts["masks"].startswith("3 known; they cover 4.9 % of an image")  # 10 x 20 pixels of 64 x 64
    assert list(found.unusual) == [] and "look at" not in repr(found) and "near-duplicates" not in found.facts
    write_check(tmp_path / "page.html", data, found, "soon")
    page = BeautifulSoup((tmp_path / "page.html").read_text(encoding="utf-8"), "html.parser")
    assert "Nothing looks wrong." in page.get_text() and "soon" in page.get_text()
    assert drawn(page, "test/good/000.png").max() < 220, "no outline"
    rows, columns = np.nonzero(drawn(page, "test/dent/000.png") > 220)
    assert np.allclose([rows.min(), rows.max()], [20 * 240 / 64, 30 * 240 / 64], atol=5), "white around the mask"
    assert np.allclose([columns.min(), columns.max()], [20 * 240 / 64, 40 * 240 / 64], atol=5)


def test_nearly_black_images_are_counted(tmp_path):
    clean(tmp_path)
    for i, top in enumerate((15, 16)):  # a sixteenth of 255 is 15.9
        save(np.full((64, 64), top, np.uint8), tmp_path / f"train/good/dark{i}.png")
    wrong = " ".join(check(load_dataset(f"folder:{tmp_path}", size=64)).wrong)
    assert "1 of 20 images are nearly black" in wrong and "such as train/good/dark0.png" in wrong


def test_images_of_several_sizes_are_named(tmp_path):
    clean(tmp_path)
    save(surface(50, 64, 80), tmp_path / "train/good/wide.png")
    found = check(load_dataset(f"folder:{tmp_path}", size=64))
    (wrong,) = found.wrong
    assert "differ in size: 2 occur, 64 x 80 of train/good/wide.png most rarely (1)" in wrong
    assert found.facts["size of files"] == "64 x 64 (18), 64 x 80 (1)"


def test_sizes_that_are_all_different_are_a_fact(tmp_path):
    clean(tmp_path)
    for i, path in enumerate(sorted(tmp_path.glob("t*/good/*.png"))):
        save(surface(i, 64 + i, 70 - i), path)
    found = check(load_dataset(f"folder:{tmp_path}", size=64))
    assert list(found.wrong) == [] and found.facts["size of files"] == (
        "16 sizes, 64 to 78 pixels high and 56 to 70 wide")


def test_masks_that_do_not_fit_are_no_unreadable_images(tmp_path):
    clean(tmp_path)
    for i in range(2):
        save(np.eye(32, dtype=np.uint8) * 255, tmp_path / f"ground_truth/dent/00{i}_mask.png")
    (wrong,) = check(load_dataset(f"folder:{tmp_path}", size=64)).wrong
    assert wrong.startswith("2 of 3 defective images have an unreadable mask or one of another size "
                            "(test/dent/000.png, test/dent/001.png), and training would stop: The mask "
                            "ground_truth/dent/000_mask.png is 32 x 32 pixels but its image test/dent/000.png is 64")
    assert str(tmp_path) not in wrong


def test_masks_turned_by_exif_are_told_once(tmp_path):
    clean(tmp_path, height=64, width=96)
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted(tmp_path.glob("test/dent/*.png")):
        Image.open(path).save(path, exif=exif)
    found = check(load_dataset(f"folder:{tmp_path}", size=64))
    (wrong,) = [words for words in found.wrong if "3 of 3" in words]
    assert "EXIF" in wrong and wrong.endswith("Their sizes differ, and training would stop")


def test_floats_among_integers_are_a_finding_with_a_count(tmp_path):
    clean(tmp_path)
    for i in range(2):
        save(surface(i).astype(np.uint16) * 16, tmp_path / f"train/good/deep{i}.png")
    save(surface(5).astype(np.float32) / 255, tmp_path / "train/good/float.tif")
    words = str(check(load_dataset(f"folder:{tmp_path}", size=64)).wrong)
    assert "3 of 21 images cannot be read (train/good/deep0.png, train/good/deep1.png, ...)" in words
    assert "train/good/float.tif holds floats, but" in words and str(tmp_path) not in words


def test_near_duplicates_are_paired_across_the_split_only(tmp_path):
    clean(tmp_path)
    for number, copied in ((4, "test/good/again.png"), (5, "train/good/twice.png")):
        pixels = surface(number)
        pixels[0, 0] += 1  # not equal
        save(pixels, tmp_path / copied)
    found = check(load_dataset(f"folder:{tmp_path}", size=64))
    assert [(one.name, two.name) for one, two in found.twins] == [("train/good/004.png", "test/good/again.png")]
    assert ("but look like training images, such as test/good/again.png like the training image train/good/004.png."
            in str(found.wrong))
    assert "1 of 20 images are for testing" in str(found.wrong)
    assert found.facts["near-duplicates"] == "2 of 13 training images are near-duplicates of others, in 1 group"


def test_a_test_image_equal_to_a_training_image_is_told_once(tmp_path):
    clean(tmp_path)
    (tmp_path / "test/good/same.png").write_bytes((tmp_path / "train/good/003.png").read_bytes())
    found = check(load_dataset(f"folder:{tmp_path}", size=64))
    assert [words for words in found.wrong if "same.png" in words] == [
        "1 test image is equal to training images: test/good/same.png = train/good/003.png. Keep copies on one side: "
        "results on them are too good"]
    assert [(one.name, two.name) for one, two in found.twins] == [("train/good/003.png", "test/good/same.png")]


def test_a_defective_image_among_the_good_ones_is_shown(tmp_path):
    clean(tmp_path, 20)
    pixels = surface(60)
    pixels[30:36, 20:50] = 20
    save(pixels, tmp_path / "train/good/scratched.png")
    data = load_dataset(f"folder:{tmp_path}", size=64)
    (sample, times), = (found := check(data)).unusual
    assert sample.name == "train/good/scratched.png" and 1.3 < times < 2
    assert f"look at: {sample.name} ({times:.2g} times the usual distance): far from the other" in repr(found)
    assert len(data.train) == 21, "it is not removed"


def test_the_unusual_image_is_found_among_images_in_memory():
    samples = [ArraySample(surface(i), str(i)) for i in range(30)]
    odd = surface(17)
    odd[20:40, 30] = odd[30, 20:40] = 250
    samples[17] = ArraySample(odd, "cross")
    (found, times), = outliers(samples)
    assert found == 17 and times > 1.2
    assert outliers([ArraySample(surface(1), str(i)) for i in range(12)]) == [], "all alike"


def test_few_images_are_not_called_unusual(tmp_path):
    assert list(check(load_dataset(f"folder:{clean(tmp_path, 9)}", size=64)).unusual) == []


def test_a_large_set_is_compared_in_part_and_says_so(tmp_path, monkeypatch):
    data = load_dataset(f"folder:{clean(tmp_path, 25)}", size=64)
    monkeypatch.setitem(check.__globals__, "MOST", 10)
    monkeypatch.setitem(check.__globals__, "COMPARED", 30)
    found = check(data)
    assert found.facts["compared"] == ("10 of 25 training images, to find unusual ones; 0 of 31 images, to find "
                                       "near-duplicates")
    seen = []
    monkeypatch.setitem(check.__globals__, "outliers", lambda samples: seen.extend(samples) or [])
    check(data)
    assert seen == [data.train.samples[i] for i in (0, 3, 5, 8, 11, 13, 16, 19, 21, 24)], "spread evenly"


def test_a_data_set_without_files_is_checked_as_well():
    data = load_dataset("synthetic/weave", size=64, n_train=12)
    data.test.samples = data.test.samples[::20]
    found = check(data)
    assert "size of files" in found.facts and found.facts["masks"].split()[0] == str(sum(data.test.labels))


def test_the_estimate_is_that_of_the_size_and_of_the_epochs(tmp_path):
    data = load_dataset(f"folder:{clean(tmp_path)}", size=32)
    words = expected(data, epochs=7, batch_size=4)
    assert "for 7 epochs and 18 images to score" in words and "32 x 32 pixels" in words and "GiB free" in words
    minutes = [re.search("About (\\d+) min", expected(data, epochs=epochs))[1] for epochs in (20_000, 60_000)]
    assert 1.5 < int(minutes[1]) / int(minutes[0]) < 6


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Images of 1 : 2.5 of 12 bits, with a pinhole."""
    folder = clean(tmp_path_factory.mktemp("long"), 12, 64, 160)
    for path in [*folder.glob("t*/*/*.png")]:
        save(np.asarray(Image.open(path)).astype(np.uint16) * 16, path)
    defective(folder, "pinhole", "000.png", 600, 64, 160, (31, 32, 51, 52))
    return folder


def printed(capsys, *arguments):
    """What `rdlib check` prints, with an estimate that is not measured."""
    assert main(["check", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("rdlib.deploy.train.expected", lambda data, *settings: f"{settings}")


def test_without_a_size_the_shape_is_kept_and_it_says_so(long, quick, capsys):
    out = printed(capsys, long)
    assert out.count("160 x 416 pixels, to fit the images' shape") == 1 and "squeezes" not in out
    assert "white is 4095" in out and "(None, 16, 'resnet18')" in out


def test_the_options_of_the_reading_are_passed_on(long, quick, capsys):
    out = printed(capsys, long, "--size", "32x96", "--white", "65535", "--mask-threshold", "100", "--keep-defects",
                  "--epochs", "3", "--batch-size", "2", "--backbone", "resnet34")
    assert "size: 32 x 96 pixels" in out and "white is 65535" in out and "above 100 is defect" in out
    assert "lose defects" not in out and "(3, 2, 'resnet34')" in out
    assert "1 of 4 defective images that lose defects at 32 x 96 pixels" in printed(capsys, long, "--size", "32x96")


def test_folders_by_role_and_data_sets_by_name_are_checked(long, quick, capsys, monkeypatch):
    out = printed(capsys, "--good", long / "train/good", "--defective", long / "test/dent", "--size", "64")
    assert "layout: folders by role" in out and "3 dent" in out and "3 of 3" not in out
    monkeypatch.setenv("RDLIB_DATA", str(long.parent))
    (long.parent / "mvtec").mkdir()
    (long.parent / "mvtec/bottle").symlink_to(long)
    assert "name: mvtec/bottle" in printed(capsys, "mvtec/bottle", "--size", "64")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "holds no images" in captured.err


def test_what_is_known_is_said_beside_masks_that_are_unclear(tmp_path, capsys):
    clean(tmp_path)
    for i, path in enumerate(sorted((tmp_path / "ground_truth/dent").iterdir())):
        save(np.random.default_rng(i).integers(0, 200, (64, 64)).astype(np.uint8), path)
    assert main(["check", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "layout: MVTec AD\ntrain: 12 good images\ntest: 6 images (3 dent, 3 good)" in captured.out
    assert "no clear meaning" in captured.err and "mask_threshold" in captured.err


@pytest.mark.parametrize("command", [["check"], ["train", "-o", "m.safetensors"]])
def test_a_mistyped_folder_is_named_first(command, capsys):
    assert main([*command, "nosuch/folder"]) == 1
    assert capsys.readouterr().err.startswith("There is no folder nosuch/folder. There is no data set")
